"""The table and the picture of ``licfg_centers``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from judge import DELTA, SAMPLES, Judge, cell
from sweep import Result

from licfg_hf.diagnostics.plots import panel_grid

COLUMNS = {
    "classes": "classes covered",
    "imbalance": "imbalance",
    "precision": "precision",
    "recall": "recall",
    "gradient_norm": "E‖grad D‖",
    "neighbourhood": "latent neighbourhood",
}
Measured = Sequence[tuple[Result, Mapping[str, float]]]


def table(results: Sequence[Result], measured: Measured, judge: Judge) -> str:
    """Markdown: one row for each arm, means with 95 % intervals over the seeds."""
    lines = [
        f"| penalty | runs | {' | '.join(COLUMNS.values())} |",
        "| --- |" + " --- |" * (len(COLUMNS) + 1),
    ]
    for arm in dict.fromkeys(result.arm.name for result in results):
        own = [numbers for result, numbers in measured if result.arm.name == arm]
        runs = sum(result.arm.name == arm for result in results)
        cells = [cell([numbers[name] for numbers in own]) for name in COLUMNS]
        lost = "" if runs == len(own) else f", {runs - len(own)} diverged"
        lines.append(f"| {arm} | {runs}{lost} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _legend(judge), ""])


def _legend(judge: Judge) -> str:
    return (
        f"{SAMPLES} samples of the generator alone are compared with {len(judge.real)} test images. A classifier that "
        f"no run trains on tells the classes; its test accuracy is {judge.accuracy:.4f}. A class counts as covered if "
        "it gets at least a quarter of its share among the test images. The imbalance is half the sum of the "
        "differences of the shares (0 is perfect). Precision and recall (k = 3) use the classifier's 64 features. "
        "E‖grad D‖ is that of the last discriminator on interpolates. Latent neighbourhood: median radius within "
        f"which an image moves by at most {DELTA:g}, to first order. (The Li-CFG paper was not available to us; this "
        "definition is our own.) ± is a 95 % interval over the seeds."
    )


def plot(measured: Measured, path: Path) -> None:
    """One panel for each number, one point for each run."""
    if not measured:
        return
    names = list(dict.fromkeys(result.arm.name for result, _ in measured))
    figure, panels = panel_grid(len(COLUMNS), columns=3, size=(3.6, 2.6))
    for panel, (column, title) in zip(panels, COLUMNS.items(), strict=True):
        for place, name in enumerate(names):
            values = [numbers[column] for result, numbers in measured if result.arm.name == name]
            panel.plot([place] * len(values), values, "o", alpha=0.6)
        panel.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=7)
        panel.set_title(title, fontsize=9)
    figure.savefig(path, dpi=100)
