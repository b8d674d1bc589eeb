"""Settings of the whole test run."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small data of tasks, staged."""
    from task_data import write_data

    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A tokenizer with a BOS in front, as Llama's."""
    from task_data import train_tokenizer

    return train_tokenizer("metaspace")


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of that tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def no_files_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task's file was read before."""
    from tasks import own

    monkeypatch.setattr(own, "_infos", {})
