"""Whether a written table is whole: Markdown by its pipes, LaTeX by its environments, columns and characters."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

PREAMBLE = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
ESCAPED = re.compile(r"\\[\\{}$&#%_]")
"""What is text, or ends a line; both stand for no structure."""
MOST_LINES = 42
"""That a float has room for on any page, below its caption."""


def check_markdown(text: str) -> None:
    """Each table has the same number of cells in all its lines."""
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block
        assert not lines or len(lines) == len(block.splitlines()), block


def check_latex(text: str) -> None:
    """Environments and braces are balanced, rows have their columns, floats fit a page, and only ASCII is left."""
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
    floats = re.findall(r"\\begin\{table\*\}(.*?)\\end\{table\*\}", text, re.DOTALL)
    assert max([sum(line.endswith(r"\\") for line in found.splitlines()) for found in floats], default=0) <= MOST_LINES
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels) == len(floats)


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
    assert "Float too large" not in done.stdout
    return done.stdout
