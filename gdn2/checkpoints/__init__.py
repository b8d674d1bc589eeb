"""Checkpoints on disk: load them strictly, tell them apart by hash, import foreign ones (`importers`)."""

from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.fingerprints import TOKENIZER_FILES, fingerprint, hash_files, tokenizer_fingerprint
from gdn2.checkpoints.loading import SHOWN, load_checkpoint, read_config
from gdn2.checkpoints.precision import DTYPES, choose_dtype, quantised, saved_dtype
from gdn2.checkpoints.training import training_of

__all__ = [
    "DTYPES",
    "SHOWN",
    "TOKENIZER_FILES",
    "CheckpointError",
    "choose_dtype",
    "fingerprint",
    "hash_files",
    "load_checkpoint",
    "quantised",
    "read_config",
    "saved_dtype",
    "tokenizer_fingerprint",
    "training_of",
]
