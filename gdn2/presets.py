"""The published models by name: what `GDN2Config.from_preset` fills in.

The paper states the number of parameters, heads, windows, the vocabulary and the training length, and that the output
gate is SiLU (section 3.5). Width, depth, attention heads and the width of the SwiGLU (2304, 18, 18, 6208 and 6784) are
the configuration of the authors' repository; with them the numbers of parameters come out as below.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # The 1.3B recurrent model: 1,302,638,112 parameters without embedding, head and final norm.
    "gdn2_1.3B": {
        "vocab_size": 32000,
        "hidden_size": 2304,
        "num_hidden_layers": 18,
        "num_heads": 16,
        "head_dim": 128,
        "output_gate": "silu",
        "intermediate_size": 6208,
        "max_position_embeddings": 4096,
    },
    # The 1.3B hybrid: 1,300,314,384 parameters, counted in the same way.
    "swa_gdn2_1.3B": {
        "vocab_size": 32000,
        "hidden_size": 2304,
        "num_hidden_layers": 18,
        "hybrid": "swa/2",
        "num_heads": 16,
        "head_dim": 128,
        "attention_heads": 18,
        "window_size": 2048,
        "output_gate": "silu",
        "intermediate_size": 6784,
        "max_position_embeddings": 4096,
    },
}
