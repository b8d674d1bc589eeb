"""One input through several linear layers, whose products are made together where that is faster.

Training under autocast they share the gradient of their input (gdn2/ops/products.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gdn2.ops import learning
from gdn2.ops.products import products


class Products:
    """Calling it with a layer gives what the layer makes of x; of a sequence the first layer is one of those below.

    Args:
        x: [..., D].
        layers: those that will be asked for. Others, and those with a bias, are simply called.

    Attributes:
        x: as given.
    """

    def __init__(self, x: Tensor, layers: Iterable[nn.Module | None]) -> None:
        self.x = x
        self._made: dict[nn.Module, Tensor] = {}
        plain: list[nn.Linear] = []
        for layer in layers:
            first = layer[0] if isinstance(layer, nn.Sequential) else layer
            if isinstance(first, nn.Linear) and first.bias is None:
                plain.append(first)
        weights: list[Tensor] = [layer.weight for layer in plain]
        if len(plain) > 1 and all(learning.halves(x, weight) for weight in weights):
            dtype = torch.get_autocast_dtype(x.device.type)
            self._made = dict(zip(plain, products(x, weights, dtype), strict=True))

    def has(self, layer: nn.Module) -> bool:
        """Whether the layer's product was made together with others."""
        return layer in self._made

    def __call__(self, layer: nn.Module) -> Tensor:
        """The layer's product."""
        if isinstance(layer, nn.Sequential):
            first, *others = layer.children()
            y = self(first)
            for following in others:
                y = following(y)
            return y
        made = self._made.get(layer)
        if made is None:
            made = layer(self.x)
        return made
