"""flash-linear-attention's own models against their import, where the package is installed:

    pip install --no-deps flash-linear-attention==0.6.0 fla-core==0.6.0 einops
    pytest tests/test_import_fla_package.py

Without a GPU its kernels run in Triton's interpreter, in float32. Attention is torch's, since it needs flash-attn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from gdn2.checkpoints import load_checkpoint
from gdn2.checkpoints.importers import import_checkpoint

pytest.importorskip("fla", reason="flash-linear-attention is not installed")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = (
    1e-4 if DEVICE == "cpu" else 2e-2
)  # of logits with a standard deviation near 1; on a GPU its products are TF32
TOKENS = 12
COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "initializer_range": 0.15,
    "fuse_norm": False,
    "fuse_cross_entropy": False,
}
SWA = {"layers": [1], "num_heads": 4, "num_kv_heads": 2, "qkv_bias": True, "window_size": 5}
HEADS = {"head_dim": 16, "num_heads": 4}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "GDN-2 layers": ("gdn2", HEADS),
    "GDN-2 layers, grouped values, doubled erase gate": (
        "gdn2",
        {"head_dim": 16, "num_heads": 2, "num_v_heads": 4, "expand_v": 2, "allow_neg_eigval": True},
    ),
    "kda": ("kda", HEADS),
    "kda, grouped values, doubled beta": (
        "kda",
        {"head_dim": 16, "num_heads": 2, "num_v_heads": 4, "allow_neg_eigval": True},
    ),
    "kda, bounded decay": ("kda", {**HEADS, "safe_gate": True, "lower_bound": -5.0}),
    "kda with windows": ("kda", {**HEADS, "attn": SWA}),
    "gated_deltanet": ("gated_deltanet", {"head_dim": 16, "num_heads": 2, "expand_v": 2}),
    "gated_deltanet, grouped values, sigmoid gate": (
        "gated_deltanet",
        {"head_dim": 16, "num_heads": 2, "num_v_heads": 4, "expand_v": 1, "output_gate_activation": "sigmoid"},
    ),
    "gated_deltanet without gate": ("gated_deltanet", {"head_dim": 16, "num_heads": 2, "use_gate": False}),
    "delta_net": ("delta_net", {"num_heads": 4}),
    "delta_net, gated, doubled beta": ("delta_net", {"num_heads": 4, "use_gate": True, "allow_neg_eigval": True}),
    "delta_net, sum norm, elu": ("delta_net", {"num_heads": 4, "qk_norm": "sum", "qk_activation": "elu"}),
    "gla": ("gla", {"num_heads": 4}),
    "gla without gate": ("gla", {"num_heads": 4, "use_output_gate": False}),
    "mamba2": ("mamba2", {"head_dim": 16, "state_size": 16}),
    "mamba2, two groups": ("mamba2", {"head_dim": 16, "state_size": 16, "n_groups": 2, "use_bias": True}),
    "transformer": ("transformer", {"num_heads": 4, "num_kv_heads": 2}),
    "transformer, windows, normalised queries": (
        "transformer",
        {"num_heads": 4, "window_size": 5, "qk_norm": True, "norm_eps": 1e-3},
    ),
}


def flash_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, window_size: tuple[int, int]
) -> torch.Tensor:
    """flash-attn's function by torch's: [B, T, H, d], positions up to window_size[0] tokens back."""
    assert causal
    groups, T = q.shape[2] // k.shape[2], q.shape[1]
    q, k, v = q.transpose(1, 2), *(x.repeat_interleave(groups, dim=2).transpose(1, 2) for x in (k, v))
    back = torch.arange(T)[:, None] - torch.arange(T)
    seen = (back >= 0) & ((back <= window_size[0]) | (window_size[0] < 0))
    return scaled_dot_product_attention(q, k, v, attn_mask=seen.to(q.device)).transpose(1, 2)


@pytest.fixture(autouse=True)
def runs_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU nothing can be timed, so autotuning takes the first choice; and without flash-attn, torch's.

    Its Mamba-2 without mamba_ssm deals heads out to groups in turn, where its kernels and the paper give a group
    consecutive heads; that line is set right.
    """
    import fla.layers.attn
    from triton.runtime.autotuner import Autotuner

    def first_choice(self: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = self.configs[0].all_kwargs().items()
        return self.fn.run(*args, **kwargs, **{name: value for name, value in chosen if name not in kwargs})

    if DEVICE == "cpu":
        monkeypatch.setattr(Autotuner, "run", first_choice)
    monkeypatch.setattr(fla.layers.attn, "flash_attn_func", flash_attention)
    repeat = torch.Tensor.repeat

    def of_groups(x: torch.Tensor, *times: int) -> torch.Tensor:
        in_turn = x.dim() == len(times) == 4 and times[:2] == (1, 1) and times[3] == 1
        return x.repeat_interleave(times[2], dim=2) if in_turn else repeat(x, *times)

    monkeypatch.setattr(torch.Tensor, "repeat", of_groups)


def source_model(kind: str, fields: dict[str, Any]) -> Any:
    """A random model of the package; GDN-2's is its KDA model with the package's GDN-2 layers in it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    mlp = {"intermediate_size": 96, "fuse_swiglu": False} if kind != "mamba2" else {}
    config = AutoConfig.for_model({"gdn2": "kda"}.get(kind, kind), **{**COMMON, **mlp, **fields})
    model = AutoModelForCausalLM.from_config(config).eval()
    if kind == "gdn2":
        from fla.layers.gdn2 import GatedDeltaNet2

        for index, block in enumerate(model.model.layers):
            block.attn = GatedDeltaNet2(hidden_size=64, layer_idx=index, norm_eps=config.norm_eps, **fields).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight", ".D", "norm_swish_gate.weight")):
                parameter.add_(0.2 * torch.randn_like(parameter))
            if name.endswith("A_log"):
                parameter.sub_(3.0)  # slow decay: what is far back counts
    return model.to(DEVICE)


@pytest.mark.parametrize("name", MODELS)
def test_an_import_computes_what_the_package_computes(tmp_path: Path, name: str) -> None:
    kind, fields = MODELS[name]
    source = source_model(kind, fields)
    source.save_pretrained(tmp_path / "source")
    plan = import_checkpoint(tmp_path / "source", tmp_path / "new")
    assert plan.format == f"fla {kind}"
    ids = torch.randint(0, 97, (1, TOKENS), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    with torch.no_grad():
        theirs = source(ids, use_cache=False).logits
        ours = load_checkpoint(tmp_path / "new", device=DEVICE)(ids).logits
    difference = float((ours - theirs).abs().max())
    print(f"{name}: largest difference {difference:.1e} of logits with standard deviation {float(theirs.std()):.2f}")
    assert theirs.std() > 0.5
    assert difference < TOLERANCE
