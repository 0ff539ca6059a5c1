"""Results for leaderboards of the Hub: ``.eval_results/licfg_hf.yaml``, which benchmark data sets collect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from ..errors import InputError
from ..evaluation.metrics import METRICS
from ..evaluation.protocol import in_words, label, makes_samples
from ..evaluation.result import Result, parse_result
from ..text import is_repository

BENCHMARK_FILE = ".eval_results/licfg_hf.yaml"


@dataclass(frozen=True)
class Benchmark:
    """A metric that is reported to a leaderboard.

    Attributes:
        dataset: the benchmark, a data set of the Hub: ``owner/name``.
        task: which of its tasks.
        metric: name of the metric in ``eval.json``.

    Raises:
        InputError: the data set or the task cannot be called so.
    """

    dataset: str
    task: str
    metric: str

    def __post_init__(self) -> None:
        if not is_repository(self.dataset):
            raise InputError(f"--benchmark takes a data set OWNER/NAME of the Hub, not {self.dataset!r}")
        if not self.task.strip():
            raise InputError(f"--benchmark {self.dataset} needs the name of a task")


def benchmark_file(benchmarks: Sequence[Benchmark], result: Mapping[str, Any] | None) -> bytes:
    """Content of ``.eval_results/licfg_hf.yaml``, one entry for each benchmark.

    Args:
        benchmarks: what to report, and where.
        result: content of ``eval.json``; None where there is none.

    Raises:
        InputError: there is no result, it is damaged, a metric is not in it, or a task is given two numbers.
    """
    if result is None:
        raise InputError("--benchmark needs eval.json: run `licfg-hf evaluate` on the folder first")
    places = [(benchmark.dataset, benchmark.task) for benchmark in benchmarks]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise InputError(f"--benchmark: a task takes one number, but {' '.join(twice)} has two")
    known, facts = parse_result(result, "eval.json"), result.get("facts")
    date = facts.get("date") if isinstance(facts, Mapping) else None
    entries = [_entry(benchmark, known, date) for benchmark in benchmarks]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True).encode()


def _entry(benchmark: Benchmark, result: Result, date: str | None) -> EvalResultEntry:
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
