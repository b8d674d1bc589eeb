"""The loss's kernel against autograd in float64, and the objective by it: on a GPU natively, else interpreted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import small_config, small_model
from torch.nn.functional import cross_entropy

from gdn2.ops.triton.entropy import BLOCK, cross_entropy_
from gdn2.train import objective
from gdn2.train.objective import MicroBatch, Objective, Term

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("scale", [1.0, 0.25, -2.0])
@pytest.mark.parametrize("vocabulary", [5, 64, BLOCK + 24])
def test_losses_and_the_gradient_in_the_place_of_logits(vocabulary: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = 9 * torch.randn(4, vocabulary, generator=generator, dtype=torch.float64)
    exact[1] += 3000.0
    exact[3, vocabulary - 1] = 500.0
    targets = torch.tensor([0, vocabulary - 1, 3, vocabulary - 1])
    logits = exact.float().to(DEVICE)
    exact = exact.float().double().requires_grad_()
    wanted = cross_entropy(exact * scale, targets, reduction="none")
    (gradient,) = torch.autograd.grad(0.3 * wanted.sum(), exact)
    losses = cross_entropy_(logits, targets.to(DEVICE), scale, 0.3)
    torch.testing.assert_close(losses.double().cpu(), wanted.detach(), atol=1e-3 * abs(scale), rtol=1e-5)
    torch.testing.assert_close(logits.double().cpu(), gradient, atol=1e-4, rtol=1e-3)
    assert float((logits.double().cpu() - gradient).norm() / gradient.norm()) < 1e-4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_objective_is_the_same_by_the_kernel(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = small_model(small_config(vocab_size=60, initializer_range=0.2, logits_scale=0.5, num_hidden_layers=1))
    model = model.to(DEVICE).train()
    ids = torch.randint(60, (2, 9), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    places = torch.arange(16, device=DEVICE)
    terms = [Term(part, ids[:, 1:].flatten()[part], 8) for part in (places[::2], places[1::2])]
    found = []
    for by_kernel in (False, True):
        monkeypatch.setattr(objective, "fuses", lambda *_, answer=by_kernel: answer)
        model.zero_grad(set_to_none=True)
        loss, means = Objective(model, 0.7, precision=precision, loss_rows=5)(MicroBatch(ids[:, :-1], *terms))
        loss.backward()
        gradients = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
        found.append((means.cpu(), torch.cat(gradients)))
    (means, expected), (found_means, ours) = found
    torch.testing.assert_close(found_means, means, atol=0, rtol=1e-6 if precision == "float32" else 1e-2)
    assert float((ours - expected).norm() / expected.norm()) < (1e-5 if precision == "float32" else 2e-2)
