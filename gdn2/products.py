"""One input through several linear layers, whose products are made together where that is faster.

Training under autocast they share the gradient of their input (gdn2/ops/products.py); in a decoding step they are one
launch (gdn2/ops/thin.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from gdn2.ops import learning
from gdn2.ops.fused import reaches_kernels
from gdn2.ops.overwriting import may_overwrite
from gdn2.ops.products import products
from gdn2.ops.thin import thins


class Products:
    """Calling it with a layer gives what the layer makes of x; of a sequence the first layer is one of those below.

    Args:
        x: [..., D].
        layers: those that will be asked for; others are simply called, in training those with a bias as well.
        opens: those of which `sigmoid` will be asked for, and nothing else.

    Attributes:
        x: as given.
        decay: a log-decay that was made of x on the way [B, T, C]; None: there is none.
    """

    def __init__(self, x: Tensor, layers: Iterable[nn.Module | None], opens: Collection[nn.Module] = ()) -> None:
        self.x = x
        self.decay: Tensor | None = None
        self._made: dict[nn.Module, Tensor] = {}
        self._opened: dict[nn.Module, Tensor] = {}
        if reaches_kernels(x) and (may_overwrite() or torch.is_autocast_enabled(x.device.type)):
            self._make(layers, opens)  # elsewhere nothing is made together

    def _make(self, layers: Iterable[nn.Module | None], opens: Collection[nn.Module]) -> None:
        """Make what can be made together."""
        x = self.x
        plain: list[nn.Linear] = []
        biased: list[nn.Linear] = []
        for layer in layers:
            first = layer[0] if isinstance(layer, nn.Sequential) else layer
            if isinstance(first, nn.Linear):
                (plain if first.bias is None else biased).append(first)
        weights: list[Tensor] = [layer.weight for layer in plain]
        if len(plain) > 1 and all(learning.halves(x, weight) for weight in weights):
            dtype = torch.get_autocast_dtype(x.device.type)
            self._made = dict(zip(plain, products(x, weights, dtype), strict=True))
        else:
            self._step(plain, None, opens)
            self._step(biased, [layer.bias for layer in biased], opens)

    def _step(self, layers: list[nn.Linear], biases: list[Tensor] | None, opens: Collection[nn.Module]) -> None:
        """Make the products of layers in one launch, in a decoding step that has a kernel for it."""
        weights = [layer.weight for layer in layers]
        if layers and thins(self.x, *weights, *(biases or ())):
            from gdn2.ops.triton.thin import products as thin_products

            made = thin_products(self.x, weights, biases, sigmoids=[layer in opens for layer in layers])
            for layer, y in zip(layers, made, strict=True):
                (self._opened if layer in opens else self._made)[layer] = y

    def has(self, layer: nn.Module) -> bool:
        """Whether the layer's product was made together with others."""
        return layer in self._made

    def sigmoid(self, layer: nn.Module) -> Tensor:
        """The sigmoid of the layer's product."""
        opened = self._opened.get(layer)
        return torch.sigmoid(self(layer)) if opened is None else opened

    def __call__(self, layer: nn.Module) -> Tensor:
        """The layer's product."""
        if isinstance(layer, nn.Sequential):
            first, *others = layer
            y = self(first)
            for following in others:
                y = following(y)
            return y
        made = self._made.get(layer)
        if made is None:
            made = layer(self.x)
        return made
