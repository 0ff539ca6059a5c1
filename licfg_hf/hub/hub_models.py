"""Rows of the Hub's models: what they say about themselves, which comes from strangers.

An entry is either checked from end to end or left out with a note; nothing of it is executed. A model fills at most
three rows and two notes. What makes the Hub's list itself unreadable ends it, and then a note says so.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from ..errors import InputError
from ..evaluation.protocol import Protocol, differences
from ..evaluation.result import parse_result
from ..text import hub_refusal, one_line
from .board import Notes
from .entries import Entry, Wanted, entry_of
from .results import read_protocol

TAG = "licfg"  # of every model that this package publishes
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_MOST_MODELS = 5_000
_MOST_ROWS = 3  # of one model
_MOST_RESULTS = 1_000  # of one model that are looked at


def hub_entries(wanted: Wanted, notes: Notes) -> list[Entry]:
    """Rows of the Hub's models; whatever goes wrong becomes a note."""
    entries: list[Entry] = []
    repositories: set[str] = set()
    for repository, index in _models(wanted.public, notes):
        if repository.lower() in repositories:
            notes.models.append(f"{repository} was listed twice")
            continue
        repositories.add(repository.lower())
        entries += entries_of(repository, index, wanted, notes)
    return entries


def _models(public: bool, notes: Notes) -> Iterator[tuple[str, Any]]:
    """Ids of the Hub's models with the content of their ``model-index``, which is anything.

    Nothing else is asked for: the client parses the card's other fields and fails on some contents.

    Args:
        public: only those that everybody may see, whoever is logged in.
    """
    seen, token = 0, False if public else None
    try:
        for model in HfApi().list_models(filter=TAG, limit=_MOST_MODELS, expand=["model-index"], token=token):
            seen += 1
            if isinstance(model.id, str) and REPOSITORY.fullmatch(model.id):
                yield model.id, model.model_index
            else:
                name = one_line(repr(model.id), 60)
                notes.models.append(f"a model of the Hub has an impossible name, {name}: left out")
    except (HTTPError, OSError) as error:
        notes.own.append(f"the Hub's models are missing: {_reason(error)}")
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        reason = one_line(error)
        notes.own.append(f"the Hub's list broke off, models may be missing: {reason}")
    if seen == _MOST_MODELS:
        notes.own.append(f"of the Hub's models, only the first {_MOST_MODELS:,} were looked at")


def _reason(error: Exception) -> str:
    """Why the Hub's models could not be listed and what to do, in one line."""
    if isinstance(error, OfflineModeIsEnabled):
        return "the environment says HF_HUB_OFFLINE=1"
    if isinstance(error, LocalTokenNotFoundError):
        return "nobody is logged in: run `hf auth login`, or set HF_TOKEN"
    if isinstance(error, HfHubHTTPError):
        known = {404: "there is no list of models at this address"}
        return hub_refusal(error.response.status_code, one_line(error.server_message or "", 100), known)
    return f"the Hub cannot be reached ({type(error).__name__})"


def entries_of(repository: str, index: Any, wanted: Wanted, notes: Notes) -> list[Entry]:
    """Rows of one model; what cannot be shown becomes a note.

    Args:
        index: content of its ``model-index``.
    """
    shown: list[Entry] = []
    damaged: list[str] = []
    repeated = left_out = 0
    metrics = list(islice(_metrics_in(index, wanted.metric), _MOST_RESULTS + 1))
    if len(metrics) > _MOST_RESULTS:
        seen = f"only the first {_MOST_RESULTS:,} were looked at"
        notes.models.append(f"{repository}: of its values of {wanted.metric}, {seen}")
    for dataset, content in metrics[:_MOST_RESULTS]:
        try:
            entry = _entry(repository, content, wanted)
        except (ValueError, RecursionError) as error:  # ValueError: also of whole numbers too long to be printed
            if not _names_in(dataset, content).isdisjoint(wanted.names):
                damaged.append(_without(error, repository))
            continue
        if entry is None:
            continue
        same = next((one for one in shown if _is_one_run(one.protocol, entry.protocol, wanted.metric)), None)
        if same is not None:
            repeated += same.row.value != entry.row.value
        elif len(shown) == _MOST_ROWS:
            left_out += 1
        else:
            shown.append(entry)
    notes.models += _about(repository, wanted.metric, damaged, repeated, left_out)
    return shown


def _is_one_run(one: Protocol, other: Protocol, metric: str) -> bool:
    """Whether two entries differ in nothing but seeds, software and the like, as which anything can be stated."""
    same = all(getattr(one, name) == getattr(other, name) for name in ("step", "weights", "flow"))
    return same and not differences(one, other, metric)


def _about(repository: str, metric: str, damaged: list[str], repeated: int, left_out: int) -> Iterator[str]:
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        yield one_line(f"{repository}: {metric} left out{more}: {damaged[0]}")
    several = [f"{repeated} more values of one run, whose first is shown"] if repeated else []
    several += [f"{left_out} more rows than the {_MOST_ROWS} that are shown of one model"] if left_out else []
    if several:
        yield f"{repository}: states {' and '.join(several)}"


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


def _entry(repository: str, content: Mapping[str, Any], wanted: Wanted) -> Entry | None:
    """The row of a metric's entry; None where it was measured against other data.

    Raises:
        ValueError: it is damaged, or its numbers are impossible.
    """
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
            "metrics": {wanted.metric: numbers},
        },
        repository,
    )
    if not wanted.is_of(result.protocol):
        return None
    entry = entry_of("hub", repository, result, wanted)
    return replace(entry, row=replace(entry.row, link=f"{constants.ENDPOINT}/{repository}"))
