"""A training step may be captured as a CUDA graph: going forward and back nothing asks the device for a number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fakes import mixer_config
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import gdn2.ops
from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.config import LAYERS
from gdn2.ops.backends import BACKEND_VARIABLE

VARIANTS: dict[str, GDN2Config] = {
    **{name: mixer_config(name) for name in LAYERS},
    "attention convolved": mixer_config("attention", attention_conv=True, attention_qk_norm=True),
    "swa convolved, shorter than the text": mixer_config("swa", attention_conv=True, window_size=3),
    "swa, longer than the text": mixer_config("swa", window_size=64),
}


@pytest.fixture(autouse=True)
def tensors_without_values(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors have shapes only, so that whoever reads a value fails.

    The operator's kernels do not run on them: its specification stands in for them, without the look at the decay's
    sign that only a CPU takes.
    """
    monkeypatch.setenv(BACKEND_VARIABLE, "naive")
    monkeypatch.setattr(gdn2.ops, "check_inputs", lambda *_: None)
    with FakeTensorMode():
        yield


def logits(config: GDN2Config, mask: torch.Tensor | None = None) -> torch.Tensor:
    model = GDN2ForCausalLM(config).train()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        out = model(torch.zeros(2, 5, dtype=torch.long), attention_mask=mask, use_cache=False)
    return out.logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_step_reads_no_value_of_the_device(name: str) -> None:
    logits(VARIANTS[name]).float().logsumexp(-1).sum().backward()


def test_reading_a_value_would_show() -> None:
    with pytest.raises(DataDependentOutputException):
        logits(VARIANTS["attention"], torch.ones(2, 5, dtype=torch.long))
