"""The operator's self-test, as a model uses the operator on its device, before anything is run."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import DTYPES
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.self_test import SelfTestError, self_test
from harness.errors import UserError

SELF_TEST_VARIABLE = "GDN2_SELF_TEST"
self_test_once = lru_cache(maxsize=32)(self_test)  # a process that loads many models asks a device once


def operator_self_test(model: GDN2ForCausalLM, dtype: str) -> dict[str, Any]:
    """The self-test of the operator as `model` uses it where it is, for the record.

    Raises:
        UserError: the operator is wrong there.
    """
    if os.environ.get(SELF_TEST_VARIABLE) == "0":
        return {"passed": None, "skipped": f"{SELF_TEST_VARIABLE}=0"}
    heads = model.model.operator_heads()
    if not heads:
        return {"passed": None, "skipped": "no layer of the model uses the operator"}
    backend = os.environ.get(BACKEND_VARIABLE, "auto")
    try:
        found = self_test_once(model.device, heads=heads, dtype=DTYPES[dtype], backend=backend)
        found.require()
    except (SelfTestError, ValueError) as error:
        raise UserError(str(error)) from error
    return found.as_dict()
