"""The kernels compiled ahead of time, without a GPU: `python -m gdn2.ops.triton.aot` shows what the assembler says."""
