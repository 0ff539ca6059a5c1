"""A Hub on 127.0.0.1 that serves folders as model repositories to the real huggingface_hub client."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class _Handler(BaseHTTPRequestHandler):
    repositories: dict[str, Path]

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        """Silent."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        for name, folder in self.repositories.items():
            if path.startswith(f"/api/models/{name}"):
                return self._describe(name, folder, path.removeprefix(f"/api/models/{name}"))
            if path.startswith(f"/{name}/resolve/"):
                return self._file(folder, path.removeprefix(f"/{name}/resolve/").partition("/")[2])
        self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _describe(self, name: str, folder: Path, rest: str) -> None:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        if rest.startswith("/tree/"):
            entries = [
                {
                    "type": "file",
                    "path": str(path.relative_to(folder)),
                    "size": path.stat().st_size,
                    "oid": _etag(path),
                }
                for path in files
            ]
            return self._json(entries)
        siblings = [{"rfilename": str(path.relative_to(folder))} for path in files]
        self._json({"id": name, "modelId": name, "sha": "0" * 40, "siblings": siblings, "tags": [], "private": False})

    def _file(self, folder: Path, name: str) -> None:
        path = folder / name
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40})
        self._send(200, path.read_bytes(), {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": "0" * 40})

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def loopback_hub(**repositories: Path) -> Iterator[dict[str, str]]:
    """Serves each folder as ``tester/NAME``; yields the environment for a process that is to use this Hub."""
    named = {f"tester/{name}": folder for name, folder in repositories.items()}
    handler = type("Handler", (_Handler,), {"repositories": named})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
    finally:
        server.shutdown()
        server.server_close()
