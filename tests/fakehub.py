"""A hub in miniature over HTTP: repositories from memory, as huggingface_hub and datasets ask for them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Repos = Mapping[str, Mapping[str, Mapping[str, bytes]]]
"""Repository, revision (a branch), files."""


def commit_of(repo: str, revision: str, files: Mapping[str, bytes]) -> str:
    """What stands for a commit: 40 hex digits over the content."""
    text = f"{repo}|{revision}|" + "|".join(
        f"{name}:{hashlib.sha1(content).hexdigest()}" for name, content in files.items()
    )
    return hashlib.sha1(text.encode()).hexdigest()


@contextmanager
def serve(repos: Repos, refused: Mapping[str, tuple[int, str]] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve repositories on a local port; yields the address and the list of requests as they come in.

    `refused` has repositories that are answered by a status and the hub's code of an error alone.
    """
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.sent = json.loads(self.rfile.read(length) or b"{}")
            self.answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            seen.append(f"{self.command} {path}")
            status, content, headers = route(repos, path, getattr(self, "sent", {}))
            for repo, (refusal, code) in (refused or {}).items():
                if f"/{repo}/" in f"{path}/":
                    status, content, headers = refusal, b"{}", {"X-Error-Code": code}
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()


def route(repos: Repos, path: str, sent: Mapping[str, list[str]]) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of one request."""
    if match := re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/(.+))?", path):
        kind, repo, what, rest = match.groups()
        if repo not in repos:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        revision = resolve(repos[repo], repo, rest or "main")
        if revision is None:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        files = repos[repo][revision]
        if what in ("tree", "paths-info"):
            entries = [entry(name, content) for name, content in files.items()]
            folders = {"/".join(name.split("/")[:i]) for name in files for i in range(1, name.count("/") + 1)}
            entries += [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders)]
            if what == "paths-info":
                entries = [item for item in entries if item["path"] in sent.get("paths", [])]
            return 200, json.dumps(entries).encode(), {"Content-Type": "application/json"}
        del kind
        info = {
            "_id": "0",
            "id": repo,
            "sha": commit_of(repo, revision, files),
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": name} for name in files],
        }
        return 200, json.dumps(info).encode(), {"Content-Type": "application/json"}
    if match := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/(refs/convert/parquet|[^/]+)/(.+)", path):
        repo, rest, name = match.groups()
        revision = resolve(repos.get(repo, {}), repo, rest)
        if revision is None:
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        files = repos[repo][revision]
        commit = commit_of(repo, revision, files)
        if name not in files:
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
        digest = hashlib.sha256(files[name]).hexdigest()
        return 200, files[name], {"ETag": f'"{digest}"', "X-Repo-Commit": commit}
    return 404, b"{}", {}


def resolve(revisions: Mapping[str, Mapping[str, bytes]], repo: str, asked: str) -> str | None:
    """The branch that a branch name or a commit stands for."""
    for revision, files in revisions.items():
        if (
            asked == revision
            or commit_of(repo, revision, files).startswith(asked)
            or asked.startswith((f"{revision}/", commit_of(repo, revision, files)))
        ):
            return revision
    return None


def entry(name: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
