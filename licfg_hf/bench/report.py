"""What was measured, as a dictionary for JSON, a Markdown table and a picture."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..diagnostics.plots import panel_grid
from ..errors import InputError
from ..files import write_json, write_text
from ..machine import device_name, processor_name, versions
from ..recipes.objective import ObjectiveConfig
from ..training.progress import duration
from .cases import Setting
from .catalogue import BASELINE, Technique
from .measure import Measured, Measurement
from .memory import MEANING
from .timing import Median, averaged, median_with_interval, ratios

_PACKAGES = ("licfg_hf", "torch", "accelerate", "diffusers", "numpy")
_TITLES = {
    "discriminator": "Discriminator step",
    "generator": "Generator step",
    "iteration": "Whole iteration",
}
Key = tuple[str, bool, str]


def protocol(device: torch.device) -> dict[str, Any]:
    """On what, by what and when."""
    return {
        "device": device_name(device),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "tf32": torch.get_float32_matmul_precision() != "highest",
        "versions": versions(_PACKAGES),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def content(measurement: Measurement, model_name: str, setting: Setting, rounds: int) -> dict[str, Any]:
    """All that is known, for JSON.

    Args:
        rounds: how many were asked for.
    """
    arena, model = measurement.arena, setting.model
    discriminator = arena.discriminator(ObjectiveConfig(penalty="none")).network
    about = {
        "model": model_name,
        "networks": {
            "family": model.family,
            "generator": {**model.generator},
            "discriminator": {**model.discriminator},
            "generator_parameters": _parameters(arena.generator.network),
            "discriminator_parameters": _parameters(discriminator),
        },
        "image": [model.channels, model.size, model.size],
        "classes": model.classes,
        "batch_size": setting.batch_size,
        "generator_batch_size": setting.batch_size * model.generator_batches,
        "discriminator_steps": model.discriminator_steps,
        "dtype": setting.dtype,
        "seed": setting.seed,
        "rounds": measurement.rounds,
        "rounds_asked_for": rounds,
        "warm_up": "2 runs before, and 1 round that is not counted",
        "order": "all steps in every round, in an order drawn anew for each; times are means of steps_per_time steps",
        "statistic": "median over the rounds of time / time of `none` in the same round",
        "interval": "order statistics that enclose the true median with at least 95 %",
        "data": "random uint8 images that are on the device already",
        "memory": MEANING.get(arena.device.type),
        "resident_bytes": measurement.resident,
        "flops": "convolutions and matrix-matrix products that this implementation computes in the uncompiled step",
    }
    rows = [row for step in measurement.steps for row in _rows(measurement, step)]
    return {"protocol": {**protocol(arena.device), **about}, "results": rows}


def _rows(measurement: Measurement, step: str) -> list[dict[str, Any]]:
    known = {one.key: one for one in measurement.measured}
    return [_row(known, technique, mode, step) for mode in measurement.modes for technique in measurement.techniques]


def _row(known: Mapping[Key, Measured], technique: Technique, compiled: bool, step: str) -> dict[str, Any]:
    name = {"step": step, "technique": technique.name, "compiled": compiled}
    one = _lazy(known, technique, compiled, step) if technique.lazy else known[technique.name, compiled, step]
    if one.problem is not None:
        return {**name, "problem": one.problem}
    baseline, own_mode = known[BASELINE, False, step], known[BASELINE, compiled, step]
    row = {
        **name,
        "seconds": median_with_interval(one.seconds).as_dict(),
        "ratio": median_with_interval(ratios(one.seconds, baseline.seconds)).as_dict(),
    }
    if compiled and own_mode.problem is None:
        row["ratio_to_compiled"] = median_with_interval(ratios(one.seconds, own_mode.seconds)).as_dict()
    if one.compile_seconds is not None:
        row["compile_seconds"] = one.compile_seconds
    for quantity in ("flops", "peak_bytes"):
        value, base = getattr(one, quantity), getattr(baseline, quantity)
        row[quantity] = value
        row[f"{quantity}_ratio"] = value / base if value is not None and base else None
    if technique.lazy:
        due, others, interval = technique.lazy
        row["averaged"] = f"computed: (`{due}` + {interval - 1} x `{others}`) / {interval}, round by round"
    else:
        row |= {"times": one.seconds, "steps_per_time": one.repeats}
    return row


def _lazy(known: Mapping[Key, Measured], technique: Technique, compiled: bool, step: str) -> Measured:
    """A technique that does something at every n-th step, from the figures of both kinds of steps."""
    *names, interval = technique.lazy
    due, others = (known[name, compiled, step] for name in names)
    problem = due.problem or others.problem
    lazy = Measured(technique.name, compiled, step, problem)
    if problem is None:
        lazy.seconds = averaged(due.seconds, others.seconds, interval)
        lazy.peak_bytes = due.peak_bytes  # memory has to suffice for the step in which it is due
        if due.flops is not None:
            lazy.flops = round((due.flops + (interval - 1) * others.flops) / interval)
    return lazy


def markdown(result: Mapping[str, Any]) -> str:
    """The tables, and under them what they were measured on."""
    steps = list(dict.fromkeys(row["step"] for row in result["results"]))
    tables = [_table(step, [row for row in result["results"] if row["step"] == step]) for step in steps]
    return "\n\n".join([*tables, _facts(result["protocol"], result["results"])]) + "\n"


def _table(step: str, rows: Sequence[Mapping[str, Any]]) -> str:
    columns: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "technique": _name,
        "time / none": lambda row: interval_text(row["ratio"]) + (" *" if "averaged" in row else ""),
    }
    if any("ratio_to_compiled" in row for row in rows):
        columns["time / none, compiled"] = lambda row: interval_text(row.get("ratio_to_compiled"))
        columns["compilation"] = lambda row: _optional(row.get("compile_seconds"), lambda value: duration(value))
    columns |= {
        "FLOPs / none": lambda row: _optional(row["flops_ratio"], lambda value: f"{value:.2f}"),
        "memory / none": lambda row: _optional(row["peak_bytes_ratio"], lambda value: f"{value:.2f}"),
        "time, ms": lambda row: f"{1000 * row['seconds']['median']:.4g}",
        "memory, MiB": lambda row: _optional(row["peak_bytes"], lambda value: f"{value / 2**20:.4g}"),
    }
    lines = [f"**{_TITLES[step]}**\n", _line(columns), _line(["---"] * len(columns))]
    for row in rows:
        first, *others = columns.values()
        if "problem" in row:
            reason = row["problem"].replace("|", "\\|")
            cells = [first(row), f"not possible: {reason}", *[""] * (len(others) - 1)]
        else:
            cells = [cell(row) for cell in columns.values()]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _optional(value: float | None, show: Callable[[float], str]) -> str:
    return "" if value is None else show(value)


def interval_text(median: Mapping[str, float] | None, digits: int = 2) -> str:
    """A median, with its interval where there is one, as a table shows it."""
    if median is None:
        return ""
    numbers = Median(**median)
    if numbers.low is None:
        return f"{numbers.median:.{digits}f}"
    return f"{numbers.median:.{digits}f} ({numbers.low:.{digits}f} to {numbers.high:.{digits}f})"


def _facts(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    networks, image = about["networks"], "x".join(map(str, about["image"]))
    rounds = f"{about['rounds']} interleaved rounds"
    interval = "95 % intervals of the median in brackets" if about["rounds"] > 5 else "too few rounds for an interval"
    parts = [
        f"`{about['model']}` ({networks['generator_parameters']:,} and {networks['discriminator_parameters']:,} "
        f"parameters), images {image}, batch {about['batch_size']} (generator {about['generator_batch_size']}), "
        f"{about['discriminator_steps']} discriminator step(s) per iteration, {about['dtype']}",
        f"{about['device']}, {about['processor']}, {about['threads']} thread(s), "
        f"torch {about['versions']['torch']}, licfg_hf {about['versions']['licfg_hf']}, {about['date']}",
        f"Times: medians over {rounds}, relative to `none` in the same round; {interval}.",
        f"FLOPs: {about['flops']}.",
    ]
    if about["memory"] is not None:
        parts.append(
            f"Memory: {about['memory']} during the step, beyond the {about['resident_bytes'] / 2**20:.4g} MiB of "
            "networks, averages and optimizers that stay between steps (with `none`)."
        )
    if any("averaged" in row for row in rows):
        parts.append(
            "\\* Computed from the measured steps with and without it, not run; its memory is that of a step with it."
        )
    if about["rounds"] < about["rounds_asked_for"]:
        parts.append(f"Interrupted: {about['rounds']} of {about['rounds_asked_for']} rounds.")
    return "  \n".join(parts)


def picture(result: Mapping[str, Any], path: Path) -> None:
    """One panel per kind of step: bars of the time ratios with their intervals, and a tick where the FLOPs are.

    Raises:
        InputError: matplotlib is not installed.
    """
    steps = list(dict.fromkeys(row["step"] for row in result["results"]))
    longest = max(sum(row["step"] == step for row in result["results"]) for step in steps)
    figure, axes = panel_grid(len(steps), columns=3, size=(5, 1 + 0.28 * longest))
    for step, axis in zip(steps, axes, strict=True):
        _panel(axis, step, [row for row in result["results"] if row["step"] == step and "problem" not in row])
    figure.savefig(path, dpi=120)


def _panel(axis: Any, step: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for place, row in enumerate(rows):
        ratio = Median(**row["ratio"])
        low, high = (ratio.median if end is None else end for end in (ratio.low, ratio.high))
        colour = "tab:orange" if row["compiled"] else "tab:blue"
        axis.barh(place, ratio.median, color=colour, alpha=0.7)
        axis.plot([low, high], [place, place], color="black", linewidth=1)
        if row["flops_ratio"] is not None:
            axis.plot(row["flops_ratio"], place, "k|", markersize=9)
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set(title=_TITLES[step], xlabel="time / none; tick: FLOPs / none")


def _name(row: Mapping[str, Any]) -> str:
    return row["technique"] + (", compiled" if row["compiled"] else "")


def write_tables(result: Mapping[str, Any], text: str, folder: Path, name: str) -> None:
    """Writes NAME.json and NAME.md.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", result)
        write_text(folder / f"{name}.md", text)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or folder}: {error.strerror}") from error


def write(result: Mapping[str, Any], folder: Path) -> list[str]:
    """Writes bench.json, bench.md and, where matplotlib is installed, bench.png; returns remarks.

    Raises:
        InputError: the folder cannot be written.
    """
    write_tables(result, markdown(result), folder, "bench")
    try:
        picture(result, folder / "bench.png")
    except InputError as error:
        return [f"no bench.png: {error}"]
    return []
