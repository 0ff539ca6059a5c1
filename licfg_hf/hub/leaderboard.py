"""The leaderboard: Hub models, local runs and published figures, in order only where they can be compared."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..data.presets import PRESETS
from ..errors import InputError
from ..evaluation.protocol import METRICS
from ..evaluation.result import read_result
from ..files import require_writable, user_path, write_text
from .access import require_token
from .baselines import load_baselines, published_groups
from .board import Board, Notes, one_line
from .entries import Wanted, measured_groups
from .hub_models import TAG, hub_entries
from .leaderboard_page import WRITERS
from .local_runs import data_name, local_entries
from .space import push_space, require_space_name

_PAGE = "leaderboard.html"


def build(dataset: str, metric: str, runs: Sequence[Path], hub: bool, baselines: bool, public: bool = False) -> Board:
    """Collects a leaderboard.

    Results are of the data set if their reference is called so (of a path, the last part counts), or if its content is
    that of a run here which is. Contents that differ have no common order, and a note names them.

    Args:
        dataset: name of a preset, its Hub id, a reference as the evaluation was given it, or a content's fingerprint.
        metric: key of ``METRICS``.
        runs: ``eval.json`` files, or folders that hold one.
        hub: ask the Hub for models with the tag ``licfg``. Where it cannot be reached, a note says so.
        baselines: show published figures.
        public: others will see it: no models that only the user may see, and of local paths only the last part.

    Raises:
        InputError: the metric is unknown, or a run has no result or a damaged one.
    """
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
    names, notes = _names_of(dataset), Notes()
    results = [(run, read_result(run)) for run in runs]
    wanted = Wanted(names, data_name(names[0], public), metric, public)
    known = {one.protocol.reference_fingerprint for _, one in results if wanted.is_of(one.protocol)}
    wanted = replace(wanted, fingerprints=frozenset({dataset, *known}))
    entries = local_entries(results, wanted, notes) + (hub_entries(wanted, notes) if hub else [])
    contents = list(dict.fromkeys(entry.protocol.reference_fingerprint for entry in entries))
    if len(contents) > 1:
        shown = ", ".join(one_line(content, 40) for content in contents[:4]) + (", …" if len(contents) > 4 else "")
        notes.own.append(
            f"{len(contents)} sets of images with different content are called {wanted.shown} and have no common "
            f"order; --dataset takes the fingerprint of one: {shown}"
        )
    groups = measured_groups(entries, metric)
    groups += published_groups(load_baselines(), names[0], metric) if baselines else []
    return Board(wanted.shown, metric, tuple(groups), notes.lines())


def _names_of(dataset: str) -> tuple[str, ...]:
    """All names of a data set, that of its preset first."""
    for name, preset in PRESETS.items():
        if dataset in (name, preset.data):
            return name, preset.data
    return (dataset,)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command's parser."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="eval.json file, or a folder that holds one")
    parser.add_argument(
        "--dataset",
        default="cifar10",
        help="reference data: a preset, a Hub id, a folder's name, or a fingerprint (default: %(default)s)",
    )
    parser.add_argument("--metric", choices=METRICS, default="fid", help="what to rank by (default: %(default)s)")
    parser.add_argument(
        "--hub",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"show the Hub's models with the tag {TAG}, in a file or a Space public ones only (default: yes)",
    )
    parser.add_argument("--no-baselines", dest="baselines", action="store_false", help="leave published figures out")
    parser.add_argument("--format", choices=WRITERS, default="table", help="(default: %(default)s)")
    parser.add_argument("--output", help=f"file to write (default: {_PAGE} for html, else the terminal)")
    parser.add_argument("--push_space", metavar="USER/NAME", help="also publish the page as a static Space")


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf leaderboard`` is asked for.

    Raises:
        InputError: there is nothing to show, a run cannot be read, the file cannot be written, or the Space cannot be
            updated.
    """
    named, space = arguments.output, arguments.push_space
    if named is None and arguments.format == "html":
        named = _PAGE
    output = None if named is None else user_path(named)
    if output is not None:
        require_writable(output, "--output", folder=False)
    if space is not None:
        require_space_name(space)
        require_token()
    runs = [user_path(name) for name in arguments.runs]
    public = output is not None or space is not None
    board = build(arguments.dataset, arguments.metric, runs, arguments.hub, arguments.baselines, public)
    if not board.groups:
        _say(board.notes)
        raise InputError(
            f"there is nothing to show: no run, Hub model or publication has {board.metric} on {board.dataset}"
        )
    text = WRITERS[arguments.format](board)
    if output is None:
        print(text, end="")
    else:
        _write(output, text)
        print(f"leaderboard in {output}")
    if arguments.format == "csv" or output is not None:
        _say(board.notes)
    if space is not None:
        print(f"Space {push_space(board, space)}", file=sys.stderr)


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
