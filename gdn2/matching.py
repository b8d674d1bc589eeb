"""State sizes, and rivals of equal state: papers compare recurrent models at as many state floats a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gdn2.config import ATTENTION_LAYERS, GROWING_LAYERS, GDN2Config

EQUAL = 0.02
"""Share by which numbers of parameters may differ and still count as equal."""


def unequal(sizes: Iterable[tuple[str, int]], wanted: int) -> list[str]:
    """Which models differ in their number of parameters by more than `EQUAL`, as `name (-2.9%)`.

    Args:
        sizes: names and numbers of parameters.
        wanted: the number that they are compared with.
    """
    return [f"{name} ({size / wanted - 1:+.1%})" for name, size in sizes if abs(size - wanted) > EQUAL * wanted]


def repeated(configs: Mapping[str, GDN2Config]) -> tuple[str, str] | None:
    """The first model that is another one in other words, such as a default that one of them spells out.

    Args:
        configs: by the models' names.

    Returns:
        Its name and that of the other; None where all differ.
    """
    names, meanings = list(configs), [config.to_dict() for config in configs.values()]
    for index, meaning in enumerate(meanings):
        if (first := meanings.index(meaning)) != index:
            return names[index], names[first]
    return None


def state_floats(config: GDN2Config) -> list[int | None]:
    """Floats that each layer's memory holds for one text, whatever its length; None for full attention, which grows.

    Counted is what papers count: the matrix state, heads * d_k * d_v, or a window's keys and values. The tails of
    convolutions and Mamba-3's last key, value and angles come on top (`RecurrentState.num_bytes` has everything).
    """
    return [_floats_of(config, name) for name in config.layers or ()]


def matched_state(config: GDN2Config, *, like: GDN2Config) -> GDN2Config:
    """`config` with as many state floats a layer as `like`, so that two rivals remember equally much.

    The number of heads is changed if heads of d_k * d_v floats fill the state exactly, with as many value heads a head
    as before; otherwise `value_head_dim` is. A model of sliding windows only gets another `window_size`; in a hybrid
    windows stay as they are. Everything else is kept, so the number of parameters changes.

    Raises:
        ValueError: neither number comes out whole, or one of the models has no layer whose state has a fixed size.
    """
    wanted = _floats_to_match(like)
    matrix = _matrix_floats(config)
    if matrix is not None:
        return _with(config, **_matrix_sizes(config, wanted))
    _floats_to_match(config)  # refuses a model of full attention only
    token = _floats_of_token(config)
    if wanted % token:
        raise ValueError(
            f"{wanted:,} state floats are no whole number of tokens in a window: a token has {token:,} (2 * "
            "attention_kv_heads * attention_head_dim); change these"
        )
    return _with(config, window_size=wanted // token)


def _matrix_sizes(config: GDN2Config, wanted: int) -> dict[str, int]:
    heads, values, K, V = config.num_heads, config.num_value_heads, config.head_dim, config.value_head_dim
    assert values is not None
    assert V is not None
    group = values // heads
    if wanted % (group * K * V) == 0:
        heads = wanted // (group * K * V)
        return {"num_heads": heads, "num_value_heads": heads * group}
    if wanted % (values * K) == 0:
        channels = wanted // (values * K)
        follows = {"gate_rank": channels} if config.gate_rank == V else {}
        return {"value_head_dim": channels, **follows}
    raise ValueError(
        f"{wanted:,} state floats cannot be matched: they are no multiple of a head's {group * K * V:,} ({group} * "
        f"head_dim {K} * value_head_dim {V}), nor of num_value_heads {values} * head_dim {K}; choose another head_dim "
        "or value_head_dim"
    )


def _floats_to_match(config: GDN2Config) -> int:
    matrix = _matrix_floats(config)
    fixed = matrix if matrix is not None else next((n for n in state_floats(config) if n is not None), None)
    if fixed is None:
        raise ValueError("a model of full attention only has no state of fixed size; it grows with every token")
    return fixed


def _matrix_floats(config: GDN2Config) -> int | None:
    names = [name for name in config.layers or () if name not in (*ATTENTION_LAYERS, *GROWING_LAYERS)]
    return _floats_of(config, names[0]) if names else None


def _floats_of(config: GDN2Config, name: str) -> int | None:
    if name in GROWING_LAYERS:
        return None
    if name == "swa":
        return config.window_size * _floats_of_token(config)
    return config.num_value_heads * config.head_dim * config.value_head_dim  # type: ignore[operator]


def _floats_of_token(config: GDN2Config) -> int:
    return 2 * config.attention_kv_heads * config.attention_head_dim  # type: ignore[operator]


def _with(config: GDN2Config, **changes: Any) -> GDN2Config:
    return GDN2Config(**{**config.to_dict(), **changes})
