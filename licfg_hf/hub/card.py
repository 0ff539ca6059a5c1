"""The model card: what was trained, on what, with which settings; and its results, as the Hub reads them.

They stand in its text, in its ``model-index``, and in a file of entries of leaderboards.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub import ModelCard as HubCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import eval_results_to_model_index

from ..errors import InputError
from ..evaluation.metrics import METRICS
from ..evaluation.protocol import FORMAT, EvaluationProtocol, in_words, label, makes_samples, settings_in_words
from ..evaluation.result import RESULT_FILES, Result, parse_result, stored_result
from ..files import write_text
from ..text import code_span, few, filled, is_repository, one_line, plain
from .cleaning import BLOCK

TAGS = ("gan", "licfg")
_HINT = re.compile(r"^\(Run it in this folder, or put the .* name in place of `\"\.\"`\.\)\n", re.MULTILINE)
BENCHMARK_FILE = ".eval_results/licfg_hf.yaml"  # which benchmark data sets of the Hub collect
_TASK = "unconditional-image-generation"
_BEGIN, _END = "<!-- results: what eval.json says -->", "<!-- end of results -->"
_OPENED = re.compile(r"\s*---[ \t]*(\r|\n|$)")
_SECTION = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_INDEX = "model-index"


def listed(names: Sequence[str]) -> str:
    """Names of classes, which come from outside, as Markdown; "" for none."""
    return few([*map(code_span, names)], 100)


def _filled(template: str, metadata: dict[str, Any], **variables: Any) -> str:
    text = (files("licfg_hf.hub") / "templates" / template).read_text(encoding="utf-8")
    data = ModelCardData(library_name="licfg_hf", pipeline_tag="unconditional-image-generation", **metadata)
    return str(HubCard.from_template(data, template_str=text, **variables))


def write_card(
    folder: Path,
    facts: dict[str, Any],
    results: Sequence[dict[str, Any]],
    loss: Any,
    penalties: list[Any],
    details: dict[str, Any],
) -> None:
    """Writes ``folder/README.md``, the card of a finished run, from its training.json and its eval.json files.

    ``details`` has, where they are known: ``title``, ``summary``, ``training`` (how the generator learned),
    ``method``, ``citation``, ``pipeline`` (class name), ``class_names``, ``license`` (of the weights, as the Hub calls
    it; without it the card states none), ``data_license``, ``command`` (that made the run), ``differences`` (from the
    paper), ``notes`` (sentences) and ``measured`` (sentences on the protocol).
    """
    title = details.get("title", "GAN trained with licfg_hf")
    tags = [*TAGS, *details.get("tags", [])]
    settings = json.loads(json.dumps(facts["settings"]))  # YAML knows no tuples
    card = _filled(
        "model_card.md",
        {"license": details.get("license"), "tags": tags, "model_name": title},
        title=title,
        loss=loss,
        penalties=penalties,
        settings=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip(),
        facts=facts,
        results=results_section(results),
        measured=[plain(line) for line in details.get("measured", ())],
        pipeline=details.get("pipeline"),
        classes=listed(details.get("class_names") or ()),
        details=details,
    )
    write_text(folder / "README.md", with_results(card, results))


def card_of_a_folder(
    repo_id: str, pipeline: str | None, contents: Mapping[str, Any], selection: Mapping[str, Any]
) -> str:
    """A card for a folder of a pipeline class, or of networks alone, that has none, such as ``best/`` of a run.

    ``contents`` are those of its JSON files by name, and ``selection`` says why it is the best of its run.
    """
    step, by = contents.get("training.json", {}).get("step"), selection.get("by")
    when = f" after {step:,} steps" if isinstance(step, int) else ""
    by = one_line(by) if isinstance(by, str) else None
    results = results_section([]) if any(name in contents for name in RESULT_FILES) else None
    title = repo_id.partition("/")[2]
    return _filled("plain_card.md", {}, title=title, by=by, when=when, pipeline=pipeline, results=results)


def published_card(repo_id: str, revision: str | None, text: str) -> str:
    """A README.md whose code loads the model from its repository, and whose tags are those it is found by."""
    place = json.dumps(repo_id) + ("" if revision in (None, "main") else f", revision={json.dumps(revision)}")

    def name(block: re.Match) -> str:
        code = block[0]
        return code.replace('from_pretrained("."', f"from_pretrained({place}") if block[1] == "python" else code

    text = text.replace('load_flow(".")', f"load_flow({place})")
    card = read_card(_HINT.sub("", BLOCK.sub(name, text)))
    known = card.data.get("tags") or []
    card.data["tags"] = [*known, *(tag for tag in TAGS if tag not in known)]
    return str(card)


# Results


class _Metadata(ModelCardData):
    """Metadata whose ``model-index`` stays as it was read: the client would drop what it does not know."""

    def __init__(self, **content: Any):
        index = content.pop(_INDEX, None)
        super().__init__(**content)
        if index is not None:
            self[_INDEX] = index


class _Card(HubCard):
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


def mapping(content: Any) -> Mapping[str, Any]:
    """What comes from a stranger, where it is a mapping; else an empty one."""
    return content if isinstance(content, Mapping) else {}


def items(content: Any) -> list[Mapping[str, Any]]:
    """The mappings in what comes from a stranger and may be a list."""
    return [item for item in content if isinstance(item, Mapping)] if isinstance(content, list) else []


def read_protocol(content: Any) -> EvaluationProtocol:
    """The protocol that ``model_index`` wrote, as it is read back from a card.

    The Hub's client leaves out what is None when it writes a card, so absent fields that may be None are None.
    """
    if not isinstance(content, Mapping):
        raise InputError("a protocol is a mapping")
    optional = [name for name, hint in get_type_hints(EvaluationProtocol).items() if NoneType in get_args(hint)]
    return EvaluationProtocol.from_dict({**dict.fromkeys(optional), **content})


def read_card(text: str) -> HubCard:
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
    known = [parse_result(result, RESULT_FILES[0]) for result in results]
    words = {one.__name__: one for one in (plain, label, makes_samples, in_words, settings_in_words)}
    return filled("licfg_hf.hub", "results.md", begin=_BEGIN, end=_END, results=known, **words).rstrip()


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
        results = mapping(model).get("results")
        kept = [result for result in results if not _is_ours(result)] if isinstance(results, list) else results
        if kept == results:
            foreign.append(model)
            continue
        name = name or model.get("name")
        foreign += [{**model, "results": kept}] if kept else []
    return foreign, name


def _is_ours(result: Any) -> bool:
    """True if ``model_index`` wrote an entry: all its numbers state their protocol."""
    metrics = items(mapping(result).get("metrics"))
    return bool(metrics) and all("protocol" in mapping(one.get("args")) for one in metrics)


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
    known, date = parse_result(result, "eval.json"), mapping(result.get("facts")).get("date")
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
