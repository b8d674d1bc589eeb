"""The generators of others, met byte for byte: NVIDIA's present one, its older one, and lm-eval's."""
