"""Checkpoints that are recognised and not read: what they are, and the way in where there is one."""

from __future__ import annotations

from basis.errors import shown
from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.importers.plan import Source

SELECTIVE_SCAN = "Mamba-1, whose decay differs in every channel and state, so that it is no matrix recurrence"
LIGHTNING = "linear attention with a fixed decay a head and its own norms"
MODELS: dict[str, str] = {
    "mamba": SELECTIVE_SCAN,
    "falcon_mamba": SELECTIVE_SCAN,
    "jamba": f"layers of {SELECTIVE_SCAN}",
    "zamba": f"layers of {SELECTIVE_SCAN}; and attention whose weights several layers share",
    "zamba2": "attention whose weights several layers share, each with its own low-rank change",
    "falcon_h1": "attention and Mamba-2 side by side in every layer",
    "nemotron_h": "layers that are a mixer or an MLP, and MLPs with a squared ReLU",
    "minimax": LIGHTNING,
    "bailing_hybrid": LIGHTNING,
    "lfm2": "gated short convolutions in place of a recurrence",
    "lfm2_moe": "gated short convolutions in place of a recurrence",
    "recurrent_gemma": "gated linear recurrent units, whose state is a vector",
    "rwkv": "RWKV's token shift and time mixing",
    "xlstm": "xLSTM's exponential gates and normaliser",
}
"""Models of transformers with a recurrent part, and what of it no layer here has."""
LAYOUTS: dict[str, tuple[tuple[str, ...], str]] = {
    "Megatron-core": (
        ("embedding.word_embeddings.weight", "decoder.layers.0."),
        "export it to a folder of transformers where Megatron Bridge can (Qwen3-Next, Qwen3.5), and import that",
    ),
    "OLMo-core": (
        ("embeddings.weight", "blocks.0."),
        "where OLMo-core's script (convert_checkpoint_to_hf_hybrid.py) makes an OLMo Hybrid of it, import that folder",
    ),
}
"""Layouts of trainers: beginnings of two names that both occur, and the way in."""
SHARDS = ".distcp"
SHARD_FOLDERS = ("model_and_optim", "iter_*", "dist_ckpt", "weights")


def refuse_unread(source: Source) -> None:
    """Refuse a model whose layers are not here, and a sharded checkpoint, in which no file holds a whole tensor.

    Tensors are not looked at.

    Raises:
        CheckpointError: with what of the model is not here, or with the command that makes one file of the shards.
    """
    if source.model_type in MODELS:
        raise CheckpointError(
            f"{source.path}: model_type {shown(source.model_type)} is not read: it has {MODELS[source.model_type]}, "
            "which no layer here computes"
        )
    if not source.path.is_dir():
        return
    inside = [folder for pattern in SHARD_FOLDERS for folder in sorted(source.path.glob(pattern))]
    for folder in [source.path, *inside]:
        if folder.is_dir() and any(file.suffix == SHARDS for file in folder.iterdir()):
            raise CheckpointError(
                f"{folder}: is a sharded checkpoint of torch.distributed (*{SHARDS}); make one file of it with "
                f"`python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt`, and give that"
            )


def trainers_layout(source: Source) -> str | None:
    """Say of which trainer a source's names of tensors are, why they are not read and what to do; None if of none."""
    for layout, (beginnings, way) in LAYOUTS.items():
        if all(any(name.startswith(beginning) for name in source.tensors) for beginning in beginnings):
            return f"its tensors are named as in {layout}, whose layout changes between versions: {way}"
    return None
