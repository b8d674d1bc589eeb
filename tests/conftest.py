"""Settings of the whole test run."""

import os
import tempfile

import pytest
import torch

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:  # kernels run in Triton's interpreter, which must be asked for before anything imports triton
    os.environ["TRITON_INTERPRET"] = "1"

os.environ["GDN2_CACHE"] = tempfile.mkdtemp(prefix="gdn2-cache-")  # not the user's

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread each
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not HAS_GPU:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
