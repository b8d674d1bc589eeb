"""Faults that can be read from a kernel's compiled forms: registers that nothing wrote, addresses of 32 bits."""

from __future__ import annotations

import re

INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Za-z0-9_.]*)\s*(.*?);")


def unwritten_registers(sass: str) -> tuple[str, ...]:
    """Uniform registers that are read before anything wrote them, in the order of addresses.

    Some releases of ptxas compute the addresses of wgmma operands from such a register ("A compiler's fault" in
    docs/kernels.md); the kernel then reads foreign shared memory. A register holds 32 bits, so that wider operands take
    several in a row:

    * 64-bit operations take two; of a wide multiplication these are its result and what it adds, not its factors;
    * a descriptor of memory takes two if its number is even, as that of a pair always is, else one;
    * the descriptors of a wgmma take four, of which it reads only the last two if its first operand is in registers.

    Args:
        sass: a kernel's machine code as `cuobjdump -sass` prints it, for sm_90.
    """
    written: set[int] = set()
    found: list[str] = []
    for line in sass.splitlines():
        match = INSTRUCTION.match(line)
        if not match:
            continue
        operation, operands = match[1], [part.strip() for part in match[2].split(",")]
        uniform = operation.startswith(("U", "S2UR", "R2UR", "CS2UR", "VOTEU", "LDCU"))
        width = 4 if ".128" in operation else 2 if ".64" in operation or ".WIDE" in operation else 1
        target = re.fullmatch(r"UR(\d+)", operands[0]) if uniform else None
        sources = ",".join(operands[1:] if target else operands)
        added = operands[-1] if ".WIDE" in operation else ""
        for kind, text, number in re.findall(r"(gdesc\[|desc\[)?(UR(\d+))", sources):
            first = 2 if kind == "gdesc[" and re.match(r"R\d+,R\d+", sources) else 0
            plain = width if uniform and (not added or re.search(rf"\b{text}\b", added)) else 1
            count = {"gdesc[": 4, "desc[": 2 - int(number) % 2, "": plain}[kind]
            missing = {int(number) + i for i in range(first, count)} - written
            found += [f"UR{register} in {operation}" for register in sorted(missing)]
            written |= missing
        if target:
            written |= {int(target[1]) + i for i in range(width)}
    return tuple(found)


def narrow_addresses(ttir: str) -> tuple[str, ...]:
    """The arguments whose own address has an offset of 32 bits added to it, which ends at 2^31 elements.

    Only tensors of floating-point numbers count. An offset within a tile is not one of these: it is added to an address
    that has been moved by 64 bits before.

    Args:
        ttir: a kernel in the first form that Triton gives it.
    """
    arguments = set(re.findall(r"%(p_\w+): !tt\.ptr<(?:f|bf)\d+>", ttir))
    spread = dict(re.findall(r"%(\w+) = tt\.splat %(p_\w+) :", ttir))
    places = re.findall(r"tt\.addptr %(\w+), %\w+ : \S+, (?:tensor<(?:\d+x)+)?i32\b", ttir)
    return tuple(sorted({base for base in (spread.get(name, name) for name in places) if base in arguments}))
