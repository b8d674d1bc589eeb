"""Reading a checkpoint folder strictly: every tensor fits, none is missing, none is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from basis.errors import shown
from basis.names import listed
from gdn2.checkpoints.errors import CheckpointError, first_line
from gdn2.checkpoints.folders import checkpoint_folder
from gdn2.checkpoints.precision import DTYPES, IMPORT_FILE, choose_dtype
from gdn2.checkpoints.shapes import model_shapes
from gdn2.checkpoints.tensors import STEMS, Stored, Tensors, open_weights, read_json
from gdn2.config import GDN2Config
from gdn2.model import GDN2ForCausalLM

HEAD = "lm_head.weight"
MISFITS = {
    "missing_keys": "lacks tensors that config.json asks for",
    "unexpected_keys": "holds tensors that config.json does not know",
    "mismatched_keys": "holds tensors of another shape than config.json says",
}
SHOWN = 3  # names listed in an error


def load_checkpoint(path: Path, *, dtype: str = "float32", device: str = "cpu") -> GDN2ForCausalLM:
    """Load a Hugging Face folder with `model_type: gdn2` for inference.

    Args:
        path: the folder, or the folder of its repository in a hub cache.
        dtype: "float32", "bfloat16", "float16", "float64" or "auto" (float32 on a CPU, elsewhere what most weights
            are stored in); states are at least float32 whatever it is.
        device: a torch device.

    Raises:
        CheckpointError: a missing or damaged file, an unknown config field, tensors that are missing, unknown, of
            another shape or not finite, an unknown dtype or device.
    """
    path = checkpoint_folder(path)
    dtype = choose_dtype(path, dtype, device)
    config = read_config(path)
    stored = open_weights(path)
    _refuse_misfits(path, _misfits(config, stored, path / "config.json"))
    model = _load_weights(path, config, stored, DTYPES[dtype])
    _refuse_not_finite(path, model)
    try:
        model.to(device)  # type: ignore[arg-type]  # transformers' wrapper hides nn.Module's signature
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"device {device!r} cannot be used: {first_line(error)}") from error
    model.train(False)
    return model


def read_config(path: Path) -> GDN2Config:
    """The configuration of a checkpoint folder; refuses unknown fields and other model types.

    Raises:
        CheckpointError: as said.
    """
    if path.is_dir():
        path = checkpoint_folder(path)
    file = path / "config.json"
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; give a folder with config.json and model.safetensors")
    if not file.is_file():
        raise CheckpointError(f"{path}: no config.json in it; give a folder that save_pretrained wrote")
    fields = read_json(file)
    model_type = fields.get("model_type")
    if model_type != GDN2Config.model_type:
        raise CheckpointError(
            f"{file}: model_type is {shown(model_type)}; this version evaluates {GDN2Config.model_type!r}; "
            "bring others into it with: python run_eval.py import SRC DST"
        )
    try:
        config = GDN2Config(**fields)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: {first_line(error)}") from error
    _refuse_open_gate(fields, config, file)
    _refuse_assumed_sigmoid(path)
    return config


def _refuse_open_gate(fields: Mapping[str, Any], config: GDN2Config, file: Path) -> None:
    """Refuse to guess the gate of GDN-2 where a release has written null that meant sigmoid; today null means SiLU."""
    written_by_that_release = "output_gate" in fields and "mixer_norm_eps" not in fields
    if written_by_that_release and config.output_gate is None and "gdn2" in (config.layers or ()):
        raise CheckpointError(
            f"{file}: output_gate is null, and the release that wrote this folder meant sigmoid; write "
            '"output_gate": "sigmoid" into it (or "silu", if it was imported from a .pth whose model has SiLU)'
        )


def _refuse_assumed_sigmoid(folder: Path) -> None:
    """Refuse an import of the training code's file that took the gate for a sigmoid, as a release once did."""
    file = folder / IMPORT_FILE
    said = read_json(file) if file.is_file() else {}
    assumed = said.get("assumed")
    if said.get("importer") == "official" and isinstance(assumed, dict) and assumed.get("output_gate") == "sigmoid":
        raise CheckpointError(
            f"{file}: assumed.output_gate is sigmoid, but the training code has SiLU; import the file again "
            "(with --set output_gate=sigmoid if that model has one in fact)"
        )


def _load_weights(path: Path, config: GDN2Config, stored: Tensors, dtype: torch.dtype) -> GDN2ForCausalLM:
    from safetensors import SafetensorError
    from transformers import GenerationConfig
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it would warn of, is raised below
    try:
        as_transformers_has_them = any((path / f"{STEMS[0]}{suffix}").is_file() for suffix in ("", ".index.json"))
        weights = None if as_transformers_has_them else {name: one.load() for name, one in stored.items()}
        loaded: Any = GDN2ForCausalLM.from_pretrained(
            path if weights is None else None,
            config=config,
            state_dict=weights,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        if weights is not None and (path / "generation_config.json").is_file():
            loaded[0].generation_config = GenerationConfig.from_pretrained(path)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the weights cannot be read ({first_line(error)})") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    model: GDN2ForCausalLM = loaded[0]
    info: dict[str, Any] = loaded[1]
    names = {kind: [str(one[0] if isinstance(one, tuple) else one) for one in info[kind]] for kind in MISFITS}
    _refuse_misfits(path, names)
    return model


def _misfits(config: GDN2Config, stored: Mapping[str, Stored], where: Path) -> dict[str, list[str]]:
    """Tell the tensors that do not fit a config, by kind, before any of a wrong size is allocated."""
    shapes = model_shapes(config, stored, where)
    shared = {HEAD} if config.tie_word_embeddings else set()
    return {
        "missing_keys": [name for name in shapes if name not in stored and name not in shared],
        "unexpected_keys": [name for name in stored if name not in shapes],
        "mismatched_keys": [name for name in shapes if name in stored and stored[name].shape != shapes[name]],
    }


def _refuse_misfits(path: Path, names: Mapping[str, list[str]]) -> None:
    for kind, problem in MISFITS.items():
        if found := sorted(names[kind]):
            raise CheckpointError(f"{path}: the checkpoint {problem}: {listed(found, SHOWN)}")


def _refuse_not_finite(path: Path, model: GDN2ForCausalLM) -> None:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            count = int((~torch.isfinite(parameter)).sum())
            raise CheckpointError(
                f"{path}: {name} holds {count} values that are NaN or infinite; the training that wrote it diverged, "
                "or the file is damaged"
            )
