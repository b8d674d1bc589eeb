"""The mixers of the family by name. Each makes q, k, v, g, b and w from x and calls the operator, or is attention."""

from gdn2.mixers.attention import Attention, SlidingWindowAttention
from gdn2.mixers.base import Mixer
from gdn2.mixers.delta_net import DeltaNet
from gdn2.mixers.gated_deltanet import GatedDeltaNet
from gdn2.mixers.gdn2 import GatedDeltaNet2
from gdn2.mixers.gla import GatedLinearAttention
from gdn2.mixers.kda import KimiDeltaAttention
from gdn2.mixers.latent_attention import LatentAttention
from gdn2.mixers.mamba2 import Mamba2
from gdn2.mixers.mamba3 import Mamba3, Mamba3MIMO

MIXERS: dict[str, type[Mixer]] = {
    "gdn2": GatedDeltaNet2,
    "kda": KimiDeltaAttention,
    "gated_deltanet": GatedDeltaNet,
    "delta_net": DeltaNet,
    "gla": GatedLinearAttention,
    "mamba2": Mamba2,
    "mamba3": Mamba3,
    "mamba3_mimo": Mamba3MIMO,
    "attention": Attention,
    "swa": SlidingWindowAttention,
    "mla": LatentAttention,
}

__all__ = ["MIXERS", "GatedDeltaNet2", "Mixer"]
