"""Settings of the whole test run."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread each
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
