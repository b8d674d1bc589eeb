"""The operator as Triton kernels: the chunkwise forward pass, its gradients, and the recurrent form for decode."""

from gdn2.ops.triton.operator import triton_gated_delta_rule_2

__all__ = ["triton_gated_delta_rule_2"]
