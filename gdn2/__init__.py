"""Gated DeltaNet-2 models. Importing the package teaches transformers' Auto classes the model type "gdn2"."""

from transformers import AutoConfig, AutoModelForCausalLM

from gdn2.config import GDN2Config
from gdn2.model import GDN2ForCausalLM, GDN2Model
from gdn2.state import RecurrentState

AutoConfig.register("gdn2", GDN2Config, exist_ok=True)
AutoModelForCausalLM.register(GDN2Config, GDN2ForCausalLM, exist_ok=True)

__all__ = ["GDN2Config", "GDN2ForCausalLM", "GDN2Model", "RecurrentState"]
