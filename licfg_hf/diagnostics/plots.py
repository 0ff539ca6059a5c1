"""Figures of several panels; they need matplotlib (extra ``plots``)."""

from typing import Any

from ..errors import InputError


def panel_grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A matplotlib figure of ``count`` panels of ``size`` (width, height in inches), row by row, and their axes.

    Places that are left over stay empty. An InputError says that matplotlib is not installed.
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
