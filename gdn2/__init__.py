"""Gated DeltaNet-2 models and their operator; docs/api.md has an example of each name.

Importing the package teaches transformers' Auto classes the model type "gdn2".
"""

from transformers import AutoConfig, AutoModelForCausalLM

from basis.version import VERSION as __version__
from gdn2.config import GDN2Config
from gdn2.model import GDN2ForCausalLM, GDN2Model
from gdn2.ops import gated_delta_rule_2
from gdn2.state import RecurrentState

AutoConfig.register("gdn2", GDN2Config, exist_ok=True)
AutoModelForCausalLM.register(GDN2Config, GDN2ForCausalLM, exist_ok=True)

__all__ = [
    "GDN2Config",
    "GDN2ForCausalLM",
    "GDN2Model",
    "RecurrentState",
    "__version__",
    "gated_delta_rule_2",
]
