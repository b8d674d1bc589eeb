"""The published models by name: what `GDN2Config.from_preset` fills in. Only dimensions that a paper states."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # arXiv:2605.22791, the 1.3B recurrent model: 1,302,638,112 parameters without embedding, head and final norm.
    "gdn2_1.3B": {
        "vocab_size": 32000,
        "hidden_size": 2304,
        "num_hidden_layers": 18,
        "num_heads": 16,
        "head_dim": 128,
        "intermediate_size": 6208,
        "max_position_embeddings": 4096,
    },
    # arXiv:2605.22791, the 1.3B hybrid: 1,300,314,384 parameters, counted in the same way.
    "swa_gdn2_1.3B": {
        "vocab_size": 32000,
        "hidden_size": 2304,
        "num_hidden_layers": 18,
        "hybrid": "swa/2",
        "num_heads": 16,
        "head_dim": 128,
        "attention_heads": 18,
        "window_size": 2048,
        "intermediate_size": 6784,
        "max_position_embeddings": 4096,
    },
}
