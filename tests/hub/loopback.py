"""A Hub on 127.0.0.1 for the real huggingface_hub, diffusers and datasets clients, with faults on demand."""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

USER, TOKEN = "tester", "hf_of_the_tester"
STRANGER_TOKEN = "hf_of_a_stranger"
READING_TOKEN = "hf_of_the_tester_to_read"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}

_REPO_API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/([^/]+)(?:/([^/]+)(?:/(.*))?)?)?")
_RESOLVE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_LFS_BATCH = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
_METADATA = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Blob:
    """A file: its content, and whether git holds it or LFS."""

    content: bytes
    lfs: bool = False

    @property
    def oid(self) -> str:
        """Git's name of the content."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    oid: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repository:
    """Branches of commits, oldest first; a pull request is the branch ``refs/pr/N``.

    Nobody but its owner knows of a private one; a gated one is known, and nobody but its owner may read its files.
    """

    id: str
    kind: str
    private: bool = False
    gated: bool = False
    branches: dict[str, list[Commit]] = field(default_factory=lambda: {"main": []})

    def __post_init__(self) -> None:
        if not self.branches["main"]:
            self.commit("main", "initial commit", {})

    def commit(self, branch: str, message: str, files: dict[str, Blob]) -> Commit:
        """Adds a commit whose files are exactly ``files``."""
        commits = self.branches[branch]
        content = sorted((path, blob.oid) for path, blob in files.items())
        seed = f"{self.kind} {self.id} {branch} {len(commits)} {message} {content}"
        commits.append(Commit(hashlib.sha1(seed.encode()).hexdigest(), message, files))
        return commits[-1]

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch or a commit id names."""
        if revision in self.branches:
            return self.branches[revision][-1]
        return next((one for commits in self.branches.values() for one in commits if one.oid == revision), None)

    @property
    def files(self) -> dict[str, bytes]:
        """Path -> content on the main branch."""
        return {path: blob.content for path, blob in self.branches["main"][-1].files.items()}


@dataclass
class Fault:
    """Something that goes wrong with requests whose ``METHOD /path`` a pattern matches.

    Attributes:
        pattern: regular expression.
        status: answer with this instead.
        headers: of that answer.
        times: how often; None for always.
        drop: break the connection in the middle of the request's content, or of the answer where it has none.
        short: send only the first half of a file, as if it were whole.
        seconds: wait so long in the middle of the answer.
    """

    pattern: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = None
    drop: bool = False
    short: bool = False
    seconds: float = 0.0


class Hub:
    """What the server holds, for tests to fill, to spoil and to look at.

    Attributes:
        repositories: by kind (models, datasets, spaces) and id.
        metadata: id of a model -> fields that replace what the server says of it, whatever they are.
        faults: what goes wrong; the first that matches does.
        requests: ``METHOD /path`` of everything that was asked.
        page_size: models per page of a list.
        tokens: token -> user.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.lfs: dict[str, bytes] = {}
        self.page_size = 100
        self.tokens = {TOKEN: USER, STRANGER_TOKEN: "stranger", READING_TOKEN: USER}
        self.lock = threading.RLock()
        self.endpoint = ""

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to use this Hub."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def add(
        self,
        name: str,
        folder: Path | None = None,
        kind: str = "models",
        private: bool = False,
        gated: bool = False,
    ) -> Repository:
        """A repository with the files of a folder."""
        repository = self.repositories[kind, name] = Repository(name, kind, private, gated)
        if folder is not None:
            paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            files = {path.relative_to(folder).as_posix(): _blob(path.name, path.read_bytes()) for path in paths}
            repository.commit("main", "files", files)
        return repository

    def fail(self, pattern: str, status: int | None = None, **more: Any) -> Fault:
        """Lets requests fail from now on; see ``Fault``."""
        self.faults.append(Fault(pattern, status, **more))
        return self.faults[-1]

    def fault_of(self, request: str) -> Fault | None:
        """The fault that a request runs into, which is used up by that."""
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and re.search(fault.pattern, request):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None


def _blob(name: str, content: bytes) -> Blob:
    return Blob(content, lfs=bool(content) and name.endswith((".safetensors", ".parquet", ".png")))


class _Error(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, message: str, code: str = "", content: dict[str, Any] | None = None, **headers: str
    ):
        super().__init__(message)
        self.status = status
        self.content = {"error": message} if content is None else content
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


class _Dropped(Exception):
    """The connection is to be broken."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *arguments: object) -> None:
        """Silent."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        request = f"{self.command} {url.path}"
        with self.hub.lock:
            self.hub.requests.append(request)
        self.query, self.fault = parse_qs(url.query), self.hub.fault_of(request)
        try:
            self.content = self._receive()
            if self.fault is not None and self.fault.status is not None:
                raise _Error(self.fault.status, "as the test wants", **self.fault.headers)
            with self.hub.lock:
                answer = self._route(url.path)
            self._send(200, *answer)
        except _Error as error:
            body = json.dumps(error.content).encode()
            self._send(error.status, body, {"Content-Type": "application/json", **error.headers})
        except (_Dropped, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _receive(self) -> bytes:
        """The request's content; none of it counts if the connection breaks in it."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
                if self._drops():
                    raise _Dropped
            self.rfile.readline()
            return content
        length = int(self.headers.get("Content-Length") or 0)
        if length and self._drops():
            self.rfile.read(length // 2)
            raise _Dropped
        return self.rfile.read(length)

    def _drops(self) -> bool:
        return self.fault is not None and self.fault.drop

    def _route(self, path: str) -> tuple[bytes, dict[str, str]]:
        fixed = {
            "/api/whoami-v2": self._whoami,
            "/api/repos/create": self._create,
            "/api/repos/delete": self._delete,
            "/api/validate-yaml": self._validate,
            "/lfs/verify": self._verify,
        }
        if path in fixed:
            return fixed[path]()
        if path in ("/api/models", "/api/datasets", "/api/spaces"):
            return self._list(path.removeprefix("/api/"))
        if path.startswith("/lfs/"):
            return self._store(path.removeprefix("/lfs/"))
        if match := _LFS_BATCH.fullmatch(path):
            return self._batch(self._repository(match[1] or "models", match[2]))
        if match := _RESOLVE.fullmatch(path):
            return self._file(self._repository(match[1] or "models", match[2]), unquote(match[3]), unquote(match[4]))
        if match := _REPO_API.fullmatch(path):
            return self._repository_api(self._repository(match[1], match[2]), *map(unquote, match.groups("")[2:]))
        raise _Error(404, "no such page")

    def _repository_api(self, repository: Repository, action: str, revision: str, path: str) -> tuple:
        actions = {
            "": lambda: self._describe(repository, "main"),
            "revision": lambda: self._describe(repository, revision),
            "tree": lambda: self._tree(repository, revision, path),
            "refs": lambda: self._refs(repository),
            "paths-info": lambda: self._paths_info(repository, revision),
            "preupload": lambda: self._preupload(repository, revision),
            "commit": lambda: self._commit(repository, revision),
            "branch": lambda: self._branch(repository, revision),
        }
        if action not in actions:
            raise _Error(404, "no such page")
        return actions[action]()

    # Who asks

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _role(self) -> str:
        return "read" if self._token() == READING_TOKEN else "write"

    def _user(self) -> str | None:
        token = self._token()
        if token and token not in self.hub.tokens:
            raise _Error(401, "Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def _writer(self, owner: str | None = None) -> str:
        user = self._user()
        if user is None:
            raise _Error(401, "Invalid username or password.")
        if self._role() == "read":
            raise _Error(403, "This token may not write")
        if owner not in (None, user):
            raise _Error(403, f"You don't have the rights to write to {owner}")
        return user

    def _repository(self, kind: str, name: str) -> Repository:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and self._user() != _owner(name)):
            raise _Error(404, "Repository not found", "RepoNotFound")
        return repository

    def _at(self, repository: Repository, revision: str) -> Commit:
        commit = repository.at(revision)
        if commit is None:
            raise _Error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _whoami(self) -> tuple[bytes, dict[str, str]]:
        user = self._user()
        if user is None:
            raise _Error(401, "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "a token", "role": self._role()}}
        return _json({"type": "user", "id": user, "name": user, "orgs": [], "auth": auth})

    # Repositories

    def _create(self) -> tuple[bytes, dict[str, str]]:
        wanted = json.loads(self.content)
        user = self._writer(wanted.get("organization"))
        kind = f"{wanted.get('type') or 'model'}s"
        name = f"{wanted.get('organization') or user}/{wanted['name']}"
        taken = [known for known in KINDS if (known, name) in self.hub.repositories]
        url = f"{self.hub.endpoint}/{'' if kind == 'models' else f'{kind}/'}{name}"
        if taken:
            message = f"You already created this {KINDS[taken[0]]} repo"
            raise _Error(409, message, content={"error": message, **({"url": url} if kind in taken else {})})
        self.hub.add(name, kind=kind, private=wanted.get("visibility") == "private")
        return _json({"url": url, "name": name})

    def _delete(self) -> tuple[bytes, dict[str, str]]:
        wanted = json.loads(self.content)
        user = self._writer(wanted.get("organization"))
        kind, name = f"{wanted.get('type') or 'model'}s", f"{wanted.get('organization') or user}/{wanted['name']}"
        self._repository(kind, name)
        del self.hub.repositories[kind, name]
        return _json({})

    def _validate(self) -> tuple[bytes, dict[str, str]]:
        errors = _card_errors(json.loads(self.content)["content"])
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        if errors:
            raise _Error(400, "Invalid metadata", content=answer)
        return _json(answer)

    def _branch(self, repository: Repository, name: str) -> tuple[bytes, dict[str, str]]:
        self._writer(_owner(repository.id))
        if name in repository.branches:
            raise _Error(409, "Reference already exists")
        start = self._at(repository, json.loads(self.content or b"{}").get("startingPoint", "main"))
        repository.branches[name] = [start]
        return _json({})

    def _refs(self, repository: Repository) -> tuple[bytes, dict[str, str]]:
        def refs(requests: bool) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": name if requests else f"refs/heads/{name}", "targetCommit": commits[-1].oid}
                for name, commits in repository.branches.items()
                if name.startswith("refs/pr/") == requests
            ]

        return _json({"branches": refs(False), "tags": [], "converts": [], "pullRequests": refs(True)})

    # Uploads

    def _preupload(self, repository: Repository, revision: str) -> tuple[bytes, dict[str, str]]:
        self._writer(None if "create_pr" in self.query else _owner(repository.id))
        known, files = self._at(repository, revision).files, []
        for wanted in json.loads(self.content)["files"]:
            path, old = wanted["path"], known.get(wanted["path"])
            mode = "lfs" if _blob(path, b"x").lfs else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": old.etag if old else None})
        return _json({"files": files})

    def _batch(self, repository: Repository) -> tuple[bytes, dict[str, str]]:
        self._writer()
        objects = []
        for wanted in json.loads(self.content)["objects"]:
            one = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.lfs:  # what is there is not sent again
                verify = {"href": f"{self.hub.endpoint}/lfs/verify"}
                one["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}, "verify": verify}
            objects.append(one)
        return _json({"transfer": "basic", "objects": objects})

    def _store(self, oid: str) -> tuple[bytes, dict[str, str]]:
        if hashlib.sha256(self.content).hexdigest() != oid:
            raise _Error(400, "the content is not that of the object")
        self.hub.lfs[oid] = self.content
        return _json({})

    def _verify(self) -> tuple[bytes, dict[str, str]]:
        wanted = json.loads(self.content)
        if len(self.hub.lfs.get(wanted["oid"], b"")) != wanted["size"]:
            raise _Error(404, "no such object")
        return _json({})

    def _commit(self, repository: Repository, revision: str) -> tuple[bytes, dict[str, str]]:
        request = "create_pr" in self.query
        self._writer(None if request else _owner(repository.id))
        commit, branch = self._at(repository, revision), revision
        lines = [json.loads(line) for line in self.content.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, commit.oid):
            raise _Error(412, "A commit has happened since. Please refresh and try again.")
        files = dict(commit.files)
        for line in lines[1:]:
            _apply(line["key"], line["value"], files, self.hub.lfs)
        answer = {}
        if request:
            number = 1 + sum(name.startswith("refs/pr/") for name in repository.branches)
            branch = f"refs/pr/{number}"
            repository.branches[branch] = [commit]
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{repository.id}/discussions/{number}"
        made = repository.commit(branch, header["summary"], files)
        return _json(
            {"commitUrl": f"{self.hub.endpoint}/{repository.id}/commit/{made.oid}", "commitOid": made.oid, **answer}
        )

    # Reading

    def _describe(self, repository: Repository, revision: str) -> tuple[bytes, dict[str, str]]:
        return _json(self._chosen(self._info(repository, self._at(repository, revision))))

    def _info(self, repository: Repository, commit: Commit) -> dict[str, Any]:
        metadata = _metadata(commit)
        tags = metadata.get("tags")
        tags = [*tags] if isinstance(tags, list) else []
        tags += [metadata["library_name"]] if isinstance(metadata.get("library_name"), str) else []
        index = metadata.get("model-index")
        info = {
            "id": repository.id,
            "modelId": repository.id,
            "author": _owner(repository.id),
            "sha": commit.oid,
            "lastModified": "2026-01-02T03:04:05.000Z",
            "createdAt": "2026-01-01T03:04:05.000Z",
            "private": repository.private,
            "gated": "auto" if repository.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": tags,
            "cardData": metadata,
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            **({"library_name": metadata["library_name"]} if "library_name" in metadata else {}),
            **({"pipeline_tag": metadata["pipeline_tag"]} if "pipeline_tag" in metadata else {}),
            **({} if index is None else {"model-index": index}),
        }
        return info | self.hub.metadata.get(repository.id, {})

    def _chosen(self, info: dict[str, Any]) -> dict[str, Any]:
        wanted = self.query.get("expand")
        return info if wanted is None else {name: info[name] for name in ("id", *wanted) if name in info}

    def _list(self, kind: str) -> tuple[bytes, dict[str, str]]:
        wanted, user = self.query, self._user()
        found = [
            self._info(one, one.branches["main"][-1])
            for (known, name), one in sorted(self.hub.repositories.items())
            if known == kind and (not one.private or user == _owner(name))
        ]
        if "filter" in wanted:
            found = [info for info in found if set(wanted["filter"]) <= {str(tag) for tag in info["tags"]}]
        found = (
            [info for info in found if info["id"].startswith(f"{wanted['author'][0]}/")]
            if "author" in wanted
            else found
        )
        found = [info for info in found if wanted["search"][0] in info["id"]] if "search" in wanted else found
        first = int(wanted.get("cursor", ["0"])[0])
        last = first + min(self.hub.page_size, int(wanted.get("limit", [self.hub.page_size])[0]))
        headers = {}
        if last < len(found):
            query = urlencode({**wanted, "cursor": [str(last)]}, doseq=True)
            headers["Link"] = f'<{self.hub.endpoint}/api/{kind}?{query}>; rel="next"'
        hidden = () if {"expand", "full", "cardData"} & wanted.keys() else ("cardData", "model-index", "siblings")
        page = [{name: value for name, value in info.items() if name not in hidden} for info in found[first:last]]
        body, more = _json([self._chosen(info) for info in page])
        return body, more | headers

    def _tree(self, repository: Repository, revision: str, under: str) -> tuple[bytes, dict[str, str]]:
        commit = self._at(repository, revision)
        prefix = f"{under}/" if under else ""
        inside = {path: blob for path, blob in commit.files.items() if path.startswith(prefix)}
        if under and not inside:
            raise _Error(404, f"{under} does not exist", "EntryNotFound")
        entries = [_entry(path, blob) for path, blob in sorted(inside.items())]
        if self.query.get("recursive", [""])[0].lower() not in ("true", "1"):
            rests = {path.removeprefix(prefix) for path in inside}
            entries = [_entry(prefix + rest, inside[prefix + rest]) for rest in sorted(rests) if "/" not in rest]
            folders = sorted({rest.partition("/")[0] for rest in rests if "/" in rest})
            entries += [{"type": "directory", "path": prefix + name, "oid": "0" * 40, "size": 0} for name in folders]
        return _json(entries)

    def _paths_info(self, repository: Repository, revision: str) -> tuple[bytes, dict[str, str]]:
        commit = self._at(repository, revision)
        form = "json" not in self.headers.get("Content-Type", "")
        wanted = parse_qs(self.content.decode()) if form else json.loads(self.content)
        return _json([_entry(path, commit.files[path]) for path in wanted["paths"] if path in commit.files])

    def _file(self, repository: Repository, revision: str, path: str) -> tuple[bytes, dict[str, str]]:
        commit, user = self._at(repository, revision), self._user()
        if repository.gated and user != _owner(repository.id):
            raise _Error(403 if user else 401, "Access to this model is restricted", "GatedRepo")
        if path not in commit.files:
            raise _Error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.oid)
        blob = commit.files[path]
        return blob.content, {"ETag": f'"{blob.etag}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}

    # Answers

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        total = len(body)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if status == 200 and asked and "Accept-Ranges" in headers:
            first = int(asked[1]) if asked[1] else total - int(asked[2])
            last = min(int(asked[2]), total - 1) if asked[1] and asked[2] else total - 1
            status, body = 206, body[first : last + 1]
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{total}"}
        fault = self.fault
        if fault is not None and fault.short and self.command == "GET":
            body = body[: len(body) // 2]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2])
        if fault is not None and fault.drop and self.command == "GET":
            raise _Dropped
        if fault is not None and fault.seconds:
            self.wfile.flush()
            time.sleep(fault.seconds)
        self.wfile.write(body[len(body) // 2 :])


def _json(content: object) -> tuple[bytes, dict[str, str]]:
    return json.dumps(content, default=str).encode(), {"Content-Type": "application/json"}


def _owner(name: str) -> str:
    return name.partition("/")[0]


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    lfs = {"lfs": {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 130}} if blob.lfs else {}
    return {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid, **lfs}


def _apply(key: str, value: dict[str, Any], files: dict[str, Blob], lfs: dict[str, bytes]) -> None:
    """One line of a commit, onto the files that it changes."""
    path = value["path"]
    if key == "file":
        files[path] = Blob(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in lfs:
            raise _Error(400, f"{path} points to an object that was not uploaded")
        files[path] = Blob(lfs[value["oid"]], lfs=True)
    elif key == "deletedFile":
        del files[path]
    elif key == "deletedFolder":
        for name in [name for name in files if name.startswith(f"{path.rstrip('/')}/")]:
            del files[name]
    else:
        raise _Error(400, f"unknown operation {key}")


def _metadata(commit: Commit) -> dict[str, Any]:
    """What the README.md says at its top; {} where that cannot be read."""
    card = commit.files.get("README.md", Blob(b"")).content.decode(errors="replace").replace("\r\n", "\n")
    match = _METADATA.match(card)
    try:
        content = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        content = None
    return content if isinstance(content, dict) else {}


def _card_errors(card: str) -> list[str]:
    """What the Hub would refuse a README.md for."""
    match = _METADATA.match(card.replace("\r\n", "\n"))
    if match is None:
        return []
    try:
        metadata = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"the metadata is no YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata is no mapping"]
    errors = []
    if "tags" in metadata and not _are(metadata["tags"], str):
        errors.append('"tags" must be a list of strings')
    for name in ("license", "library_name", "pipeline_tag"):
        if name in metadata and not isinstance(metadata[name], str):
            errors.append(f'"{name}" must be a string')
    try:
        for model in metadata.get("model-index", []):
            _ = model["name"] + ""
            for result in model["results"]:
                _ = result["task"]["type"] + result["dataset"]["type"] + result["dataset"]["name"]
                _ = [metric["type"] + str(metric["value"]) for metric in result["metrics"]]
    except (KeyError, TypeError) as error:
        errors.append(f'"model-index" is malformed: {error!r}')
    return errors


def _are(items: Any, kind: type) -> bool:
    return isinstance(items, list) and all(isinstance(item, kind) for item in items)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """An empty Hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def connect(hub: Hub, monkeypatch: Any, token: str | None = TOKEN) -> None:
    """Points the client in this process to a Hub; its settings were read from the environment when it was imported."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)


@contextmanager
def loopback_hub(**repositories: Path) -> Iterator[dict[str, str]]:
    """Serves each folder as ``tester/NAME``; yields the environment for a process that is to use this Hub."""
    with running_hub() as hub:
        for name, folder in repositories.items():
            hub.add(f"{USER}/{name}", folder)
        yield hub.environment
