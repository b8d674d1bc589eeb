"""Building a wheel: what lies outside the packages, published figures and our records, goes into harness/shipped.

All else is in pyproject.toml. An editable install takes nothing along: harness/paths.py finds results/ beside harness/.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = {"results/published": "harness/shipped/published", "results/leaderboard": "harness/shipped/leaderboard"}


class BuildWithResults(build_py):  # type: ignore[misc]  # setuptools has no types
    """The packages and, below harness/shipped, the files of SHIPPED."""

    def run(self) -> None:
        """Copy the packages, then the shipped results."""
        super().run()
        if not self.editable_mode:
            for source, target in self._shipped().items():
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Every file that a build leaves, the shipped results among them."""
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else self._shipped().values())]

    def get_source_files(self) -> list[str]:
        """What a source distribution holds, so that a wheel can be built from it."""
        return [*super().get_source_files(), *self._shipped()]

    def _shipped(self) -> dict[str, str]:
        found = {}
        for source, target in SHIPPED.items():
            for file in sorted(Path(source).rglob("*")):
                if file.is_file():
                    found[str(file)] = str(Path(self.build_lib, target, file.relative_to(source)))
        return found


setup(cmdclass={"build_py": BuildWithResults})
