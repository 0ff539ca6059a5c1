"""The leaderboard: Hub models, local runs and published figures, in order only where they can be compared.

What Hub models say about themselves comes from strangers. An entry is either checked from end to end or left out with
a note; nothing of it is executed, and no entry can keep the others from being shown.
"""

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..evaluation.protocol import METRICS, Protocol, differences, in_words, label

TAG = "licfg"  # of every model that this package publishes
FORMATS = ("table", "markdown", "csv", "json", "html")
_PAGE = "leaderboard.html"
_MOST_MODELS = 5_000
_MOST_ROWS = 20  # of one repository
_MOST_NOTES = 40
_LONGEST = 300  # characters of a text in a protocol
_LARGEST = 10**15  # number in a protocol; NaN and infinity are not below it
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_CHECKED = ("code", "paper", "page", "review")


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        source: "hub", "local" or "published".
        name: of the model or method; one printable line, from outside.
        value: of the board's metric.
        std, low, high: its spread, None where it is not known.
        setting: what tells rows of one name apart, "" for nothing.
        place: 1 for the best of the group, the same for equal values; None where there is no order.
        link: web address of the model or publication, None for none.
        details: what the figure depends on, as pairs of a name and a text.
        picture: samples, as a PNG or JPEG file; None for none.
    """

    source: str
    name: str
    value: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    setting: str = ""
    place: int | None = None
    link: str | None = None
    details: tuple[tuple[str, str], ...] = ()
    picture: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Group:
    """Figures of one protocol, best first.

    Attributes:
        title: short name of the protocol.
        label: name of the metric with these features.
        words: the protocol as a sentence.
        measured: measured by this package's evaluation, with its whole protocol known.
        ranked: its rows have an order.
        differs: why it cannot be compared with the first measured group, a line each; empty for that group.
    """

    title: str
    label: str
    words: str
    measured: bool
    ranked: bool
    rows: tuple[Row, ...]
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """A leaderboard.

    Attributes:
        dataset: name of the reference data.
        metric: key of ``METRICS``.
        groups: measured ones first.
        notes: what was left out and why, a line each.
    """

    dataset: str
    metric: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Which way the metric is better."""
        return METRICS[self.metric].higher_is_better


def build(dataset: str, metric: str, runs: Sequence[Path], hub: bool, baselines: bool) -> Board:
    """Collects a leaderboard.

    Args:
        dataset: name of a preset, its Hub id, or a reference as the evaluation was given it.
        metric: key of ``METRICS``.
        runs: ``eval.json`` files, or folders that hold one.
        hub: ask the Hub for models with the tag ``licfg``. Where it cannot be reached, a note says so.
        baselines: show published figures.

    Raises:
        InputError: the metric is unknown, or a run has no result or a damaged one.
    """
    if metric not in METRICS:
        raise InputError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
    names = _names_of(dataset)
    notes: list[str] = []
    measured = [*_local_entries(runs, names, metric, notes), *(_hub_entries(names, metric, notes) if hub else ())]
    groups = _measured_groups(measured, metric)
    groups += _published_groups(load_baselines(), names[0], metric) if baselines else []
    if len(notes) > _MOST_NOTES:
        notes[_MOST_NOTES:] = [f"and {len(notes) - _MOST_NOTES} more notes of this kind"]
    return Board(one_line(names[0]), metric, tuple(groups), tuple(notes))


def one_line(text: object, longest: int = _LONGEST) -> str:
    """Text from outside as one line of printable characters, cut after ``longest``.

    Control characters, lone surrogates and marks that turn the direction of writing become blanks.
    """
    start = str(text)[: 4 * longest]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in start).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _names_of(dataset: str) -> tuple[str, ...]:
    """All names of a data set, that of its preset first."""
    from ..data.presets import PRESETS

    for name, preset in PRESETS.items():
        if dataset in (name, preset.data):
            return name, preset.data
    return (dataset,)


@dataclass(frozen=True)
class _Entry:
    """A measured row and its protocol, in which the data set has the name of its preset."""

    row: Row
    protocol: Protocol


def _local_entries(runs: Sequence[Path], names: Sequence[str], metric: str, notes: list[str]) -> list[_Entry]:
    from ..evaluation.compare import read_result

    entries, seen = [], set()
    for run in runs:
        result = read_result(run)
        source = one_line(run)
        if run.resolve() in seen:
            notes.append(f"{source} was named twice")
        elif result.protocol.reference not in names:
            notes.append(f"{source} was measured against {one_line(result.protocol.reference)}: left out")
        elif metric not in result.metrics:
            notes.append(f"{source} has no {metric}: left out")
        else:
            folder = run if run.is_dir() else run.parent
            _require_presentable(result.protocol, source)
            row = _row("local", one_line(result.name), result, metric)
            entries.append(_Entry(replace(row, picture=thumbnail(folder)), _named(result.protocol, names[0])))
        seen.add(run.resolve())
    return entries


def _row(source: str, name: str, result: Any, metric: str) -> Row:
    numbers = {key: float(value) for key, value in result.metrics[metric].items()}
    step = result.protocol.step
    return Row(
        source=source,
        name=name,
        setting="" if step is None else f"step {step:,}",
        details=tuple(_details(result.protocol)),
        **numbers,
    )


def _details(protocol: Protocol) -> Iterator[tuple[str, str]]:
    for name, value in protocol.as_dict().items():
        if name == "versions":
            value = ", ".join(f"{package} {number}" for package, number in sorted(value.items()))
        shown = "none" if value in (None, "") else ("yes" if value else "no") if isinstance(value, bool) else value
        yield name.replace("_", " "), f"{shown:,}" if type(shown) is int and name != "seed" else one_line(shown)


def _named(protocol: Protocol, dataset: str) -> Protocol:
    """The reference's fingerprint tells copies apart, so that its several names need not."""
    return replace(protocol, reference=dataset)


def _require_presentable(protocol: Protocol, source: str) -> None:
    """Refuses a protocol that cannot be shown as it is, which could pass for another one.

    Raises:
        InputError: a text is long or has characters that cannot be seen, or a number is huge.
    """
    versions = protocol.versions
    values = [getattr(protocol, item.name) for item in fields(Protocol) if item.name != "versions"]
    texts = [value for value in (*values, *versions, *versions.values()) if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(versions) > 50 or not all(len(text) <= _LONGEST and text.isprintable() for text in texts):
        raise InputError(f"{source}: its protocol has overlong texts or characters that cannot be seen")
    if not all(abs(number) < _LARGEST for number in numbers):
        raise InputError(f"{source}: its protocol has numbers beyond all measure")


_PICTURES = ("samples.png", "report/samples.png")


def thumbnail(folder: Path, size: int = 256) -> bytes | None:
    """The upper left part of a run's sample grid as a JPEG file; None where there is no grid that can be read.

    Args:
        size: height and width in pixels of the part, at most.
    """
    import io

    from PIL import Image

    path = next((folder / name for name in _PICTURES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > 2**25:
                return None
            part = picture.convert("RGB").crop((0, 0, min(size, picture.width), min(size, picture.height)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    part.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _hub_entries(names: Sequence[str], metric: str, notes: list[str]) -> list[_Entry]:
    """Rows of the Hub's models; whatever goes wrong becomes a note."""
    entries: list[_Entry] = []
    repositories: set[str] = set()
    for repository, index in _hub_models(notes):
        if repository.lower() in repositories:
            notes.append(f"{repository} was listed twice")
            continue
        repositories.add(repository.lower())
        entries += _of_repository(repository, index, names, metric, notes)
    return entries


def _hub_models(notes: list[str]) -> Iterator[tuple[str, Any]]:
    """Ids of the Hub's models with the content of their ``model-index``, which is anything.

    Nothing else is asked for: the client parses the card's other fields and fails on some contents.
    """
    import httpx2
    from huggingface_hub import HfApi

    try:
        for model in HfApi().list_models(filter=TAG, limit=_MOST_MODELS, expand=["model-index"]):
            if isinstance(model.id, str) and _REPOSITORY.fullmatch(model.id):
                yield model.id, model.model_index
            else:
                notes.append(f"a model of the Hub has an impossible name, {one_line(repr(model.id), 60)}: left out")
    except (httpx2.HTTPError, OSError) as error:
        notes.append(f"the Hub's models are missing: {hub_reason(error)}")
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        notes.append(f"the Hub's list broke off, models may be missing: {one_line(error) or type(error).__name__}")


def _of_repository(
    repository: str, index: Any, names: Sequence[str], metric: str, notes: list[str]
) -> Iterator[_Entry]:
    known: dict[str, float] = {}
    left_out = 0
    for dataset, content in _metrics_in(index, metric):
        try:
            entry = _hub_entry(repository, content, names, metric)
        except (ValueError, RecursionError) as error:  # ValueError: also of whole numbers too long to be printed
            if not _names_in(dataset, content).isdisjoint(names):
                notes.append(one_line(f"{repository}: {metric} left out: {_without(error, repository)}"))
            continue
        if entry is None:
            continue
        identity = repr(entry.protocol)
        if identity in known:
            if known[identity] != entry.row.value:
                notes.append(f"{repository}: states {metric} of one protocol twice; the first is shown")
        elif len(known) == _MOST_ROWS:
            left_out += 1
        else:
            known[identity] = entry.row.value
            yield entry
    if left_out:
        notes.append(f"{repository}: {left_out} more rows than the {_MOST_ROWS} that are shown of one model")


def _without(error: Exception, repository: str) -> str:
    return one_line(error, 200).removeprefix(f"{repository}: ").removeprefix(f"{repository} is damaged: ")


def _metrics_in(index: Any, metric: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Each entry of the metric with its data set, from whatever a ``model-index`` holds."""
    for model in _items(index):
        for result in _items(model.get("results")):
            for content in _items(result.get("metrics")):
                if content.get("type") == metric:
                    yield result.get("dataset"), content


def _items(content: Any) -> Iterable[Mapping[str, Any]]:
    return (item for item in content if isinstance(item, Mapping)) if isinstance(content, list) else ()


def _names_in(dataset: Any, content: Mapping[str, Any]) -> set[str]:
    """What a damaged entry calls its data set."""
    arguments = content.get("args")
    protocol = arguments.get("protocol") if isinstance(arguments, Mapping) else None
    names = [dataset.get("name"), dataset.get("type")] if isinstance(dataset, Mapping) else []
    names += [protocol.get("reference")] if isinstance(protocol, Mapping) else []
    return {name for name in names if isinstance(name, str)}


def _hub_entry(repository: str, content: Mapping[str, Any], names: Sequence[str], metric: str) -> _Entry | None:
    """The row of a metric's entry; None where it was measured against other data.

    Raises:
        ValueError: it is damaged.
    """
    from huggingface_hub import constants

    from ..evaluation.compare import parse_result
    from .results import read_protocol

    arguments = content.get("args")
    if not isinstance(arguments, Mapping) or "protocol" not in arguments:
        raise InputError("it states no protocol")
    numbers = {key: arguments[key] for key in ("std", "low", "high") if arguments.get(key) is not None}
    numbers["value"] = content.get("value")
    result = parse_result(
        {
            "format": arguments.get("format"),
            "name": repository,
            "protocol": read_protocol(arguments["protocol"]).as_dict(),
            "metrics": {metric: numbers},
        },
        repository,
    )
    if result.protocol.reference not in names:
        return None
    _require_presentable(result.protocol, repository)
    row = replace(_row("hub", repository, result, metric), link=f"{constants.ENDPOINT}/{repository}")
    return _Entry(row, _named(result.protocol, names[0]))


def _measured_groups(entries: Sequence[_Entry], metric: str) -> list[Group]:
    """Entries by protocol: those with local runs first, then the largest."""
    parts: list[list[_Entry]] = []
    for entry in entries:
        part = next((part for part in parts if not differences(part[0].protocol, entry.protocol, metric)), None)
        parts.append([entry]) if part is None else part.append(entry)
    parts.sort(key=lambda part: (all(entry.row.source != "local" for entry in part), -len(part)))
    return [
        Group(
            title=f"Protocol {number}",
            label=label(metric, part[0].protocol.extractor),
            words=in_words(part[0].protocol, metric) + ".",
            measured=True,
            ranked=True,
            rows=_in_order([entry.row for entry in part], metric, ranked=True),
            differs=tuple(differences(parts[0][0].protocol, part[0].protocol, metric)),
        )
        for number, part in enumerate(parts, start=1)
    ]


def _in_order(rows: Sequence[Row], metric: str, ranked: bool) -> tuple[Row, ...]:
    """Rows, best first; equal values share a place."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    ordered = sorted(rows, key=lambda row: (sign * row.value, row.name, row.setting))
    if not ranked:
        return tuple(ordered)
    values = [row.value for row in ordered]
    return tuple(replace(row, place=values.index(row.value) + 1) for row in ordered)


@dataclass(frozen=True)
class StatedProtocol:
    """What a publication says about its protocol; "" where nothing is known.

    Attributes:
        title: whose protocol it is.
        ranked: all its figures were measured alike; otherwise they have no order.
    """

    title: str
    ranked: bool
    reference: str = ""
    samples: str = ""
    extractor: str = ""
    is_splits: str = ""
    precision_recall: str = ""
    selection: str = ""
    remarks: str = ""

    def stated(self, metric: str) -> list[tuple[str, str]]:
        """What a metric depends on, as pairs of a name and a text, which is "" where nothing is known."""
        known = [
            ("reference", self.reference),
            ("samples", self.samples),
            ("extractor", self.extractor),
            ("selection", self.selection),
        ]
        known += [("splits", self.is_splits)] if metric == "is" else []
        if "neighbours" in METRICS[metric].settings:
            known.append(("precision and recall", self.precision_recall))
        return known


@dataclass(frozen=True)
class Figure:
    """A published result.

    Attributes:
        image_size: height and width in pixels.
        checked: where it was read: in public "code", a "paper", the first part of a "page", or a "review" that quotes
            the paper.
        source: the publication.
        metrics: by key of ``METRICS``: ``value`` and, where it is known, ``std``.
    """

    method: str
    dataset: str
    image_size: int
    protocol: str
    checked: str
    source: str
    metrics: dict[str, dict[str, float]]
    setting: str = ""
    url: str | None = None


@dataclass(frozen=True)
class Baselines:
    """Published figures and the protocols that they name."""

    protocols: dict[str, StatedProtocol]
    figures: tuple[Figure, ...]


@cache
def load_baselines() -> Baselines:
    """The published figures that the package holds."""
    return parse_baselines((files("licfg_hf.hub") / "baselines.yaml").read_text(encoding="utf-8"), "baselines.yaml")


def parse_baselines(text: str, source: str) -> Baselines:
    """Reads and checks published figures.

    Raises:
        InputError: a field is missing, unknown or impossible, or a figure stands there twice; one line.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is no YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or set(content) != {"protocols", "figures"}:
        raise InputError(f"{source} needs exactly protocols and figures")
    if not isinstance(content["protocols"], dict) or not isinstance(content["figures"], list):
        raise InputError(f"{source}: protocols are a mapping and figures a list")
    protocols = {
        name: _typed(StatedProtocol, entry, f"{source}: protocol {name}")
        for name, entry in content["protocols"].items()
    }
    figures = [
        _figure(entry, protocols, f"{source}: figure {number}")
        for number, entry in enumerate(content["figures"], start=1)
    ]
    identities = [
        (figure.method, figure.setting, figure.dataset, figure.image_size, figure.protocol) for figure in figures
    ]
    for identity in identities:
        if identities.count(identity) > 1:
            raise InputError(f"{source}: {' '.join(map(str, identity))} stands there twice")
    return Baselines(protocols, tuple(figures))


def _typed(kind: type, content: Any, source: str) -> Any:
    """An instance from a mapping whose values must have the types of its fields."""
    if not isinstance(content, dict):
        raise InputError(f"{source} is no mapping")
    known = {item.name: item for item in fields(kind)}
    for name in content:
        if name not in known:
            raise InputError(f"{source} has an unknown field {name!r}")
    for name, value in content.items():
        wanted = {bool: bool, int: int, str: str}.get(known[name].type, str if name == "url" else dict)
        if type(value) is not wanted:
            raise InputError(f"{source}: {name} cannot be {one_line(value, 60)}")
    try:
        return kind(**content)
    except TypeError as error:
        raise InputError(f"{source} is incomplete: {error}") from error


def _figure(content: Any, protocols: Mapping[str, StatedProtocol], source: str) -> Figure:
    figure = _typed(Figure, content, source)
    if figure.protocol not in protocols:
        raise InputError(f"{source}: there is no protocol {figure.protocol!r}")
    if figure.checked not in _CHECKED:
        raise InputError(f"{source}: checked is one of {', '.join(_CHECKED)}, not {figure.checked!r}")
    if figure.image_size < 1 or (figure.url is not None and not figure.url.startswith("https://")):
        raise InputError(f"{source}: its image_size is positive and its url starts with https://")
    if not figure.metrics:
        raise InputError(f"{source} has no metrics")
    for metric, numbers in figure.metrics.items():
        possible = isinstance(numbers, dict) and "value" in numbers and set(numbers) <= {"value", "std"}
        if metric not in METRICS or not possible or not all(_is_number(number) for number in numbers.values()):
            raise InputError(f"{source}: {metric} is a metric's value and perhaps std, not {one_line(numbers, 60)}")
        if numbers.get("std", 0) < 0:
            raise InputError(f"{source}: a std is not negative")
    return figure


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def _published_groups(baselines: Baselines, dataset: str, metric: str) -> list[Group]:
    """Published figures by stated protocol and image size.

    They are never in one order with measured rows: no publication states its extractor's and reference's content.
    """
    parts: dict[tuple[str, int], list[Figure]] = {}
    for figure in baselines.figures:
        if figure.dataset == dataset and metric in figure.metrics:
            parts.setdefault((figure.protocol, figure.image_size), []).append(figure)
    groups = []
    for (name, image_size), figures in parts.items():
        protocol = baselines.protocols[name]
        stated = [("image size", f"{image_size} px"), *protocol.stated(metric)]
        details = [("protocol", protocol.title), *((item, text or "not stated") for item, text in stated)]
        details += [("remarks", protocol.remarks)] if protocol.remarks else []
        rows = [_published_row(figure, metric, details) for figure in figures]
        groups.append(
            Group(
                title=f"Published: {protocol.title}",
                label=METRICS[metric].published or METRICS[metric].title,
                words=_in_words(stated, protocol.remarks),
                measured=False,
                ranked=protocol.ranked,
                rows=_in_order(rows, metric, protocol.ranked),
                differs=("published: its protocol is not known in every detail, so it has no place among the others",),
            )
        )
    return groups


def _in_words(stated: Sequence[tuple[str, str]], remarks: str) -> str:
    known = [f"{item}: {text}" for item, text in stated if text]
    unknown = [item for item, text in stated if not text]
    known += [f"not stated: {', '.join(unknown)}"] if unknown else []
    return "; ".join(known + ([remarks] if remarks else [])) + "."


_READ_IN = {
    "code": "a public repository",
    "paper": "a paper",
    "page": "the first part of a public page",
    "review": "a public thread that quotes the paper",
}


def _published_row(figure: Figure, metric: str, details: Sequence[tuple[str, str]]) -> Row:
    return Row(
        source="published",
        name=figure.method,
        setting=figure.setting,
        link=figure.url,
        details=(("source", figure.source), ("read in", _READ_IN[figure.checked]), *details),
        **{key: float(value) for key, value in figure.metrics[metric].items()},
    )


def hub_reason(error: Exception) -> str:
    """Why a request to the Hub failed and what to do, in one line."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "the environment says HF_HUB_OFFLINE=1"
    if isinstance(error, LocalTokenNotFoundError):
        return "nobody is logged in: run `hf auth login`, or set HF_TOKEN"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        known = {
            401: "nobody is logged in, or the token is wrong: run `hf auth login`, or set HF_TOKEN",
            403: "the token has no right to do this",
            404: "the repository does not exist, or is private",
            409: "the name is taken",
            429: "the Hub asks for fewer requests: try again later",
        }
        return known.get(
            status, f"the Hub answered {status}: {one_line(error.server_message or '', 100)}".rstrip(": ")
        )
    return f"the Hub cannot be reached ({type(error).__name__})"


def push_space(board: Board, repository: str) -> str:
    """Publishes the page as a static Space, with its data as ``data.json``; returns the Space's address.

    A Space that is there gets another commit.

    Raises:
        InputError: it failed; the message is one line.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HFValidationError

    from .leaderboard_page import to_html, to_json

    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"--push_space is user/name, not {one_line(repository, 60)}")
    contents = {"index.html": to_html(board), "data.json": to_json(board)}
    operations = [CommitOperationAdd(name, text.encode("utf-8")) for name, text in contents.items()]
    api = HfApi()
    try:
        url = api.create_repo(repository, repo_type="space", space_sdk="static", exist_ok=True)
        api.create_commit(repository, operations, repo_type="space", commit_message="Update the leaderboard")
    except HFValidationError as error:
        raise InputError(f"--push_space {repository} cannot be a repository's name: {one_line(error)}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise InputError(f"the Space {repository} was not updated: {hub_reason(error)}") from error
    return str(url)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command's parser."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="eval.json file, or a folder that holds one")
    parser.add_argument(
        "--dataset", default="cifar10", help="reference data: a preset, a Hub id, or as named (default: %(default)s)"
    )
    parser.add_argument("--metric", choices=METRICS, default="fid", help="what to rank by (default: %(default)s)")
    parser.add_argument(
        "--hub",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"show the Hub's models with the tag {TAG} (default: yes)",
    )
    parser.add_argument("--no-baselines", dest="baselines", action="store_false", help="leave published figures out")
    parser.add_argument("--format", choices=FORMATS, default="table", help="(default: %(default)s)")
    parser.add_argument("--output", help=f"file to write (default: {_PAGE} for html, else the terminal)")
    parser.add_argument("--push_space", metavar="USER/NAME", help="also publish the page as a static Space")


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf leaderboard`` is asked for.

    Raises:
        InputError: a run cannot be read, the file cannot be written, or the Space cannot be updated.
    """
    import sys

    from .leaderboard_page import WRITERS

    output = arguments.output or (_PAGE if arguments.format == "html" else None)
    if output is not None and Path(output).is_dir():
        raise InputError(f"--output {output} is a folder: name a file")
    runs = [Path(name).expanduser() for name in arguments.runs]
    board = build(arguments.dataset, arguments.metric, runs, arguments.hub, arguments.baselines)
    text = WRITERS[arguments.format](board)
    if output is None:
        print(text, end="")
    else:
        _write(Path(output).expanduser(), text)
        print(f"leaderboard in {output}")
    if arguments.format == "csv" or output is not None:
        for note in board.notes:
            print(f"note: {note}", file=sys.stderr)
    if arguments.push_space is not None:
        print(f"Space {push_space(board, arguments.push_space)}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
