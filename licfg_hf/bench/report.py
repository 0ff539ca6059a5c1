"""The results of a benchmark, as a dictionary for JSON and as Markdown."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..files import write_json, write_text
from ..machine import device_name, processor_name, versions
from .cost import MEANING

_COLUMNS = ("technique", "time / none", "FLOPs / none", "memory / none", "time, ms", "memory, MiB")


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
        "memory": MEANING.get(device.type),
        **about,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The tables, and under them what they were measured on."""
    rows, about = result["results"], result["protocol"]
    parts = []
    for step in dict.fromkeys(row["step"] for row in rows):
        cells = [_cells(row) for row in rows if row["step"] == step]
        parts.append(f"**{step.capitalize()}**\n\n{table(_COLUMNS, cells)}")
    facts = [
        f"`{about['model']}` ({' and '.join(f'{count:,}' for count in about['parameters'])} parameters), "
        f"images {'x'.join(map(str, about['image']))}, batch {about['batch_size']}, {about['dtype']}",
        machine(about),
        f"Times: medians over {about['rounds']} interleaved rounds, relative to `none` in the same round; quartiles.",
        f"FLOPs: {about['flops']}. Memory: {about['memory']} during the step, without what stays between steps.",
    ]
    return "\n\n".join([*parts, "  \n".join(facts)]) + "\n"


def machine(about: Mapping[str, Any]) -> str:
    """The machine and the libraries, in a line."""
    libraries = ", ".join(f"{name} {about['versions'][name]}" for name in ("torch", "licfg_hf"))
    return f"{about['device']}, {about['processor']}, {about['threads']} thread(s), {libraries}, {about['date']}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def in_words(spread: Mapping[str, float], digits: int = 2) -> str:
    """A median with its quartiles."""
    return "{median:.{n}f} ({low:.{n}f} to {high:.{n}f})".format(n=digits, **spread)


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "problem" in row:
        return [_name(row), f"not possible: {row['problem'].replace('|', '/')}", "", "", "", ""]
    compared = f"; {in_words(row['ratio_to_compiled'])} of `none`, compiled" if "ratio_to_compiled" in row else ""
    known = (row["flops_ratio"], row["peak_bytes_ratio"])
    ratios = ["" if ratio is None else f"{ratio:.2f}" for ratio in known]
    memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.4g}"
    return [_name(row), in_words(row["ratio"]) + compared, *ratios, f"{1000 * row['seconds']['median']:.4g}", memory]


def _name(row: Mapping[str, Any]) -> str:
    if not row["compiled"]:
        return row["technique"]
    took = f" in {row['compile_seconds']:.3g} s" if "compile_seconds" in row else ""
    return f"{row['technique']}, compiled{took}"


def write(result: Mapping[str, Any], text: str, folder: Path, name: str) -> None:
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
