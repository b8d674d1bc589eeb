"""In which form `prepare` hands a chunk to the scan: as maps of the state, or as what the chunk writes.

The symbols are those of gdn2/README.md, with M = (I + L)^-1, W = M E+ and U0 = M z:

* maps: A = -K-^T W, B = K-^T U0, R = Q+ - P W, O = P U0, from which S' = carry * S + A S + B and o = R S + O;
* writes: W, U0, K-, R and O, from which U = U0 - W S, S' = carry * S + K-^T U and o = R S + O;
* late: W, U0, K-, Q+ and P; the outputs, o = Q+ S + P U, are left to the scan.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A form, and how the scan keeps the state.

    Attributes:
        name: how command lines and tables call it.
        writes: W and U0 in the places of A and B.
        late: also Q+ and P in the places of R and O; only with `writes`.
        value_first: the scan keeps S^T, and what is added to it, B or U0, comes transposed.
    """

    name: str
    writes: bool = False
    late: bool = False
    value_first: bool = False


MAPS = Form("maps")
FORMS = {
    form.name: form
    for form in (
        MAPS,
        Form("maps_by_value", value_first=True),
        Form("writes", writes=True),
        Form("writes_by_value", writes=True, value_first=True),
        Form("late", writes=True, late=True),
        Form("late_by_value", writes=True, late=True, value_first=True),
    )
}
