"""The results of a benchmark as Markdown, and the machine that they come from."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from ..machine import device_name, processor_name, versions
from .catalogue import MEMORY

_OF_STEPS = ("technique", "time / none", "FLOPs / none", "memory / none", "time, ms", "memory, MiB")
_OF_TRAINER = ("network", "batch", "trainer, ms per step", "bare loop, ms", "trainer / bare loop", "memory grew by")
Row = Mapping[str, Any]  # of the results, as it stands in the JSON file


def protocol(device: torch.device, **about: Any) -> dict[str, Any]:
    """On what, by what and when, and what else is said."""
    return {
        "device": device_name(device),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": torch.get_float32_matmul_precision() != "highest",
        "versions": versions(("licfg_hf", "torch", "accelerate", "diffusers", "numpy")),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "memory": MEMORY.get(device.type),
        **about,
    }


def steps_in_words(rows: Sequence[Row], about: Row) -> str:
    """The tables of ``bench.md``, one for each step, and under them what they were measured on."""
    parts = []
    for step in dict.fromkeys(row["step"] for row in rows):
        cells = [_step_cells(row) for row in rows if row["step"] == step]
        parts.append(f"**{step.capitalize()}**\n\n{_table(_OF_STEPS, cells)}")
    facts = [
        f"`{about['model']}` ({' and '.join(f'{count:,}' for count in about['parameters'])} parameters), "
        f"images {'x'.join(map(str, about['image']))}, batch {about['batch_size']}, {about['dtype']}",
        _machine(about),
        f"Times: medians over {about['rounds']} interleaved rounds, relative to `none` in the same round; quartiles.",
        f"FLOPs: {about['flops']}. Memory: {about['memory']} during the step, without what stays between steps.",
    ]
    return "\n\n".join([*parts, "  \n".join(facts)]) + "\n"


def trainer_in_words(rows: Sequence[Row], about: Row) -> str:
    """The table of ``overhead.md``, and under it what it was measured on."""
    table = _table(_OF_TRAINER, [_trainer_cells(row) for row in rows])
    return f"{table}\n\n{_machine(about)}; medians over blocks in turn, quartiles.\n"


def _machine(about: Row) -> str:
    libraries = ", ".join(f"{name} {about['versions'][name]}" for name in ("torch", "licfg_hf"))
    return f"{about['device']}, {about['processor']}, {about['threads']} thread(s), {libraries}, {about['date']}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def _spread(spread: Mapping[str, float], digits: int = 2) -> str:
    return "{median:.{n}f} ({low:.{n}f} to {high:.{n}f})".format(n=digits, **spread)


def _step_cells(row: Row) -> list[str]:
    name = row["technique"]
    if row["compiled"]:
        name += ", compiled" + (f" in {row['compile_seconds']:.3g} s" if "compile_seconds" in row else "")
    if "problem" in row:
        return [name, f"not possible: {row['problem'].replace('|', '/')}", "", "", "", ""]
    compared = f"; {_spread(row['ratio_to_compiled'])} of `none`, compiled" if "ratio_to_compiled" in row else ""
    ratios = ["" if ratio is None else f"{ratio:.2f}" for ratio in (row["flops_ratio"], row["peak_bytes_ratio"])]
    memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.4g}"
    return [name, _spread(row["ratio"]) + compared, *ratios, f"{1000 * row['seconds']['median']:.4g}", memory]


def _trainer_cells(row: Row) -> list[str]:
    times = [f"{1000 * row['seconds_per_step'][loop]['median']:.4g}" for loop in ("trainer", "bare")]
    growth = f"{row['resident_growth_bytes'] / 2**20:.1f} MiB in {row['resident_growth_steps']} steps of each loop"
    return [row["network"], str(row["batch_size"]), *times, _spread(row["ratio"], 3), growth]
