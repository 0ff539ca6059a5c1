"""Results of several runs side by side: seeds as intervals, and an order only among what can be compared."""

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from ..diagnostics.intervals import mean_interval, welch
from ..errors import InputError
from ..files import user_path
from ..text import few, plain, printable
from .metrics import METRICS
from .protocol import EvaluationProtocol, differences, grouped, in_words, kind_of, label, makes_samples
from .result import Result, read_result

_MOST_PAIRED = 5  # groups that are compared with each other; more are compared with the first only
_LEGEND = "± is a 95 % interval: Student's t over the runs of a group, Welch's for a difference of two groups.\n"


def main(runs: Sequence[str]) -> None:
    """Prints the comparison of the runs that the command line names."""
    print(compare([user_path(run) for run in runs]), end="")


def compare(paths: Sequence[Path]) -> str:
    """The results of several runs, ``eval.json`` files or folders that hold one, as Markdown; else InputError.

    Runs of one protocol and the same settings are a group, shown as mean and 95 % interval over its runs. Groups are
    put in order only where their protocols agree in everything that the metric depends on.
    """
    if not paths:
        raise InputError("there is nothing to compare: name folders that hold an eval.json")
    runs = [_Run(number, read_result(path)) for number, path in enumerate(paths, start=1)]
    _require_distinct(runs, paths)
    sections = [_list_of(runs), _LEGEND]
    sections += [_section(metric, runs) for metric in METRICS if any(metric in run.result.metrics for run in runs)]
    unknown = [(run.number, name, value) for run in runs for name, value in run.result.unknown]
    if unknown:
        sections += ["## Not known to this version of licfg_hf", ""]
        sections += [plain(f"- run {number}: {name}: {value}") for number, name, value in unknown] + [""]
    return "\n".join(["# Comparison", "", *sections])


@dataclass(frozen=True)
class _Run:
    number: int
    result: Result

    @property
    def protocol(self) -> EvaluationProtocol:
        return self.result.protocol


@dataclass(frozen=True)
class _Group:
    """Runs of the same settings, and their values of a metric: one for each training."""

    runs: list[_Run]
    values: list[float]
    mean: float


def _require_distinct(runs: Sequence[_Run], paths: Sequence[Path]) -> None:
    """Refuses one result by two names, or a copy: counted twice, it would make an interval too narrow."""
    known: dict[Hashable, int] = {}
    for index, (run, path) in enumerate(zip(runs, paths, strict=True)):
        protocol = json.dumps(run.protocol.as_dict(), sort_keys=True)
        numbers = frozenset((metric, *entry.items()) for metric, entry in run.result.metrics.items())
        for mark in (path.resolve(), (run.result.name, protocol, numbers)):
            first = known.setdefault(mark, index)
            if first != index:
                raise InputError(f"{paths[first]} and {path} are the same result: name it only once")


def _list_of(runs: Sequence[_Run]) -> str:
    head = ("run", "result", "model", "samples", "step", "training seed", "sampling seed", "settings")
    rows = []
    for run in runs:
        protocol = run.protocol
        seeds = (protocol.training_seed, protocol.seed)
        known = (_known(value) for value in (protocol.step, *seeds, protocol.config_hash))
        texts = (_code(run.result.source), _code(run.result.name), makes_samples(protocol))
        rows.append((str(run.number), *texts, *known))
    return _table(head, rows)


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value) if isinstance(value, int) else _code(value)


def _section(metric: str, runs: Sequence[_Run]) -> str:
    """Everything about one metric."""
    measured = [run for run in runs if metric in run.result.metrics]
    names = {label(metric, run.protocol.extractor) for run in measured}
    name = names.pop() if len(names) == 1 else METRICS[metric].title
    better = "Higher" if METRICS[metric].higher_is_better else "Lower"
    lines = [f"## {metric}: {plain(name)}", "", f"{better} is better.", ""]
    groups = grouped(measured, lambda run: kind_of(run.protocol, metric))
    if len(groups) > 1:
        warning = "numbers of different protocols cannot be compared or ranked."
        if len(groups) > _MOST_PAIRED:
            warning += " Only what differs from the first is given."
        lines += [f"Measured by {len(groups)} protocols: {warning}", ""]
    for index, members in enumerate(groups):
        if len(groups) > 1:
            lines += [f"### {metric}, protocol {index + 1}", ""]
        lines += _ordered(metric, members)
        for number, earlier in enumerate(groups[: min(index, _shown(groups))], start=1):
            reasons = differences(earlier[0].protocol, members[0].protocol, metric)
            lines += [f"Not comparable with protocol {number}; its value comes first:", ""]
            lines += [f"- {plain(reason)}" for reason in reasons] + [""]
    return "\n".join(lines)


def _settings(run: _Run) -> Hashable:
    """What repetitions share; runs of unknown settings are repetitions of nothing."""
    protocol = run.protocol
    if protocol.config_hash is None:
        return run.number
    return protocol.config_hash, protocol.step, protocol.weights, protocol.flow


def _ordered(metric: str, members: Sequence[_Run]) -> list[str]:
    """Lines about runs that can be compared, best first."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    groups = [_group(metric, runs) for runs in grouped(members, _settings)]
    groups.sort(key=lambda group: sign * group.mean)
    protocol = members[0].protocol
    rows = []
    for place, group in enumerate(groups, start=1):
        names = list(dict.fromkeys(_code(run.result.name) for run in group.runs))
        rows.append((str(place), _numbers_of(group), few(names), _average(group.values)))
    lines = [_table(("place", "runs", "model", plain(label(metric, protocol.extractor))), rows)]
    lines += [plain(f"{in_words(protocol, metric)}."), ""]
    if len(groups) > _MOST_PAIRED:
        lines += [f"Of more than {_MOST_PAIRED} groups, only the differences to the best are given:", ""]
    leading = enumerate(groups[: _shown(groups)], start=1)
    notes = [_difference(one, other) for place, one in leading for other in groups[place:]]
    return lines + [f"- {note}" for note in notes] + ([""] if notes else [])


def _shown(groups: Sequence[Any]) -> int:
    """How many groups, from the first on, the later ones are compared with."""
    return len(groups) if len(groups) <= _MOST_PAIRED else 1


def _group(metric: str, runs: list[_Run]) -> _Group:
    """Evaluations of one training by several sampling seeds are averaged first."""
    trainings: dict[Any, list[float]] = {}
    for run in runs:
        seed = run.protocol.training_seed
        key = run.number if seed is None else ("seed", seed, run.protocol.step)
        trainings.setdefault(key, []).append(run.result.metrics[metric]["value"])
    values = [mean(of_one) for of_one in trainings.values()]
    return _Group(runs, values, mean(values))


def _average(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{_number(values[0])} (1 run: no interval)"
    average, half = mean_interval(values)
    return f"{_with_uncertainty(average, half)} ({len(values)} runs)"


def _difference(one: _Group, other: _Group) -> str:
    subject, distance = f"{_named(one)} minus {_named(other)}", one.mean - other.mean
    if min(len(one.values), len(other.values)) == 1:
        return f"{subject}: {_number(distance)}, no interval: a single run says nothing about its spread"
    half = welch(one.values, other.values)
    verdict = "" if abs(distance) > half else "; the interval holds 0: no difference is shown"
    return f"{subject}: {_with_uncertainty(distance, half)}{verdict}"


def _named(group: _Group) -> str:
    return f"run{'' if len(group.runs) == 1 else 's'} {_numbers_of(group)}"


def _numbers_of(group: _Group) -> str:
    return ", ".join(str(run.number) for run in group.runs)


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def _with_uncertainty(value: float, half: float) -> str:
    """Both with the decimals that make two digits of the half-width."""
    if half == 0:
        return f"{_number(value)} ± 0"
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{value:.{decimals}f} ± {half:.{decimals}f}"


def _code(text: str) -> str:
    """Text from outside as code, in which Markdown and HTML mean nothing; fit for a cell of a table."""
    return "`" + printable(" ".join(text.replace("`", "'").replace("|", "\\|").split())) + "`"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells of a table, as wide as their columns, with a rule below the head."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (head, ["-" * width for width in widths], *rows)
    return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in aligned(head, rows))
