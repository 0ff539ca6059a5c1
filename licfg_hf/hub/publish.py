"""Uploads a finished model, and says what to do when that fails."""

import argparse
import json
import os
import re
import shlex
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from ..errors import InputError
from ..files import user_path
from ..signals import SignalHandler
from ..text import few, one_line, printable, require_repository
from .access import FAILURES, reason, require_token
from .card import BENCHMARK_FILE, Benchmark, read_card
from .contents import Files, collect, could_be_ours, left_out

_BRANCH = re.compile(r"(?=.{1,240}$)(?!-|/|@$)(?!.*(\.\.|//|@\{|\.lock$|[./]$))[^\s~^:?*\[\\\x00-\x1f\x7f]+")


def _option(default: Any, words: str, **more: Any) -> Any:
    """A field that is also an option of the command, and what ``--help`` says of it."""
    return field(default=default, metadata={"help": words, **more})


@dataclass(frozen=True)
class Destination:
    """Where a model goes on the Hub, and how; see ``licfg-hf push --help``. InputError where that cannot be."""

    repo_id: str
    private: bool | None = _option(
        None,
        "make a new repository private, or public (default: its owner's setting on the Hub)",
        action=argparse.BooleanOptionalAction,
    )
    revision: str | None = _option(None, "branch; it is created if missing (default: the main one)")
    create_pr: bool = _option(False, "open a pull request instead of committing", action="store_true")
    message: str | None = _option(None, "message of the commit (default: Upload FOLDER)")
    benchmarks: Sequence[Benchmark] = ()  # report metrics of ``eval.json`` to these leaderboards, too
    # Without it, a folder that was downloaded with such code loses it.
    remote_code: bool = _option(
        False,
        "add Python files by which DiffusionPipeline.from_pretrained(..., trust_remote_code=True) opens the "
        "repository where licfg_hf is installed; licfg_hf itself never runs them (default: no code)",
        action="store_true",
    )

    def __post_init__(self) -> None:
        require_repository(self.repo_id)
        if self.revision is not None and not _BRANCH.fullmatch(self.revision):
            rule = "at most 240 letters, no spaces, no '..', no ~^:?*[\\ and is not @"
            raise InputError(f"revision cannot be {self.revision!r}: the name of a branch has {rule}")
        if self.message is not None and not self.message.strip():
            raise InputError("the message of the commit is empty: write one, or leave --message out")

    def command(self, folder: Path) -> str:
        """The shell command that publishes a folder there."""
        words = ["licfg-hf", "push", str(folder), "--repo_id", self.repo_id]
        words += [] if self.private is None else ["--private" if self.private else "--no-private"]
        words += ["--revision", self.revision] if self.revision else []
        words += ["--create_pr"] if self.create_pr else []
        words += ["--message", self.message] if self.message else []
        for benchmark in self.benchmarks:
            words += ["--benchmark", benchmark.dataset, benchmark.task, benchmark.metric]
        words += ["--remote_code"] if self.remote_code else []
        return shlex.join(words)


@dataclass(frozen=True)
class Published:
    """A model as it lies on the Hub."""

    url: str  # of the repository, or of the pull request
    commit: str | None  # None after a dry run
    files: dict[str, int]  # path in the repository -> bytes
    changed: bool = True  # False where there was nothing to change
    removed: tuple[str, ...] = ()  # files of an earlier push that the model does not have any more
    left: tuple[str, ...] = ()  # files and folders of the model's folder that are never sent

    def __str__(self) -> str:
        total = f"{len(self.files)} files, {sum(self.files.values()):,} bytes"
        if self.commit is None:
            return f"would go to {self.url}: {total}"
        if not self.changed:
            return f"nothing to change: {self.url} has it already ({total}, commit {self.commit[:8]})"
        removed = f"; removed there: {', '.join(self.removed)}" if self.removed else ""
        return f"published: {self.url} ({total}, commit {self.commit[:8]}){removed}"


def publish(folder: str | Path, repo_id: str, dry_run: bool = False, **options: Any) -> Published:
    """Uploads a finished model folder as one commit; the repository and the branch are created where they are not.

    The folder stays as it is. The uploaded card names the repository in its code, carries the metrics of
    ``eval.json`` as model-index, and neither it nor the settings name folders of this machine. Files of an earlier
    push that this model does not have are removed from the branch; no other file there is.

    A ``dry_run`` contacts nobody and only says what would be uploaded; ``options`` are others of ``Destination``.

    Raises:
        InputError: the name is not one, the folder holds no finished model or not what an option needs, or the upload
            failed; then the message holds the command that finishes the job. One line.
        SystemExit: SIGTERM or Ctrl-C during the upload; that command was printed.
    """
    folder = user_path(folder)
    to = Destination(repo_id, **options)
    try:
        files = collect(folder, to)
    except OSError as error:
        raise InputError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    again = f"Nothing local was changed; to finish: {to.command(folder)}"
    try:
        sizes = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in files.items()}
        published = Published(f"{constants.ENDPOINT}/{repo_id}", None, sizes, left=tuple(left_out(folder, files)))
        if dry_run:
            return published
        with _stopped_says(f"stopped during the upload of {folder}. {again}"):
            return _upload(files, to, published, f"Upload {folder.resolve().name}")
    except FAILURES as error:
        raise InputError(f"{folder} was not published: {reason(error, repo_id)}. {again}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``licfg-hf push``."""
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="finished model: a pipeline, or one network")
    add("--repo_id", required=True, metavar="OWNER/NAME", help="model repository; it is created if missing")
    for item in fields(Destination):
        if item.metadata:
            add(f"--{item.name}", **item.metadata)
    add(
        "--benchmark",
        nargs=3,
        action="append",
        default=[],
        metavar=("DATASET", "TASK", "METRIC"),
        help="report a metric of eval.json to a task of a benchmark data set OWNER/NAME of the Hub, by "
        f"{BENCHMARK_FILE}; may be given several times",
    )
    add("--dry_run", action="store_true", help="only list what would be uploaded; the Hub is not contacted")


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf push`` was asked for, and prints what it did."""
    if not arguments.folder:
        raise InputError('FOLDER is empty: name the model\'s folder, or "." for the current one')
    options = {item.name: getattr(arguments, item.name) for item in fields(Destination) if item.metadata}
    options["benchmarks"] = [Benchmark(*words) for words in arguments.benchmark]
    published = publish(arguments.folder, arguments.repo_id, arguments.dry_run, **options)
    left = f"stays here: {printable(few(published.left, 10) or 'nothing')}"
    if published.commit is not None:
        print(f"{published}\n{left}")
        return
    for name, count in published.files.items():
        print(f"{count:>15,}  {name}")
    where = f", branch {arguments.revision}" if arguments.revision else ""
    how = " as a pull request" if arguments.create_pr else ""
    print(
        f"{left}\n{published}{where}{how}. Dry run: nothing was uploaded. The Hub was not contacted, so files that "
        "would be deleted there are not listed"
    )


def _stopped_says(line: str) -> SignalHandler:
    """Context in which the first SIGTERM or Ctrl-C prints a line at once and raises SystemExit; a second one kills.

    At once, because the client's threads may take minutes to come to their end.
    """

    def stop(number: int) -> None:
        handler.end_at_once()
        os.write(2, f"{line}\n".encode())  # print might be in the middle of a line of its own
        raise SystemExit(128 + number)

    handler = SignalHandler((signal.SIGTERM, signal.SIGINT), stop)
    return handler


def _upload(files: Files, to: Destination, published: Published, title: str) -> Published:
    """Sends the files."""
    require_token()
    api = HfApi(library_name="licfg_hf")
    additions = [CommitOperationAdd(name, content) for name, content in files.items()]
    _require_card(files["README.md"])
    _require_repository(api, to)
    revision = to.revision
    if revision is not None and revision != "main" and not to.create_pr and not revision.startswith("refs/"):
        api.create_branch(to.repo_id, branch=revision, exist_ok=True)
    try:
        info = api.model_info(to.repo_id, revision=revision)
        head, known = info.sha, [file.rfilename for file in info.siblings or []]
    except GatedRepoError:
        head, known = None, []
    removed = tuple(sorted(path for path in known if could_be_ours(path) and path not in files))
    # Not by upload_folder: it may split a folder into several commits, and a branch must never hold half a model.
    commit = api.create_commit(
        to.repo_id,
        [*additions, *(CommitOperationDelete(path) for path in removed)],
        commit_message=to.message or title,
        revision=revision,
        create_pr=to.create_pr,
        parent_commit=head,  # what is removed was looked up there
    )
    url = commit.pr_url or published.url
    return replace(published, url=url, commit=commit.oid, changed=commit.oid != head, removed=removed)


def _require_card(content: bytes | Path) -> None:
    """Asks the Hub whether it takes the card, before anything is made there."""
    text = content.decode() if isinstance(content, bytes) else content.read_text(encoding="utf-8")
    try:
        read_card(text).validate()
    except ValueError as error:
        said = str(error)
        with suppress(ValueError, KeyError, TypeError):
            said = "; ".join(one["message"] for one in json.loads(said)["errors"])
        raise InputError(f"the Hub does not take its README.md: {one_line(said)}") from error


def _require_repository(api: HfApi, to: Destination) -> None:
    """Creates the repository unless it is there."""
    try:
        known = api.model_info(to.repo_id, expand=["private"])
    except GatedRepoError:  # there, and the right to write is another matter
        return
    except RepositoryNotFoundError:
        try:
            api.create_repo(to.repo_id, private=to.private)
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            taken = "is taken by another owner or another kind of repository"
            raise InputError(f"the name {to.repo_id} {taken}: choose another one") from error
        return
    if to.private and known.private is False:
        raise InputError(
            f"{to.repo_id} exists and is public: make it private on the Hub first, or leave out --private"
        )
