"""Results of several runs side by side: seeds as intervals, and an order only among what can be compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from ..diagnostics.intervals import mean_interval, welch
from ..errors import InputError
from ..files import user_path
from ..text import plain, printable
from .metrics import METRICS
from .protocol import EvaluationProtocol, differences, grouped, in_words, label, makes_samples
from .result import Result, read_result

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
    for (one, first), (other, second) in combinations(zip(runs, paths, strict=True), 2):
        a, b = ((run.result.name, run.protocol, run.result.metrics) for run in (one, other))
        if first.resolve() == second.resolve() or a == b:  # counted twice, it would make an interval too narrow
            raise InputError(f"{first} and {second} are the same result: name it only once")
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


_Group = list[_Run]


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
    groups = grouped(measured, lambda one, other: not differences(one.protocol, other.protocol, metric))
    if len(groups) > 1:
        warning = "numbers of different protocols cannot be compared or ranked."
        lines += [f"Measured by {len(groups)} protocols: {warning}", ""]
    for index, members in enumerate(groups):
        if len(groups) > 1:
            lines += [f"### {metric}, protocol {index + 1}", ""]
        lines += _ordered(metric, members)
        for number, earlier in enumerate(groups[:index], start=1):
            reasons = differences(earlier[0].protocol, members[0].protocol, metric)
            lines += [f"Not comparable with protocol {number}; its value comes first:", ""]
            lines += [f"- {plain(reason)}" for reason in reasons] + [""]
    return "\n".join(lines)


def _same_settings(one: _Run, other: _Run) -> bool:
    """Runs of unknown settings are repetitions of nothing."""
    first, second = one.protocol, other.protocol
    same = ("config_hash", "step", "weights", "flow")
    return first.config_hash is not None and all(getattr(first, name) == getattr(second, name) for name in same)


def _ordered(metric: str, members: _Group) -> list[str]:
    """Lines about runs that can be compared, best first."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    groups = sorted(grouped(members, _same_settings), key=lambda group: sign * mean(_values(metric, group)))
    protocol = members[0].protocol
    rows = []
    for place, group in enumerate(groups, start=1):
        names = list(dict.fromkeys(_code(run.result.name) for run in group))
        rows.append((str(place), _numbers_of(group), ", ".join(names), _average(_values(metric, group))))
    lines = [_table(("place", "runs", "model", plain(label(metric, protocol.extractor))), rows)]
    lines += [plain(f"{in_words(protocol, metric)}."), ""]
    notes = [_difference(metric, one, other) for one, other in combinations(groups, 2)]
    return lines + [f"- {note}" for note in notes] + ([""] if notes else [])


def _values(metric: str, group: _Group) -> list[float]:
    """One value for each training: evaluations of one by several sampling seeds are averaged first."""
    trainings: dict[Any, list[float]] = {}
    for run in group:
        seed = run.protocol.training_seed
        key = run.number if seed is None else ("seed", seed, run.protocol.step)
        trainings.setdefault(key, []).append(run.result.metrics[metric]["value"])
    return [mean(values) for values in trainings.values()]


def _average(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{_number(values[0])} (1 run: no interval)"
    average, half = mean_interval(values)
    return f"{_with_uncertainty(average, half)} ({len(values)} runs)"


def _difference(metric: str, one: _Group, other: _Group) -> str:
    first, second = _values(metric, one), _values(metric, other)
    subject, distance = f"{_named(one)} minus {_named(other)}", mean(first) - mean(second)
    if min(len(first), len(second)) == 1:
        return f"{subject}: {_number(distance)}, no interval: a single run says nothing about its spread"
    half = welch(first, second)
    verdict = "" if abs(distance) > half else "; the interval holds 0: no difference is shown"
    return f"{subject}: {_with_uncertainty(distance, half)}{verdict}"


def _named(group: _Group) -> str:
    return f"run{'' if len(group) == 1 else 's'} {_numbers_of(group)}"


def _numbers_of(group: _Group) -> str:
    return ", ".join(str(run.number) for run in group)


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
