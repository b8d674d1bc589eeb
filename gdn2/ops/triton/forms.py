"""In which form `prepare` hands a chunk to the scan of the forward pass: as a map of the state, or as what it writes.

The symbols are those of gdn2/README.md, with M = (I + L)^-1, W = M E+ and U0 = M z:

* maps: A = -K-^T W, B = K-^T U0, R = Q+ - P W, O = P U0, from which S' = carry * S + A S + B and o = R S + O;
* writes: W, U0, K-, R and O, from which U = U0 - W S, S' = carry * S + K-^T U and o = R S + O;
* late: W, U0, K-, Q+ and P; the outputs, o = Q+ S + P U, are left to the scan.

Maps leave one product to wait for the chunk before, the others two, but their chunks are smaller and sooner made. The
backward pass takes maps, since the adjoints follow the same recursion, transposed.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdn2.ops.triton.tiles import family_of
from gdn2.ops.triton.variants import SCAN_OUTPUT, SCAN_OUTPUT_WIDE, SCAN_WRITES, SCAN_WRITES_WIDE, Variant


@dataclass(frozen=True)
class Form:
    """A form, and which scans take it.

    Attributes:
        name: how tables call it.
        scans: the scan of few sequences, and that of many.
        writes: W and U0 in the places of A and B.
        late: also Q+ and P in the places of R and O; only with `writes`.
    """

    name: str
    scans: tuple[Variant, Variant] = (SCAN_WRITES, SCAN_WRITES_WIDE)
    writes: bool = True
    late: bool = False

    def uses(self, variant: Variant) -> bool:
        """Whether calls in this form may launch a variant: all of them but the scans of other forms."""
        return not variant.with_output or variant in self.scans

    def is_value_first(self, scan: Variant) -> bool:
        """Whether a scan keeps S^T, so that U0 has to come transposed: faster where there are many sequences."""
        return self.late and scan.many_programs


MAPS = Form("maps", (SCAN_OUTPUT, SCAN_OUTPUT_WIDE), writes=False)
WRITES = Form("writes")
LATE = Form("late", late=True)
FORMS = (MAPS, WRITES, LATE)
_FASTER = {(128, 128): LATE, (256, 256): WRITES}  # than maps, by padded d_k and d_v: docs/kernels.md, "Measured"


def form_for(KP: int, VP: int, precision: str, arch: int) -> Form:
    """The form for padded head sizes, a precision and an architecture: maps, unless another was measured to be faster.

    All that was measured are products in bfloat16 on sm_90.
    """
    measured = precision == "bf16" and family_of(arch) == 90
    return _FASTER.get((KP, VP), MAPS) if measured else MAPS
