"""The lm-eval model and lm-eval itself: text to token ids as HFLM does it, and tasks evaluated one call at a time."""
