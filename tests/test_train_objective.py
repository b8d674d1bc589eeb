"""The loss that training takes steps by: equal to the plain one, in slices, in parts, in half precision, recomputed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import small_config, small_model
from torch import Tensor
from torch.nn.functional import cross_entropy

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.config import LAYERS
from gdn2.model import GDN2Block
from gdn2.train.objective import MicroBatch, Objective, Term
from gdn2.train.sharing import clip

SIZES: dict[str, dict[str, Any]] = {
    "mla": {"latent_size": 16, "latent_key_dim": 8, "latent_value_dim": 8, "shared_key_dim": 4}
}
EXPERTS: dict[str, Any] = {"mlps": "experts", "num_experts": 3, "experts_per_token": 2, "expert_size": 16}


def batch_of(ids: Tensor, kinds: Tensor, *, text: int | None = None, answer: int | None = None) -> MicroBatch:
    """Rows [B, T + 1] whose targets are text (0), an answer (1) or nothing (2); of a step with so many of each."""
    terms = []
    for kind, total in ((0, text), (1, answer)):
        places = (kinds.flatten() == kind).nonzero()[:, 0]
        terms.append(Term(places, ids[:, 1:].flatten()[places], len(places) if total is None else total))
    return MicroBatch(ids[:, :-1], *terms)


def gradients(objective: Objective, *batches: MicroBatch) -> tuple[list[float], dict[str, Tensor]]:
    """Means, and the gradients of all parameters."""
    objective.model.zero_grad(set_to_none=True)
    sums = torch.zeros(2, dtype=torch.float64)
    for batch in batches:
        loss, means = objective(batch)
        loss.backward()
        sums += means
    found = {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}
    return sums.tolist(), found


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(60, (4, 25), generator=generator), torch.randint(3, (4, 24), generator=generator)


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("tied", [True, False])
def test_slices_of_the_head_give_the_gradient_of_the_whole_loss(
    rows: tuple[Tensor, Tensor], scale: float, tied: bool
) -> None:
    config = small_config(vocab_size=60, tie_word_embeddings=tied, initializer_range=0.2, logits_scale=scale)
    model = small_model(config).train()
    ids, kinds = rows
    logits = model(ids[:, :-1]).logits.flatten(0, 1)
    parts = [
        cross_entropy(logits[kinds.flatten() == kind], ids[:, 1:].flatten()[kinds.flatten() == kind]) for kind in (0, 1)
    ]
    (parts[0] + 0.5 * parts[1]).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    means, found = gradients(Objective(model, 0.5, loss_rows=7), batch_of(ids, kinds))
    assert means == pytest.approx([part.item() for part in parts], rel=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_parts_of_a_step_add_up_to_it_even_one_without_targets(rows: tuple[Tensor, Tensor]) -> None:
    ids, kinds = rows
    kinds[2] = 2
    objective = Objective(small_model(small_config(vocab_size=60, initializer_range=0.2)).train(), 2.0)
    whole = batch_of(ids, kinds)
    means, expected = gradients(objective, whole)
    totals = {"text": whole.text.total, "answer": whole.answer.total}
    parts = [batch_of(ids[i : i + 1], kinds[i : i + 1], **totals) for i in range(4)]
    found_means, found = gradients(objective, *parts)
    assert found_means == pytest.approx(means, rel=1e-6)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)
    assert gradients(objective, parts[2])[1]["lm_head.weight"].count_nonzero() == 0  # processes wait for each other's


@pytest.mark.parametrize("mlp", ["swiglu", "experts"])
@pytest.mark.parametrize("mixer", LAYERS)
def test_every_mixer_trains_in_half_precision(mixer: str, mlp: str) -> None:
    """Activations round to 8 bits; what is summed up along a text does not."""
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_heads": 2,
        "head_dim": 16,
        "intermediate_size": 32,
    }
    more = {**SIZES.get(mixer, {}), **(EXPERTS if mlp == "experts" else {})}
    torch.manual_seed(0)
    config = GDN2Config(vocab_size=60, layers=mixer, attention_heads=2, window_size=8, **sizes, **more)
    model = GDN2ForCausalLM(config).train()
    batch = batch_of(torch.randint(60, (2, 34)), torch.zeros(2, 33))
    (exact, _), expected = gradients(Objective(model), batch)
    (loss, _), found = gradients(Objective(model, precision="bfloat16"), batch)
    assert loss == pytest.approx(exact, rel=1e-3)
    assert loss != exact
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    total = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    error = torch.cat([(found[name] - gradient).flatten() for name, gradient in expected.items()]).norm()
    assert error < 0.02 * total


@pytest.mark.parametrize("mixer", ["gdn2", "kda", "mamba3_mimo", "swa"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocks_that_run_again_give_the_same_bits(mixer: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = small_model(small_config(vocab_size=60, layers=mixer, attention_heads=2)).train()
    batch = batch_of(torch.randint(60, (2, 34)), torch.zeros(2, 33))
    calls: list[int] = []
    forward = GDN2Block.forward

    def counted(*args: Any) -> Any:
        calls.append(1)
        return forward(*args)

    monkeypatch.setattr(GDN2Block, "forward", counted)
    means, expected = gradients(Objective(model, precision=precision), batch)
    once = len(calls)
    model.model.gradient_checkpointing = True
    found_means, found = gradients(Objective(model, precision=precision), batch)
    assert len(calls) == 3 * once
    assert found_means == means
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.parametrize("longest", [1e-3, 0.5, 1.0, 2.0, 1e9])
def test_a_gradient_is_shortened_as_pytorch_does_it(longest: float) -> None:
    """To the bit, also where it is not gone through because it is short enough, and where it just is not."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.nn.Linear(7, 5), torch.nn.Linear(7, 5)
    gradients = [torch.randn(p.shape, generator=generator) for p in ours.parameters()]
    scale = 1 / torch.nn.utils.get_total_norm(gradients)
    for module in (ours, theirs):
        for p, gradient in zip(module.parameters(), gradients, strict=True):
            p.grad = gradient * scale
    assert clip(ours, longest) == float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), longest))
    for p, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None
        assert torch.equal(p.grad, other.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("mixer", ["gdn2", "mamba2", "swa"])
def test_between_blocks_there_is_what_was_asked_for(mixer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(small_config(vocab_size=60, num_hidden_layers=2, layers=mixer, attention_heads=2)).train()
    batch = batch_of(torch.randint(60, (2, 34)), torch.zeros(2, 33))
    seen: list[torch.dtype] = []
    forward = GDN2Block.forward

    def noted(self: GDN2Block, x: Tensor, *more: Any) -> Any:
        y, added, state = forward(self, x, *more)
        seen.extend([x.dtype, (y + added).dtype])
        return y, added, state

    monkeypatch.setattr(GDN2Block, "forward", noted)
    for residual in ("float32", "bfloat16"):
        seen.clear()
        gradients(Objective(model, precision="bfloat16", residual=residual), batch)
        assert seen == [getattr(torch, residual)] * 4
