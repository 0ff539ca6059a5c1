"""Uploads a finished model: what goes to the Hub, how its card reads there, and what to do when it fails."""

import argparse
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    OIDCError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..model_index import plain
from .benchmarks import BENCHMARK_FILE, Benchmark, benchmark_file
from .remote_code import with_remote_code
from .results import RESULT_FILES, read_card, with_results

# Nothing else of the folder leaves the machine: no checkpoints, logs, pickles or code, nothing hidden or half-written.
_ROOT_FILES = (
    "model_index.json",
    "config.json",
    "eval.json",
    "training.json",
    "config.yaml",
    "README.md",
    "report.html",
)
_ROOT_PATTERNS = ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.json", "samples*.png")
_FOLDERS = ("model", "unet", "scheduler", "discriminator", "flow", "flow/discriminator-*")
_FOLDER_PATTERNS = ("*.json", "*.safetensors")

_TAGS = ("gan", "licfg")
_CARD = """\
---
library_name: licfg_hf
pipeline_tag: unconditional-image-generation
---

# {title}

Trained with licfg_hf; `training.json` holds every setting.
"""
_SNIPPET = """
## Use

```python
from licfg_hf import {pipeline}

pipeline = {pipeline}.from_pretrained(".")
images = pipeline(batch_size=4).images
```
"""
_HINT = re.compile(r"^\(Run it in this folder, or put the .* name in place of `\"\.\"`\.\)\n", re.MULTILINE)
_BLOCK = re.compile(r"^```(python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

_Files = dict[str, bytes | Path]


@dataclass(frozen=True)
class Published:
    """What lies on the Hub.

    Attributes:
        url: of the repository, or of the pull request.
        commit: id of the commit; None after a dry run.
        files: path in the repository -> bytes.
    """

    url: str
    commit: str | None
    files: dict[str, int]


def publish(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    message: str | None = None,
    benchmarks: Sequence[Benchmark] = (),
    remote_code: bool = False,
) -> Published:
    """Uploads a finished model folder as one commit; the repository and the branch are created where they are not.

    The folder stays as it is. The uploaded card names the repository in its code, carries the metrics of
    ``eval.json`` as model-index, and neither it nor the settings name folders of this machine.

    Args:
        folder: a pipeline, or one network.
        repo_id: ``owner/name`` of a model repository.
        private: of a new repository; None takes the owner's default.
        revision: branch; None is the main one.
        create_pr: open a pull request instead of committing to the branch.
        dry_run: contact nobody, only say what would be uploaded.
        message: of the commit.
        benchmarks: report metrics of ``eval.json`` to these leaderboards, too.
        remote_code: add code by which plain ``DiffusionPipeline`` opens the repository, where this library is
            installed and its code is trusted. Without it, a folder that was downloaded with such code loses it.

    Raises:
        InputError: the name is not one, the folder holds no finished model or not what an option needs, or the upload
            failed; then the message holds the command that finishes the job. One line.
    """
    folder = folder.expanduser()
    _require_name(repo_id)
    files = _collect(folder, repo_id, None if create_pr else revision, benchmarks, remote_code)
    sizes = {name: len(content) if isinstance(content, bytes) else _size(content) for name, content in files.items()}
    url = f"{constants.ENDPOINT}/{repo_id}"
    if dry_run:
        return Published(url, None, sizes)
    try:
        commit = _upload(files, repo_id, private, revision, create_pr, message or f"Upload {folder.resolve().name}")
    except (HTTPError, OSError, ValueError, RuntimeError, KeyError, OIDCError) as error:
        again = push_command(folder, repo_id, private, revision, create_pr, benchmarks, remote_code)
        raise InputError(
            f"{folder} was not published: {_reason(error, repo_id)}. Nothing local was changed; to finish: {again}"
        ) from error
    return Published(commit.pr_url or url, commit.oid, sizes)


def push_command(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    benchmarks: Sequence[Benchmark] = (),
    remote_code: bool = False,
) -> str:
    """The shell command that publishes a folder."""
    words = ["licfg-hf", "push", str(folder), "--repo_id", repo_id]
    words += ["--private"] if private else []
    words += ["--revision", revision] if revision else []
    words += ["--create_pr"] if create_pr else []
    for benchmark in benchmarks:
        words += ["--benchmark", benchmark.dataset, benchmark.task, benchmark.metric]
    words += ["--remote_code"] if remote_code else []
    return shlex.join(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``licfg-hf push``."""
    parser.add_argument("folder", metavar="FOLDER", help="finished model: a pipeline, or one network")
    parser.add_argument("--repo_id", required=True, metavar="OWNER/NAME", help="model repository; created if missing")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--revision", help="branch; created if missing (default: the main one)")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument(
        "--benchmark",
        nargs=3,
        action="append",
        default=[],
        metavar=("DATASET", "TASK", "METRIC"),
        help="report a metric of eval.json to a task of a benchmark data set OWNER/NAME of the Hub, by "
        f"{BENCHMARK_FILE}; may be given several times",
    )
    parser.add_argument(
        "--remote_code",
        action="store_true",
        help="add Python files by which DiffusionPipeline.from_pretrained(..., trust_remote_code=True) opens the "
        "repository where licfg_hf is installed; licfg_hf itself never runs them (default: no code)",
    )
    parser.add_argument("--dry_run", action="store_true", help="only list what would be uploaded; contacts nobody")


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf push`` was asked for, and prints what it did."""
    published = publish(
        Path(arguments.folder),
        arguments.repo_id,
        arguments.private,
        arguments.revision,
        arguments.create_pr,
        arguments.dry_run,
        benchmarks=[Benchmark(*words) for words in arguments.benchmark],
        remote_code=arguments.remote_code,
    )
    total = f"{len(published.files)} files, {sum(published.files.values()):,} bytes"
    if published.commit is not None:
        print(f"published: {published.url} ({total}, commit {published.commit[:8]})")
        return
    for name, size in published.files.items():
        print(f"{size:>15,}  {name}")
    where = f", branch {arguments.revision}" if arguments.revision else ""
    how = " as a pull request" if arguments.create_pr else ""
    print(f"would go to {published.url}{where}{how}: {total}; nothing was sent")


# What is uploaded


def _require_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"repo_id cannot be {repo_id!r}: {_one_line(str(error))}") from error
    if "/" not in repo_id:
        raise InputError(f"repo_id is OWNER/NAME, with your user name or organization as owner, not {repo_id!r}")


def _collect(
    folder: Path, repo_id: str, revision: str | None, benchmarks: Sequence[Benchmark], remote_code: bool
) -> _Files:
    """Path in the repository -> content, or the file where it goes as it is."""
    pipeline = _require_finished(folder)
    files: _Files = {str(path.relative_to(folder)): path for path in _chosen(folder)}
    for name, path in files.items():
        if name.endswith(".safetensors"):
            _require_readable(path)
    texts = {name: _read(path) for name, path in files.items() if name.endswith((".json", ".yaml"))}
    contents = {name: _parse(name, text) for name, text in texts.items()}
    training, result = contents.get("training.json"), contents.get("eval.json")
    if training is not None:
        _require_of_this_model(training, result)
    card = _read(files["README.md"]) if "README.md" in files else _plain_card(repo_id, pipeline)
    cleaner = _Cleaner(folder, [*contents.values(), *_settings(card)])
    published = {name: cleaner.value(content) for name, content in contents.items()}
    index, code = _index_and_code(published.get("model_index.json"), remote_code)
    published |= {} if index is None else {"model_index.json": index}
    files |= code
    for name, content in published.items():
        if content != contents[name]:
            files[name] = _dump(name, content).encode()
    if benchmarks:
        files[BENCHMARK_FILE] = benchmark_file(benchmarks, published.get("eval.json"))
    if "report.html" in files:
        files["report.html"] = cleaner.text(_read(files["report.html"])).encode()
    card = _card_for(repo_id, revision, cleaner.card(card))
    results = [cleaner.value(contents[name]) for name in RESULT_FILES if name in contents]
    files["README.md"] = (with_results(card, results) if results else card).encode()
    return dict(sorted(files.items()))


def _index_and_code(index: dict[str, Any] | None, remote_code: bool) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """``model_index.json``, and the Python files that it names; it may come from a repository that has such files."""
    index = None if index is None else plain(index)
    return with_remote_code(index) if remote_code else (index, {})


def _require_finished(folder: Path) -> str | None:
    """The class of the pipeline; None where the folder holds networks only.

    Raises:
        InputError: a finished model does not lie there; the message is one line.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    unfinished = f"{folder} holds no finished model: "
    if (folder / "model_index.json").is_file():
        index = _parse("model_index.json", _read(folder / "model_index.json"))
        try:
            index = plain(index) if isinstance(index, dict) else {}
        except ValueError as error:
            raise InputError(f"{unfinished}{error}") from error
        if not isinstance(index.get("_class_name"), str):
            raise InputError(f"{unfinished}its model_index.json names no pipeline")
        parts = [name for name, value in index.items() if isinstance(value, list) and value and value[0] is not None]
        missing = [name for name in parts if name not in _FOLDERS or not _is_part(folder / name)]
        if missing:
            raise InputError(f"{unfinished}its pipeline's part {missing[0]!r} is missing, or is none of licfg_hf's")
        return index["_class_name"]
    alone = (folder / "config.json").is_file() and any(folder.glob("diffusion_pytorch_model*.safetensors"))
    if not alone and not any(_is_part(folder / name) for name in ("model", "unet")):
        raise InputError(f"{unfinished}it has neither a pipeline (model_index.json) nor a network's weights")
    return None


def _is_part(place: Path) -> bool:
    return (place / "scheduler_config.json").is_file() or any(_visible(place, "*.safetensors"))


def _require_readable(weights: Path) -> None:
    """A weights file cut short does not fit its own header."""
    try:
        with safe_open(weights, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights} is damaged: {_one_line(str(error))}") from error


def _require_of_this_model(training: Any, result: Any) -> None:
    """A run that has gone on since its last export, and a result from before it, do not describe the weights."""
    step = training.get("step") if isinstance(training, dict) else None
    if step is None:
        raise InputError("training.json knows no step: the run has not finished; let it, then push")
    protocol = result.get("protocol") if isinstance(result, dict) else None
    measured = protocol.get("step") if isinstance(protocol, dict) else None
    if measured is not None and measured != step:
        raise InputError(
            f"eval.json is of step {measured} and the model of step {step}: evaluate it again, or remove eval.json"
        )


def _chosen(folder: Path) -> list[Path]:
    root = [folder / name for name in _ROOT_FILES if (folder / name).is_file()]
    root += [path for pattern in _ROOT_PATTERNS for path in _visible(folder, pattern)]
    places = [place for name in _FOLDERS for place in folder.glob(name) if place.is_dir()]
    return root + [path for place in places for pattern in _FOLDER_PATTERNS for path in _visible(place, pattern)]


def _visible(place: Path, pattern: str) -> list[Path]:
    return sorted(path for path in place.glob(pattern) if path.is_file() and path.name[0] != ".")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:  # line ends stay as they are
            return file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: it is no UTF-8 text") from error


def _parse(name: str, text: str) -> Any:
    try:
        return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{name} is damaged: {_one_line(str(error))}") from error


def _dump(name: str, content: Any) -> str:
    if name.endswith(".json"):
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


# How it reads there


class _Cleaner:
    """Takes the folders of this machine out of what is published: of a path, its last part stays.

    Args:
        folder: what is published.
        contents: settings and results; every string in them that is an absolute path is taken out everywhere.
    """

    def __init__(self, folder: Path, contents: Iterable[Any]):
        found = {str(folder.absolute()), str(folder.resolve())}
        for content in contents:
            found |= set(_paths(content))
        found |= {escape(path) for path in found}  # as report.html has them
        longest_first = sorted(filter(_is_machine_path, found), key=len, reverse=True)
        self._paths = re.compile("|".join(rf"(?<![\w/.:-]){re.escape(path)}" for path in longest_first) or "(?!)")

    def text(self, text: str) -> str:
        return self._paths.sub(lambda match: _last_part(match[0]), text)

    def value(self, content: Any) -> Any:
        """JSON or YAML content; ``output_dir`` keeps its last part even where it is relative."""
        if isinstance(content, dict):
            return {
                key: _last_part(item) if key == "output_dir" and isinstance(item, str) else self.value(item)
                for key, item in content.items()
            }
        if isinstance(content, list):
            return [self.value(item) for item in content]
        return self.text(content) if isinstance(content, str) else content

    def card(self, text: str) -> str:
        """A README.md: its settings, which may be folded over lines, and then what is left of it."""

        def clean(block: re.Match) -> str:
            settings = _block_settings(block)
            cleaned = self.value(settings)
            return block[0] if cleaned == settings else f"```yaml\n{_dump('.yaml', cleaned).strip()}\n```"

        return self.text(_BLOCK.sub(clean, text))


def _settings(card: str) -> list[Any]:
    return [_block_settings(block) for block in _BLOCK.finditer(card)]


def _block_settings(block: re.Match) -> Any:
    """Content of a YAML block in a card; None for other blocks and for what is no YAML."""
    if block[1] != "yaml":
        return None
    try:
        return yaml.safe_load(block[2])
    except yaml.YAMLError:
        return None


def _paths(content: Any) -> Iterable[str]:
    if isinstance(content, (dict, list)):
        for item in content.values() if isinstance(content, dict) else content:
            yield from _paths(item)
    elif isinstance(content, str) and _is_machine_path(content):
        yield content


def _is_machine_path(text: str) -> bool:
    """Whether a string is the absolute path of a file; ``/`` and a folder right below it tell nothing."""
    if "\n" in text:
        return False
    windows = PureWindowsPath(text)
    depth = len(windows.parts) if windows.drive else len(PurePosixPath(text).parts)
    return depth > 2 and (text.startswith(("/", "~")) or bool(windows.drive))


def _last_part(path: str) -> str:
    return (PureWindowsPath(path) if PureWindowsPath(path).drive else PurePosixPath(path)).name or path


def _plain_card(repo_id: str, pipeline: str | None) -> str:
    """A card for a folder that has none, such as ``best/`` of a run."""
    card = _CARD.format(title=repo_id.partition("/")[2])
    return card if pipeline is None else card + _SNIPPET.format(pipeline=pipeline)


def _card_for(repo_id: str, revision: str | None, text: str) -> str:
    """A README.md whose code loads the model from its repository, and whose tags are those it is found by."""
    place = json.dumps(repo_id) + ("" if revision in (None, "main") else f", revision={json.dumps(revision)}")

    def name(block: re.Match) -> str:
        if block[1] != "python":
            return block[0]
        return block[0].replace('from_pretrained("."', f"from_pretrained({place}")

    text = text.replace('load_flow(".")', f"load_flow({place})")
    card = read_card(_HINT.sub("", _BLOCK.sub(name, text)))
    known = card.data.tags or []
    card.data.tags = [*known, *(tag for tag in _TAGS if tag not in known)]
    return str(card)


# The upload and its failures


def _upload(
    files: _Files, repo_id: str, private: bool | None, revision: str | None, create_pr: bool, message: str
) -> CommitInfo:
    if constants.is_offline_mode():
        raise OfflineModeIsEnabled
    if get_token() is None:
        raise InputError("no token of the Hub is known here: run `hf auth login`, or set HF_TOKEN")
    api = HfApi(library_name="licfg_hf")
    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    _require_repository(api, repo_id, private)
    if revision not in (None, "main") and not create_pr and not revision.startswith("refs/"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    return api.create_commit(repo_id, operations, commit_message=message, revision=revision, create_pr=create_pr)


def _require_repository(api: HfApi, repo_id: str, private: bool | None) -> None:
    """Creates the repository unless it is there."""
    try:
        known = api.model_info(repo_id, expand=["private"])
    except GatedRepoError:  # there, and the right to write is another matter
        return
    except RepositoryNotFoundError:
        try:
            api.create_repo(repo_id, private=private)
        except HfHubHTTPError as error:
            if error.response.status_code == 409:
                raise InputError(
                    f"the name {repo_id} is taken, by another owner or another kind of repository: choose another one"
                ) from error
            raise
        return
    if private and known.private is False:
        raise InputError(f"{repo_id} exists and is public: make it private on the Hub first, or leave out --private")


def _reason(error: Exception, repo_id: str) -> str:
    """Why an upload failed and what helps, in one line."""
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # of an upload in a thread
        error = error.__cause__
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on: unset HF_HUB_OFFLINE"
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, repo_id)
    if isinstance(error, (HTTPError, ConnectionError)):
        return f"no connection to {constants.ENDPOINT} ({_one_line(str(error)) or type(error).__name__})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'} cannot be read: {error.strerror}"
    return f"the Hub and its client do not get on ({_one_line(str(error)) or type(error).__name__})"


def _refusal(error: HfHubHTTPError, repo_id: str) -> str:
    status, words = error.response.status_code, _one_line(error.server_message or "")
    said = f" ({words})" if words else ""
    known = {
        401: "the Hub does not accept the token: run `hf auth login`, or set HF_TOKEN to one with the right to write",
        403: f"the token has no right to do this to {repo_id}: use one with the right to write, or an owner of yours",
        404: f"{repo_id} or the branch is not there, or the token may not see it",
        409: f"{repo_id} is being changed by somebody else: try again",
        429: "the Hub wants fewer requests: wait some minutes",
    }
    if status in known:
        return f"{known[status]}{said}"
    return f"the Hub failed with {status}{said}: try later" if status >= 500 else f"the Hub answered {status}{said}"


def _one_line(text: str) -> str:
    """Text from elsewhere, fit for a terminal: its first 200 printable characters."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= 200 else f"{words[:199]}…"
