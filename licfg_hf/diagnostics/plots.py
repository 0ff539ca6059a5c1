"""Pictures of a run's diagnostics; they need matplotlib (extra ``plots``)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError


def panel_grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A matplotlib figure of ``count`` panels, row by row, and their axes; places that are left over stay empty.

    Args:
        columns: panels in a row at most.
        size: width and height of a panel in inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("pictures need matplotlib: pip install 'licfg_hf[plots]'") from error
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def plot_history(records: Sequence[Mapping[str, float]] | Path | str, path: Path | str) -> None:
    """One panel per number over the steps; quantiles of a distribution (``NAME/q10`` ...) share a panel as a band.

    Args:
        records: dictionaries with ``step``, such as the lines of metrics.jsonl, or that file.
        path: the PNG file to write.

    Raises:
        InputError: matplotlib is not installed, or there is nothing to draw.
    """
    if isinstance(records, (str, Path)):
        records = [json.loads(line) for line in Path(records).read_text(encoding="utf-8").splitlines()]
    names = sorted({name for record in records for name in record if name != "step"})
    panels = sorted({name.rpartition("/")[0] or name for name in names})
    if not panels:
        raise InputError("there are no numbers to plot")
    figure, axes = panel_grid(len(panels), columns=3, size=(4.5, 3))

    def curve(name: str) -> tuple[list[float], list[float]]:
        points = [(record["step"], record[name]) for record in records if name in record]
        return [step for step, _ in points], [value for _, value in points]

    for panel, axis in zip(panels, axes, strict=True):
        members = [name for name in names if name == panel or name.startswith(f"{panel}/")]
        low, high = f"{panel}/q10", f"{panel}/q90"
        if low in members and high in members:
            steps, bottom = curve(low)
            axis.fill_between(steps, bottom, curve(high)[1], alpha=0.3)
        for name in members:
            if name not in (low, high):
                axis.plot(*curve(name), label=name.removeprefix(f"{panel}/"))
        if len(members) > 1:
            axis.legend(fontsize=7)
        axis.set(title=panel, xlabel="step")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
