"""The leaderboard: Hub models, local runs and published figures, in order only where they can be compared."""

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from PIL import Image

from ..data.config import names_of
from ..errors import InputError
from ..evaluation.metrics import METRICS
from ..evaluation.result import Result, read_result
from ..files import require_writable, user_path, write_text
from ..text import is_repository, last_part, one_line, require_repository
from .access import FAILURES, reason, require_token
from .hub_models import TAG, hub_entries
from .leaderboard_page import WRITERS, to_html, to_json
from .ranking import Entry, Leaderboard, Omissions, Query, entry_of, measured_rankings, published_rankings

_PAGE = "leaderboard.html"
_PICTURES = ("samples.png", "report/samples.png")


def build(
    dataset: str, metric: str, runs: Sequence[Path], hub: bool, baselines: bool, public: bool = False
) -> Leaderboard:
    """Collects a leaderboard; InputError where the metric is unknown, or a run has no result or a damaged one.

    Results are of the data set if their reference is called so (of a path, the last part counts), or if its content is
    that of a run here which is. Contents that differ have no common order, and a note names them. Where the ``hub``
    cannot be reached, a note says so. A ``public`` one has no models that only the user may see, and no local paths.
    """
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
    names = names_of(dataset)
    omissions, results = Omissions(), [(run, read_result(run)) for run in runs]
    query = Query(names, _data_name(names[0], public), metric, public)
    known = {one.protocol.reference_fingerprint for _, one in results if query.is_of(one.protocol)}
    query = replace(query, fingerprints=frozenset({dataset, *known}))
    entries = _local_entries(results, query, omissions) + (hub_entries(query, omissions) if hub else [])
    contents = list(dict.fromkeys(one.measured.reference_fingerprint for one in entries))
    if len(contents) > 1:
        shown = ", ".join(one_line(content, 40) for content in contents[:4]) + (", …" if len(contents) > 4 else "")
        omissions.own.append(
            f"{len(contents)} sets of images with different content are called {query.shown} and have no common "
            f"order; --dataset takes the fingerprint of one: {shown}"
        )
    rankings = measured_rankings(entries, metric)
    rankings += published_rankings(names[0], metric) if baselines else []
    return Leaderboard(query.shown, metric, tuple(rankings), omissions.lines())


def _local_entries(runs: Sequence[tuple[Path, Result]], query: Query, omissions: Omissions) -> list[Entry]:
    """Entries of runs, with a picture of their samples; what does not belong on the leaderboard becomes a note."""
    entries, seen = [], set()
    for run, result in runs:
        folder = run if run.is_dir() else run.parent
        name = one_line(folder.resolve().name if query.public else run)
        if run.resolve() in seen:
            omissions.own.append(f"{name} was named twice")
        elif not query.is_of(result.protocol):
            reference = _data_name(result.protocol.reference, query.public)
            omissions.own.append(f"{name} was measured against {reference}: left out")
        elif query.metric not in result.metrics:
            omissions.own.append(f"{name} has no {query.metric}: left out")
        else:
            shown = last_part(result.name) if query.public else result.name
            entries.append(entry_of("local", shown, result, query, picture=thumbnail(folder)))
        seen.add(run.resolve())
    return entries


def _data_name(name: str, public: bool) -> str:
    """A data set as people see it; in public without the folders that it lies in, but with the owner on the Hub."""
    on_the_hub = is_repository(name) and not Path(name).exists()
    return one_line(name if on_the_hub or not public else last_part(name))


def thumbnail(folder: Path) -> bytes | None:
    """The upper left 256 pixels of a run's sample grid as a JPEG file; None where no grid can be read."""
    path = next((folder / name for name in _PICTURES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > 2**25:
                return None
            part = picture.convert("RGB").crop((0, 0, min(256, picture.width), min(256, picture.height)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    part.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def push_space(leaderboard: Leaderboard, repository: str) -> str:
    """Publishes the page as a static Space, with its data as ``data.json``; returns the Space's address.

    A Space that is there gets another commit.
    """
    contents = {"index.html": to_html(leaderboard), "data.json": to_json(leaderboard)}
    operations = [CommitOperationAdd(name, text.encode("utf-8")) for name, text in contents.items()]
    api = HfApi(library_name="licfg_hf")
    try:
        try:
            url = str(api.create_repo(repository, repo_type="space", space_sdk="static", exist_ok=True))
        except KeyError as error:  # something of this name exists, and it has no address as a Space
            raise InputError("another kind of repository has this name: choose another one") from error
        api.create_commit(repository, operations, repo_type="space", commit_message="Update the leaderboard")
    except FAILURES as error:
        raise InputError(f"the Space {repository} was not updated: {reason(error, repository)}") from error
    return url


def _format(name: str) -> str:
    if name in ("csv", "markdown"):
        raise argparse.ArgumentTypeError(f"{name} is no longer written; json holds the same figures, for any program")
    return name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command's parser."""
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="eval.json file, or a folder that holds one")
    add(
        "--dataset",
        default="cifar10",
        help="reference data: a preset, a Hub id, a folder's name, or a fingerprint (default: %(default)s)",
    )
    add("--metric", choices=METRICS, default="fid", help="what to rank by (default: %(default)s)")
    add(
        "--hub",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"show the Hub's models with the tag {TAG}, in a file or a Space public ones only (default: yes)",
    )
    add("--no-baselines", dest="baselines", action="store_false", help="leave published figures out")
    formats = "format of the output (default: %(default)s)"
    add("--format", type=_format, choices=WRITERS, default="table", help=formats)
    add("--output", help=f"file to write (default: {_PAGE} for html, else the terminal)")
    add("--push_space", metavar="USER/NAME", help="also publish the page as a static Space")


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf leaderboard`` is asked for; InputError where it cannot."""
    space, output = arguments.push_space, None
    if arguments.output is not None or arguments.format == "html":
        output = user_path(_PAGE if arguments.output is None else arguments.output)
        require_writable(output, "--output", folder=False)
    if space is not None:
        require_repository(space, "--push_space")
        require_token()
    runs = [user_path(name) for name in arguments.runs]
    public = output is not None or space is not None
    leaderboard = build(arguments.dataset, arguments.metric, runs, arguments.hub, arguments.baselines, public)
    if not leaderboard.groups:
        _say(leaderboard.notes)
        asked = f"{leaderboard.metric} on {leaderboard.dataset}"
        raise InputError(f"there is nothing to show: no run, Hub model or publication has {asked}")
    text = WRITERS[arguments.format](leaderboard)
    if output is None:
        print(text, end="")
    else:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_text(output, text)
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from error
        print(f"leaderboard in {output}")
        _say(leaderboard.notes)
    if space is not None:
        print(f"Space {push_space(leaderboard, space)}", file=sys.stderr)


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
