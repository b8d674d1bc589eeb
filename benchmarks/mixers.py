"""The mixers at equal state: parameters, state, agreement with their references, prefill speed on a CPU.

    python benchmarks/mixers.py [--tokens 2048] [--repeats 5] [--threads 1]

One layer's mixer of each kind, width 512, matched to the state of a GDN-2 layer with 4 heads of 128. Errors are the
largest difference to the token-by-token reference in float64 over the largest value of the reference, for a text of
64 tokens with parameters as initialised; in float32 the same weights, rounded. Speed is the median over the repeats of
one prefill of all tokens, batch 1, float32, no gradients, in seconds of CPU time a thread, which a busy machine changes
less than the clock on the wall. Prints a table in Markdown; the last line says where.
"""

from __future__ import annotations

import copy
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import command_line  # noqa: E402

from gdn2 import GDN2Config, GDN2ForCausalLM  # noqa: E402
from gdn2.config import GROWING_LAYERS, LAYERS  # noqa: E402
from gdn2.matching import matched_state, state_floats  # noqa: E402
from gdn2.mixers import Mixer  # noqa: E402
from gdn2.mixers.reference import reference  # noqa: E402
from gdn2.padding import Positions  # noqa: E402

WIDTH, REFERENCE_TOKENS = 512, 64
LIKE = GDN2Config(hidden_size=WIDTH, num_hidden_layers=1, num_heads=4, head_dim=128)
SIZES: dict[str, dict[str, int]] = {name: {"value_head_dim": 64} for name in ("mamba2", "mamba3", "mamba3_mimo")}
SIZES["mla"] = {"latent_size": 128, "latent_key_dim": 128, "latent_value_dim": 128, "shared_key_dim": 64}


def make(name: str) -> tuple[GDN2Config, Mixer]:
    fields: dict[str, Any] = {
        "layers": name,
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_heads": 4,
        "vocab_size": 2,
    }
    config = GDN2Config(**{**fields, "intermediate_size": 0, **SIZES.get(name, {})})
    if name not in GROWING_LAYERS:
        config = matched_state(config, like=LIKE)
    torch.manual_seed(0)
    return config, GDN2ForCausalLM(config).eval().model.layers[0].mixer


def read(mixer: Mixer, x: torch.Tensor) -> torch.Tensor:
    state, lengths = mixer.empty_state(x.shape[0]), torch.zeros(x.shape[0], dtype=torch.long)
    where = (Positions.after(lengths, x.shape[1], None),) if mixer.uses_positions else ()
    y: torch.Tensor = mixer(x, state, None, *where)[0]
    return y


def error(name: str, mixer: Mixer, x: torch.Tensor) -> float:
    expected = reference(mixer, name, x)
    return float((read(mixer, x[None])[0].double() - expected).abs().max() / expected.abs().max())


def tokens_per_second(mixer: Mixer, tokens: int, repeats: int) -> float:
    """Of CPU time of one thread; with several threads of the sum over them, times their number."""
    x = torch.randn(1, tokens, WIDTH)
    read(mixer, x)
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        read(mixer, x)
        seconds.append((time.process_time() - started) / torch.get_num_threads())
    return tokens / statistics.median(seconds)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--tokens", type=command_line.positive, default=2048)
    parser.add_argument("--repeats", type=command_line.positive, default=5)
    parser.add_argument("--threads", type=command_line.positive, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| mixer | parameters | state floats | error, float64 | error, float32 | prefill, tokens/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with torch.no_grad():
        for name in LAYERS:
            config, mixer = make(name)
            x = torch.randn(REFERENCE_TOKENS, WIDTH, dtype=torch.float64)
            exact = error(name, copy.deepcopy(mixer).double(), x)
            rounded = error(name, mixer, x.float())
            (floats,) = state_floats(config)
            assert config.attention_head_dim is not None
            assert config.attention_kv_heads is not None
            per_token = 2 * config.attention_kv_heads * config.attention_head_dim
            size = f"{floats:,}" if floats is not None else f"{per_token:,} a token"
            speed = tokens_per_second(mixer, arguments.tokens, arguments.repeats)
            parameters = sum(parameter.numel() for parameter in mixer.parameters())
            print(f"| {name} | {parameters:,} | {size} | {exact:.0e} | {rounded:.0e} | {speed:,.0f} |", flush=True)
    threads = f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
    print(f"\nWidth {WIDTH}, {arguments.tokens} tokens, {threads}, {platform.machine()}, torch {torch.__version__}.")


if __name__ == "__main__":
    command_line.answer(main)
