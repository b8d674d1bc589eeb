"""Text of others as LaTeX that prints it: commands of the kernel only, in the encoding that every document has."""

from __future__ import annotations

import unicodedata

from harness.show.plain import code, plain

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\char96{}",
    "'": r"\char39{}",
    '"': r"\char34{}",
    "-": "-{}",  # two are no dash
    "[": "{[}",  # no option of the line's end before it
    "]": "{]}",
    "*": "{*}",
    "?": "?{}",
    "!": "!{}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "‘": "`{}",  # noqa: RUF001
    "’": "'{}",  # noqa: RUF001
    "“": "``{}",
    "”": "''{}",
    "\u00a0": "~",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "µ": r"$\mu$",
    "×": r"$\times$",  # noqa: RUF001
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "°": r"$^\circ$",
    "§": r"\S{}",
}
GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
CAPITALS = "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
LETTERS = [("SMALL", name) for name in GREEK.split()] + [("CAPITAL", name) for name in CAPITALS.split()]
SPECIAL |= {
    unicodedata.lookup(f"GREEK {kind} LETTER {name.replace('mbda', 'mda').upper()}"): rf"$\{name}$"
    for kind, name in LETTERS
}
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u ",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r ",
    "\u030b": "H ",
    "\u030c": "v ",
    "\u0327": "c ",
}


def latex(text: str) -> str:
    r"""Write a text so that LaTeX prints it; a letter that its first fonts lack is its code, such as `\u4e2d`."""
    return "".join(map(_letter, plain(text)))


def letters(text: str) -> int:
    """How many letters it prints of a text."""
    return sum(1 if _letter(letter) != latex(code(letter)) else len(code(letter)) for letter in plain(text))


def _letter(letter: str) -> str:
    if letter in SPECIAL:
        return SPECIAL[letter]
    if " " <= letter <= "~":
        return letter
    parts = unicodedata.normalize("NFD", letter)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in ACCENTS:
        return rf"\{ACCENTS[parts[1]]}{{{parts[0]}}}"
    return latex(code(letter))
