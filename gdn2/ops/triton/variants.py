"""The variants in which the kernels are compiled: what each is for, and the name under which its tiles are kept.

A kernel is one function in Triton's language; a variant is that function with its compile-time switches set one way. A
variant has tile sizes of its own (tiles.py) and, for each head size and precision, a binary of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KernelName = Literal["prepare", "scan", "scan_writes", "value_gradients", "key_gradients", "recurrent"]


@dataclass(frozen=True)
class Variant:
    """A kernel with its compile-time switches set.

    Attributes:
        name: how files of tuned tiles, tables and command lines call it; never changed, since users keep such files.
        kernel: which function it is; kernel_set.py has the functions.
        by_level: handles the chunks whose decay is too strong for a single reference (decay.py); for `prepare` and
            `key_gradients`.
        for_backward: `prepare` makes R^T do for the adjoints, instead of R and the outputs.
        both_ways: `scan` also runs in reverse, for the adjoints of the states.
        with_output: `scan` adds what the states contribute to the outputs, instead of keeping the states.
        many_programs: the choice where many sequences or segments keep the GPU busy; differs in its tiles, and in the
            form `late` also in how it keeps the state (forms.py).
        from_zero: `recurrent` begins with a state of zeros instead of a given one.
    """

    name: str
    kernel: KernelName
    by_level: bool = False
    for_backward: bool = False
    both_ways: bool = False
    with_output: bool = False
    many_programs: bool = False
    from_zero: bool = False

    def __str__(self) -> str:
        return self.name


PREPARE = Variant("prepare", "prepare")
PREPARE_BY_LEVEL = Variant("prepare_by_level", "prepare", by_level=True)
PREPARE_BACKWARD = Variant("prepare_backward", "prepare", for_backward=True)
PREPARE_BACKWARD_BY_LEVEL = Variant("prepare_backward_by_level", "prepare", by_level=True, for_backward=True)
SCAN_OUTPUT = Variant("scan_output", "scan", with_output=True)
SCAN_OUTPUT_WIDE = Variant("scan_output_wide", "scan", with_output=True, many_programs=True)
SCAN_WRITES = Variant("scan_writes", "scan_writes", with_output=True)
SCAN_WRITES_WIDE = Variant("scan_writes_wide", "scan_writes", with_output=True, many_programs=True)
SCAN_BOTH_WAYS = Variant("scan_both_ways", "scan", both_ways=True)
VALUE_GRADIENTS = Variant("value_gradients", "value_gradients")
KEY_GRADIENTS = Variant("key_gradients", "key_gradients")
KEY_GRADIENTS_BY_LEVEL = Variant("key_gradients_by_level", "key_gradients", by_level=True)
RECURRENT = Variant("recurrent", "recurrent")
RECURRENT_FRESH = Variant("recurrent_fresh", "recurrent", from_zero=True)

VARIANTS = {
    variant.name: variant
    for variant in (
        PREPARE, PREPARE_BY_LEVEL, PREPARE_BACKWARD, PREPARE_BACKWARD_BY_LEVEL,
        SCAN_OUTPUT, SCAN_OUTPUT_WIDE, SCAN_WRITES, SCAN_WRITES_WIDE, SCAN_BOTH_WAYS,
        VALUE_GRADIENTS, KEY_GRADIENTS, KEY_GRADIENTS_BY_LEVEL, RECURRENT, RECURRENT_FRESH,
    )
}  # fmt: skip
