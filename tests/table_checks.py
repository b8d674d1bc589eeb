"""Whether a written table is whole: Markdown by its pipes, LaTeX by its environments, columns and characters."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

PREAMBLE = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
ESCAPED = re.compile(r"\\[\\{}$&#%_]")
"""What is text, or ends a line; both stand for no structure."""


def check_markdown(text: str) -> None:
    """Each table has the same number of cells in all its lines."""
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block
        assert not lines or len(lines) == len(block.splitlines()), block


def check_latex(text: str) -> None:
    """Environments and braces are balanced, rows have their columns, and nothing but ASCII is left."""
    assert text.isascii()
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    bare = ESCAPED.sub("", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "#" not in bare
    assert "%" not in bare.split("\n", 1)[1]
    for columns, body in re.findall(r"\\begin\{tabular\}\{(l+r+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert rows
        for row in rows:
            spans = sum(int(count) - 1 for count in re.findall(r"\\multicolumn\{(\d+)\}", row))
            cells = row.replace(r"\&", "").count("&") + 1 + spans
            assert cells == len(columns), row


def compiled(text: str, folder: Path) -> str | None:
    """What pdfLaTeX or Tectonic makes of a table, as the text of its log; None where neither is here."""
    (folder / "paper.tex").write_text(PREAMBLE + text + "\\end{document}\n", encoding="utf-8")
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    elif shutil.which("tectonic"):
        command = ["tectonic", "--only-cached", "paper.tex"]
    else:
        return None
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout
