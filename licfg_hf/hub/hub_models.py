"""Entries of the Hub's models: what they say about themselves, which comes from strangers.

An entry is either checked from end to end or left out with a note; nothing of it is executed. A model fills at most
three entries and two notes. What makes the Hub's list itself unreadable ends it, and then a note says so.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from ..errors import InputError
from ..evaluation.protocol import differences
from ..evaluation.result import parse_result
from ..text import is_repository, one_line
from .access import reason
from .card import items, mapping, read_protocol
from .ranking import Entry, Omissions, Query, entry_of

TAG = "licfg"  # of every model that this package publishes
_MOST_MODELS = 5_000
_MOST_ENTRIES = 3  # of one model
_MOST_RESULTS = 1_000  # of one model that are looked at


def hub_entries(query: Query, omissions: Omissions) -> list[Entry]:
    """Entries of the Hub's models; whatever goes wrong becomes a note."""
    entries: list[Entry] = []
    repositories: set[str] = set()
    for repository, index in _models(query.public, omissions):
        if repository.lower() in repositories:
            omissions.models.append(f"{repository} was listed twice")
            continue
        repositories.add(repository.lower())
        entries += entries_of(repository, index, query, omissions)
    return entries


def _models(public: bool, omissions: Omissions) -> Iterator[tuple[str, Any]]:
    """Ids of the Hub's models, perhaps only public ones, with the content of their ``model-index``, which is anything.

    Nothing else is asked for: the client parses the card's other fields and fails on some contents.
    """
    seen, token = 0, False if public else None
    try:
        for model in HfApi().list_models(filter=TAG, limit=_MOST_MODELS, expand=["model-index"], token=token):
            seen += 1
            if isinstance(model.id, str) and is_repository(model.id):
                yield model.id, model.model_index
            else:
                name = one_line(repr(model.id), 60)
                omissions.models.append(f"a model of the Hub has an impossible name, {name}: left out")
    except OfflineModeIsEnabled:
        omissions.own.append("the Hub's models are missing: HF_HUB_OFFLINE=1 is set")
    except (HTTPError, OSError) as error:
        known = {404: "there is no list of models at this address"}
        omissions.own.append(f"the Hub's models are missing: {reason(error, 'its models', known)}")
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        omissions.own.append(f"the Hub's list was cut short, models may be missing: {one_line(error)}")
    if seen == _MOST_MODELS:
        omissions.own.append(f"only the first {_MOST_MODELS:,} of the Hub's models were read")


def entries_of(repository: str, index: Any, query: Query, omissions: Omissions) -> list[Entry]:
    """Entries of one model by its ``model-index``; what cannot be shown becomes a note."""
    shown: list[Entry] = []
    damaged: list[str] = []
    repeated = left_out = 0
    metrics = list(islice(_metrics_in(index, query.metric), _MOST_RESULTS + 1))
    if len(metrics) > _MOST_RESULTS:
        seen = f"only the first {_MOST_RESULTS:,} were read"
        omissions.models.append(f"{repository}: of its values of {query.metric}, {seen}")
    for dataset, content in metrics[:_MOST_RESULTS]:
        try:
            entry = _entry(repository, content, query)
        except (ValueError, RecursionError) as error:  # ValueError: also of whole numbers too long to be printed
            if not _names_in(dataset, content).isdisjoint(query.names):
                reason = one_line(error, 200).removeprefix(f"{repository}: ")
                damaged.append(reason.removeprefix(f"{repository} is damaged: "))
            continue
        if entry is None:
            continue
        same = next((one for one in shown if _is_one_run(one, entry, query.metric)), None)
        if same is not None:
            repeated += same.value != entry.value
        elif len(shown) == _MOST_ENTRIES:
            left_out += 1
        else:
            shown.append(entry)
    omissions.models += _about(repository, query.metric, damaged, repeated, left_out)
    return shown


def _is_one_run(one: Entry, other: Entry, metric: str) -> bool:
    """True if two entries differ in nothing but seeds, software and the like, as which anything can be stated."""
    same = all(getattr(one.protocol, name) == getattr(other.protocol, name) for name in ("step", "weights", "flow"))
    return same and not differences(one.measured, other.measured, metric)


def _about(repository: str, metric: str, damaged: list[str], repeated: int, left_out: int) -> Iterator[str]:
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        yield one_line(f"{repository}: {metric} left out{more}: {damaged[0]}")
    several = [f"{repeated} more values of one run, whose first is shown"] if repeated else []
    several += [f"{left_out} more rows than the {_MOST_ENTRIES} that are shown of one model"] if left_out else []
    if several:
        yield f"{repository}: states {' and '.join(several)}"


def _metrics_in(index: Any, metric: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Each entry of the metric with its data set, from whatever a ``model-index`` holds."""
    for model in items(index):
        for result in items(model.get("results")):
            for content in items(result.get("metrics")):
                if content.get("type") == metric:
                    yield result.get("dataset"), content


def _names_in(dataset: Any, content: Mapping[str, Any]) -> set[str]:
    """What a damaged entry calls its data set."""
    protocol = mapping(mapping(content.get("args")).get("protocol"))
    names = (mapping(dataset).get("name"), mapping(dataset).get("type"), protocol.get("reference"))
    return {name for name in names if isinstance(name, str)}


def _entry(repository: str, content: Mapping[str, Any], query: Query) -> Entry | None:
    """The entry of a metric; None where it was measured against other data, ValueError where it is damaged."""
    arguments = mapping(content.get("args"))
    if "protocol" not in arguments:
        raise InputError("it states no protocol")
    numbers = {key: arguments[key] for key in ("std", "low", "high") if arguments.get(key) is not None}
    numbers["value"] = content.get("value")
    claimed = {
        "format": arguments.get("format"),
        "name": repository,
        "protocol": read_protocol(arguments["protocol"]).as_dict(),
        "metrics": {query.metric: numbers},
    }
    result = parse_result(claimed, repository)
    if not query.is_of(result.protocol):
        return None
    return entry_of("hub", repository, result, query, link=f"{constants.ENDPOINT}/{repository}")
