"""Results as the Hub has them: ``model-index`` and table of a model card, and entries of leaderboards."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import eval_results_to_model_index

from ..errors import InputError
from ..evaluation.metrics import METRICS
from ..evaluation.protocol import FORMAT, EvaluationProtocol, in_words, label, makes_samples, settings_in_words
from ..evaluation.result import RESULT_FILES, Result, parse_result, stored_result
from ..files import write_text
from ..text import is_repository, plain

BENCHMARK_FILE = ".eval_results/licfg_hf.yaml"  # which benchmark data sets of the Hub collect
_TASK = "unconditional-image-generation"
_BEGIN, _END = "<!-- results: what eval.json says -->", "<!-- end of results -->"
_OPENED = re.compile(r"\s*---[ \t]*(\r|\n|$)")
_SECTION = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_INDEX = "model-index"


class _Metadata(ModelCardData):
    """Metadata whose ``model-index`` stays as it was read: the client would drop what it does not know."""

    def __init__(self, **content: Any):
        index = content.pop(_INDEX, None)
        super().__init__(**content)
        if index is not None:
            self[_INDEX] = index


class _Card(ModelCard):
    card_data_class = _Metadata


def model_index(result: Mapping[str, Any]) -> list[EvalResult]:
    """One entry for each metric of an ``eval.json``; its ``metric_args`` hold the protocol."""
    known = parse_result(result, "eval.json")
    protocol = known.protocol
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=protocol.reference,
            dataset_name=protocol.reference,
            dataset_split=protocol.reference_split,
            metric_type=metric,
            metric_name=label(metric, protocol.extractor),
            metric_value=numbers["value"],
            metric_args={
                "format": FORMAT,
                "protocol": protocol.as_dict(),
                **{name: number for name, number in numbers.items() if name != "value"},
            },
        )
        for metric, numbers in known.metrics.items()
    ]


def read_protocol(content: Any) -> EvaluationProtocol:
    """The protocol that ``model_index`` wrote, as it is read back from a card.

    The Hub's client leaves out what is None when it writes a card, so absent fields that may be None are None.
    """
    if not isinstance(content, Mapping):
        raise InputError("a protocol is a mapping")
    optional = [name for name, hint in get_type_hints(EvaluationProtocol).items() if NoneType in get_args(hint)]
    return EvaluationProtocol.from_dict({**dict.fromkeys(optional), **content})


def read_card(text: str) -> ModelCard:
    """A README.md with its metadata, of which ``model-index`` stays as it is; InputError where it cannot be read."""
    text = text.removeprefix("\ufeff")  # a byte order mark, as some editors write it
    metadata = REGEX_YAML_BLOCK.match(text)
    if metadata is None and _OPENED.match(text):
        raise InputError("the metadata of README.md begins with a line --- and does not end with one")
    try:
        card = _Card(text, ignore_metadata_errors=True)
        tags = None if metadata is None else (yaml.safe_load(metadata[2]) or {}).get("tags")
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"the metadata of README.md cannot be read: {' '.join(str(error).split())}") from error
    if isinstance(tags, str):  # the client takes each letter for one
        raise InputError(f"the tags of README.md are a list, not {tags!r}")
    return card


def results_section(results: Sequence[Mapping[str, Any]]) -> str:
    """A table of each ``eval.json``, with its protocol, between marks by which ``with_results`` finds it."""
    parts = [_table(result) for result in results] or ["Nothing was measured.\n"]
    return "\n".join([_BEGIN, "", *parts, _END])


def _table(result: Mapping[str, Any]) -> str:
    known = parse_result(result, RESULT_FILES[0])
    protocol = known.protocol
    step = "" if protocol.step is None else f" after {protocol.step:,} steps"
    measured = f"{makes_samples(protocol)}{step}; {in_words(protocol)}; sampling seed {protocol.seed}"
    lines = [plain(f"Measured with the {measured}:"), "", "| metric | value | |", "| --- | --- | --- |"]
    for metric, numbers in known.metrics.items():
        value = f"{numbers['value']:.4g}" + (f" ± {numbers['std']:.2g}" if numbers.get("std") else "")
        value += f" [{numbers['low']:.4g}, {numbers['high']:.4g}]" if "low" in numbers else ""
        name = plain(label(metric, protocol.extractor))
        lines.append(f"| {name} | {value} | {settings_in_words(protocol, metric)} |")
    accuracies = [f"{one['name']} {one['accuracy']:.2f}" for one in known.classes[:20] if "accuracy" in one]
    if accuracies:
        more = ", …" if len(known.classes) > 20 else ""
        lines += ["", plain(f"Class accuracy by class: {', '.join(accuracies)}{more}.")]
    if known.unknown:
        unknown = "; ".join(plain(f"{name}: {value}") for name, value in known.unknown)
        lines += ["", f"This version of licfg_hf does not know these numbers, and keeps them: {unknown}."]
    return "\n".join([*lines, ""])


def with_results(card_text: str, results: Sequence[Mapping[str, Any]]) -> str:
    """A README.md that reports these results and no others of this library; the rest stays as it is; else InputError.

    The first result, that of the model as it loads, goes into the ``model-index``, before what others measured. The
    text shows them all where ``results_section`` stood; a card without that section gets none.
    """
    section = results_section(results)
    if _BEGIN in _SECTION.sub("", card_text):
        raise InputError(f"README.md has a line {_BEGIN} and no {_END} after it")
    card = read_card(_SECTION.sub(lambda match: section, card_text))
    data = card.data
    foreign, name = _without_ours(data.pop(_INDEX, None))
    name = data.get("model_name") or name
    ours = []
    if results:
        name = name or PurePath(results[0]["name"]).name or "model"
        ours = eval_results_to_model_index(name, model_index(results[0]))
    data["model_name"] = None if ours else name  # until there are results
    if ours or foreign:
        data[_INDEX] = [*ours, *foreign]
    return str(card)


def _without_ours(index: Any) -> tuple[list[Any], str | None]:
    """What others measured of a ``model-index``, which is anything, and the name under which our results stood."""
    foreign, name = [], None
    for model in index if isinstance(index, list) else [] if index is None else [index]:
        results = model.get("results") if isinstance(model, dict) else None
        kept = [result for result in results if not _is_ours(result)] if isinstance(results, list) else results
        if kept == results:
            foreign.append(model)
            continue
        name = name or model.get("name")
        foreign += [{**model, "results": kept}] if kept else []
    return foreign, name


def _is_ours(result: Any) -> bool:
    """True if ``model_index`` wrote an entry: all its numbers state their protocol."""
    metrics = result.get("metrics") if isinstance(result, dict) else None
    arguments = [one.get("args") for one in metrics if isinstance(one, dict)] if isinstance(metrics, list) else []
    return bool(arguments) and all(isinstance(one, dict) and "protocol" in one for one in arguments)


def refresh_card(folder: Path) -> bool:
    """Makes the card in a model folder report what its results say now; returns whether it changed."""
    path = folder / "README.md"
    if not path.is_file():
        return False
    try:
        old = path.read_text(encoding="utf-8-sig")
        if _BEGIN not in old:
            return False
        results = [result for name in RESULT_FILES if (result := stored_result(folder / name)) is not None]
        new = with_results(old, results)
        if new != old:
            write_text(path, new)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} could not be brought up to date: {error}") from error
    return new != old


# Entries of leaderboards


@dataclass(frozen=True)
class Benchmark:
    """A metric that is reported to a leaderboard; InputError where the data set or the task cannot be called so."""

    dataset: str  # the benchmark, a data set of the Hub: ``owner/name``
    task: str  # which of its tasks
    metric: str  # in ``eval.json``

    def __post_init__(self) -> None:
        if not is_repository(self.dataset):
            raise InputError(f"--benchmark takes a data set OWNER/NAME of the Hub, not {self.dataset!r}")
        if not self.task.strip():
            raise InputError(f"--benchmark {self.dataset} needs the name of a task")


def benchmark_file(benchmarks: Sequence[Benchmark], result: Mapping[str, Any] | None) -> bytes:
    """Content of ``BENCHMARK_FILE``, one entry for each benchmark, from an ``eval.json``; else InputError."""
    if result is None:
        raise InputError("--benchmark needs eval.json: run `licfg-hf evaluate` on the folder first")
    places = [(benchmark.dataset, benchmark.task) for benchmark in benchmarks]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise InputError(f"--benchmark: a task takes one number, but {' '.join(twice)} has two")
    known, facts = parse_result(result, "eval.json"), result.get("facts")
    date = facts.get("date") if isinstance(facts, Mapping) else None
    entries = [_benchmark_entry(benchmark, known, date) for benchmark in benchmarks]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True).encode()


def _benchmark_entry(benchmark: Benchmark, result: Result, date: str | None) -> EvalResultEntry:
    metric, protocol = benchmark.metric, result.protocol
    if metric not in result.metrics or metric not in METRICS:  # of others nobody here knows which way they are better
        known = [name for name in result.metrics if name in METRICS]
        raise InputError(f"--benchmark: eval.json has no {metric!r}, only {', '.join(known)}")
    # The format knows neither metrics nor which way they are better.
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    name = f"{label(metric, protocol.extractor)}, {better} is better"
    return EvalResultEntry(
        dataset_id=benchmark.dataset,
        task_id=benchmark.task,
        value=result.metrics[metric]["value"],
        date=date,
        notes=f"{name}; of the {makes_samples(protocol)}; {in_words(protocol, metric)}",
    )
