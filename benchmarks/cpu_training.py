"""A training step on a CPU beside the same by autograd of plain operations, and beside transformers' models.

    python benchmarks/cpu_training.py [--rounds 9] [--threads 1] [--json FILE]

Steps: of `mqar-laptop`'s four models (64 rows of 64 tokens), fresh, and of `gdn2-tiny` as it is shipped, whose decays
are those of a trained model, with the batches of its recipe. "By autograd" is a step as it was before gradients were
written out: the operator, the short convolution, norms and unit length by PyTorch's operations, products by MKL. The
two take turns in one process, which keeps freed memory for both (`gdn2/train/heap.py`), and a ratio is the median of
their turns' ratios. Before that their gradients are compared.

Rivals: models of transformers of random weights (as `benchmarks/imports.py` makes them) and ours that are imported from
them, 2 rows of 256 tokens, forward and backward. Seconds are CPU time a thread, which a busy machine changes less than
the clock on the wall.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
import command_line
import imports

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import load_checkpoint
from gdn2.checkpoints.importers import import_checkpoint
from gdn2.ops import chunked, onednn, small
from gdn2.train.heap import keep_freed_memory
from gdn2.train.objective import MicroBatch, Objective, Term
from gdn2.train.optimizers import weight_groups
from gdn2.train.synthetic.data import RowBatch
from gdn2.train.synthetic.spec import Run, Training
from gdn2.train.synthetic.trainee import Trainee
from harness.records.machine import describe

ROOT = Path(__file__).resolve().parent.parent
LAPTOP: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_heads": 2,
    "head_dim": 16,
    "intermediate_size": 0,
}
LAYERS = {"GDN-2": "gdn2", "KDA": "kda", "Gated DeltaNet": "gated_deltanet", "Mamba-2": "mamba2"}
ROWS, LENGTH, ASKED = 64, 64, 16
TINY = ((16, 128), (16, 256), (8, 512), (4, 1024))
RIVALS = ("Mamba-2", "Qwen3.5", "OLMo Hybrid", "Kimi Linear")
TOLERANCE = 1e-4  # relative L2 of a whole gradient in float32, between two orders of its sums

Step = Callable[[], Any]


@contextmanager
def by_autograd() -> Iterator[None]:
    """Inside, steps run as they did before."""
    with (
        patch.object(onednn, "mkl_is_narrow", lambda: False),
        patch.object(small, "learns_on_cpu", lambda *_: False),
        patch.object(chunked, "learned_gated_delta_rule_2", _operator_by_autograd),
    ):
        yield


def _operator_by_autograd(*inputs: Any) -> tuple[Tensor, Tensor]:
    o, state = chunked._run_segment(*inputs)
    return o.to(inputs[2].dtype), state


def laptop(layers: str) -> tuple[Any, Step]:
    """A model of `mqar-laptop` and its step, on random rows."""
    training = Training(steps=10**6, batch_rows=ROWS)
    run = Run(
        model="", config={**LAPTOP, "layers": layers}, train=(), tests=(), training=training, learning_rate=1e-4, seed=0
    )
    rng = torch.Generator().manual_seed(1)
    sizes = ((256, LENGTH), (LENGTH, ASKED), (256, ASKED))
    rows = RowBatch(*(torch.randint(0, most, (ROWS, count), generator=rng) for most, count in sizes))
    trainee = Trainee(run, [rows])
    return trainee.model, trainee.advance


def tiny(rows: int, length: int) -> tuple[Any, Step]:
    """The shipped `gdn2-tiny` and a step of its recipe, a tenth of the positions being answers."""
    model: Any = GDN2ForCausalLM.from_pretrained(ROOT / "gdn2" / "zoo" / "gdn2-tiny", dtype=torch.float32).train()
    objective = Objective(model)
    optimizer = torch.optim.AdamW(weight_groups(list(model.named_parameters()), 0.1), lr=1e-5, fused=True)
    rng = torch.Generator().manual_seed(1)
    count, known = rows * length, model.config.vocab_size
    ids, targets = (torch.randint(0, known, (count,), generator=rng) for _ in range(2))
    places = torch.randperm(count, generator=rng)
    terms = (Term(at.sort().values, targets[at], len(at)) for at in (places[count // 10 :], places[: count // 10]))
    batch = MicroBatch(ids.view(rows, length), *terms)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(objective(batch)[0])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return model, step


def before_and_now(name: str, model: Any, step: Step, tokens: int, rounds: int) -> dict[str, Any]:
    """A step by autograd and as it is now; exits where their gradients differ."""

    def before() -> None:
        with by_autograd():
            step()

    found = []
    start = {key: value.clone() for key, value in model.state_dict().items()}
    for run in (step, before):
        model.load_state_dict(start)
        run()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    difference = float((found[0] - found[1]).norm() / found[1].norm())
    if not difference <= TOLERANCE:
        sys.exit(f"{name}: gradients differ by {difference:.1e}: nothing was timed")
    return {"name": name, "tokens": tokens, "gradients_differ_by": difference, **timed(step, before, rounds)}


def rival(name: str, rounds: int) -> dict[str, Any]:
    """A model of transformers and ours of the same weights, forward and backward."""
    source = imports.source_model(*imports.KINDS[name])
    with tempfile.TemporaryDirectory(prefix="gdn2-cpu-training-") as folder:
        source.save_pretrained(Path(folder) / "source")
        import_checkpoint(Path(folder) / "source", Path(folder) / "new")
        ours: Any = load_checkpoint(Path(folder) / "new").requires_grad_(True)
    ids = torch.randint(1, imports.VOCABULARY, (2, 256), generator=torch.Generator().manual_seed(3))

    def step_of(model: Any) -> Step:
        def step() -> float:
            model.zero_grad(set_to_none=True)
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            torch.autograd.backward(loss)
            return float(loss.detach())

        return step

    mine, theirs = step_of(ours.train()), step_of(source.train())
    return {"name": name, "tokens": ids.numel(), "losses": [mine(), theirs()], **timed(mine, theirs, rounds)}


def timed(now: Step, other: Step, rounds: int) -> dict[str, float]:
    """Medians in milliseconds, and of the ratios of turns."""
    now(), other()
    turns = []
    for turn in range(rounds):
        if turn % 2:
            turns.append((imports.seconds(now), imports.seconds(other)))
        else:
            later = imports.seconds(other)
            turns.append((imports.seconds(now), later))
    return {
        "ours_ms": round(1000 * statistics.median(mine for mine, _ in turns), 1),
        "other_ms": round(1000 * statistics.median(other for _, other in turns), 1),
        "ratio": round(statistics.median(other / mine for mine, other in turns), 2),
    }


def as_row(found: dict[str, Any]) -> str:
    """A row of the table in Markdown."""
    return f"| {found['name']} | {found['other_ms']:,.0f} | {found['ours_ms']:,.0f} | {found['ratio']:.2f} |"


def main() -> None:
    """Compare, print rows in Markdown, write the JSON."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--rounds", type=command_line.positive, default=9)
    parser.add_argument("--threads", type=command_line.positive, default=1)
    parser.add_argument("--json", type=command_line.new_file)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    keeps = keep_freed_memory()
    said: dict[str, Any] = {
        "machine": asdict(describe()),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "products_by_onednn": onednn.mkl_is_narrow(),
        "keeps_freed_memory": keeps,
        "rounds": args.rounds,
        "steps": [],
        "rivals": [],
    }
    for name, layers in LAYERS.items():
        said["steps"].append(before_and_now(f"mqar-laptop, {name}", *laptop(layers), ROWS * LENGTH, args.rounds))
        print(as_row(said["steps"][-1]), flush=True)
    for rows, length in TINY:
        made = tiny(rows, length)
        said["steps"].append(before_and_now(f"gdn2-tiny, {rows} x {length}", *made, rows * length, args.rounds))
        print(as_row(said["steps"][-1]), flush=True)
    for name in RIVALS:
        said["rivals"].append(rival(name, args.rounds))
        print(as_row(said["rivals"][-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_line.answer(main)
