"""Uploads a finished model, and says what to do when that fails."""

import argparse
import json
import os
import shlex
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from ..errors import InputError
from ..files import user_path
from ..signals import SignalHandler
from ..text import one_line, printable, require_repository
from .access import FAILURES, reason, require_branch_name, require_token
from .benchmarks import BENCHMARK_FILE, Benchmark
from .contents import Files, collect, could_be_ours, left_out
from .results import read_card

_LISTED = 10  # files that stay here


@dataclass(frozen=True)
class Published:
    """A model as it lies on the Hub.

    Attributes:
        url: of the repository, or of the pull request.
        commit: id of the commit; None after a dry run.
        files: path in the repository -> bytes.
        changed: whether it was not there before; False where there was nothing to change.
        removed: files of an earlier push that were removed, because the model does not have them any more.
        left: files and folders of the model's folder that are never sent.
    """

    url: str
    commit: str | None
    files: dict[str, int]
    changed: bool = True
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = f"{len(self.files)} files, {sum(self.files.values()):,} bytes"
        if self.commit is None:
            return f"would go to {self.url}: {total}"
        if not self.changed:
            return f"nothing to change: {self.url} has it already ({total}, commit {self.commit[:8]})"
        removed = f"; removed there: {', '.join(self.removed)}" if self.removed else ""
        return f"published: {self.url} ({total}, commit {self.commit[:8]}){removed}"


def publish(
    folder: str | Path,
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
    ``eval.json`` as model-index, and neither it nor the settings name folders of this machine. Files of an earlier
    push that this model does not have are removed from the branch; no other file there is.

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
        SystemExit: SIGTERM or Ctrl-C during the upload; that command was printed.
    """
    folder = user_path(folder)
    require_repository(repo_id)
    require_branch_name(revision)
    if message is not None and not message.strip():
        raise InputError("the message of the commit is empty: write one, or leave --message out")
    files = collect(folder, repo_id, None if create_pr else revision, benchmarks, remote_code)
    left = tuple(left_out(folder, files))
    again = push_command(folder, repo_id, private, revision, create_pr, benchmarks, remote_code, message)
    try:
        sizes = {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in files.items()}
        if dry_run:
            return Published(f"{constants.ENDPOINT}/{repo_id}", None, sizes, left=left)
        with _stopped_says(f"stopped during the upload of {folder}. Nothing local was changed; to finish: {again}"):
            url, commit, head, removed = _upload(
                files, repo_id, private, revision, create_pr, message or f"Upload {folder.resolve().name}"
            )
    except FAILURES as error:
        raise InputError(
            f"{folder} was not published: {reason(error, repo_id)}. Nothing local was changed; to finish: {again}"
        ) from error
    return Published(url, commit, sizes, commit != head, removed, left)


def push_command(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    benchmarks: Sequence[Benchmark] = (),
    remote_code: bool = False,
    message: str | None = None,
) -> str:
    """The shell command that publishes a folder."""
    words = ["licfg-hf", "push", str(folder), "--repo_id", repo_id]
    words += [] if private is None else ["--private" if private else "--no-private"]
    words += ["--revision", revision] if revision else []
    words += ["--create_pr"] if create_pr else []
    words += ["--message", message] if message else []
    for benchmark in benchmarks:
        words += ["--benchmark", benchmark.dataset, benchmark.task, benchmark.metric]
    words += ["--remote_code"] if remote_code else []
    return shlex.join(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``licfg-hf push``."""
    parser.add_argument("folder", metavar="FOLDER", help="finished model: a pipeline, or one network")
    parser.add_argument(
        "--repo_id", required=True, metavar="OWNER/NAME", help="model repository; it is created if missing"
    )
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="make a new repository private, or public (default: its owner's setting on the Hub)",
    )
    parser.add_argument("--revision", help="branch; it is created if missing (default: the main one)")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--message", help="message of the commit (default: Upload FOLDER)")
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
    parser.add_argument(
        "--dry_run", action="store_true", help="only list what would be uploaded; the Hub is not contacted"
    )


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf push`` was asked for, and prints what it did."""
    if not arguments.folder:
        raise InputError('FOLDER is empty: name the model\'s folder, or "." for the current one')
    published = publish(
        arguments.folder,
        arguments.repo_id,
        arguments.private,
        arguments.revision,
        arguments.create_pr,
        arguments.dry_run,
        arguments.message,
        [Benchmark(*words) for words in arguments.benchmark],
        arguments.remote_code,
    )
    more = f" and {len(published.left) - _LISTED} more" if len(published.left) > _LISTED else ""
    left = f"stays here: {printable(', '.join(published.left[:_LISTED]) or 'nothing')}{more}"
    if published.commit is not None:
        print(f"{published}\n{left}")
        return
    for name, count in published.files.items():
        print(f"{count:>15,}  {name}")
    print(left)
    where = f", branch {arguments.revision}" if arguments.revision else ""
    how = " as a pull request" if arguments.create_pr else ""
    print(
        f"{published}{where}{how}. Dry run: nothing was uploaded. The Hub was not contacted, so files that would be "
        "deleted there are not listed"
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


def _upload(
    files: Files, repo_id: str, private: bool | None, revision: str | None, create_pr: bool, message: str
) -> tuple[str, str, str | None, tuple[str, ...]]:
    """Sends the files; returns the address, the commit, the one before it, and what was removed."""
    require_token()
    api = HfApi(library_name="licfg_hf")
    additions = [CommitOperationAdd(name, one if isinstance(one, bytes) else str(one)) for name, one in files.items()]
    _require_card(files["README.md"])
    _require_repository(api, repo_id, private)
    if revision is not None and revision != "main" and not create_pr and not revision.startswith("refs/"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    try:
        info = api.model_info(repo_id, revision=revision)
        head, known = info.sha, [file.rfilename for file in info.siblings or []]
    except GatedRepoError:
        head, known = None, []
    removed = tuple(sorted(path for path in known if could_be_ours(path) and path not in files))
    # Not by upload_folder: it may split a folder into several commits, and a branch must never hold half a model.
    commit = api.create_commit(
        repo_id,
        [*additions, *(CommitOperationDelete(path) for path in removed)],
        commit_message=message,
        revision=revision,
        create_pr=create_pr,
        parent_commit=head,  # what is removed was looked up there
    )
    return commit.pr_url or f"{constants.ENDPOINT}/{repo_id}", commit.oid, head, removed


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
                    f"the name {repo_id} is taken by another owner or another kind of repository: choose another one"
                ) from error
            raise
        return
    if private and known.private is False:
        raise InputError(f"{repo_id} exists and is public: make it private on the Hub first, or leave out --private")
