"""Does the weight that ``licfg-hf tune-penalty`` recommends make good samples? Grids of weights, each trained.

    python recipes/studies/penalty_calibration.py --games biggan --penalties r1 eps

trains a short run for each weight and seed, measures rho with each weight, and prints how far the recommended weight
is from the best one. Any number of processes may share the folder, and the same command goes on where it was stopped.
The table and all runs are written to ``table.md`` and ``runs.json`` in the folder.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from ablate_eps import RECIPE as ABLATION
from ablation_arms import CONTROL_SCALE, Setting
from judge import classifier_file
from sweep import Result, collect, run_sweep, say

from licfg_hf.command_line import OptionParser, one_line_errors
from licfg_hf.data import ImageSet
from licfg_hf.diagnostics.intervals import welch
from licfg_hf.diagnostics.tuning import TARGET, PenaltyTuning, ProbedWeight, recommend
from licfg_hf.files import require_writable, user_path, write_json, write_text
from licfg_hf.recipes import Recipe, get_recipe
from licfg_hf.recipes.tuning import tune

PENALTIES = ("eps", "r1", "zero", "one")
TARGETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
FACTOR = 3.0  # within which a recommended weight counts as right
_COMMON = ["--sample_every", "null", "--checkpoint_every", "100000", "--log_every", "20"]
_COMMON += ["--evaluate_samples", "1000", "--evaluate_metrics", "fid"]


@dataclass(frozen=True)
class Game:
    """Networks, data and budget of short runs.

    Attributes:
        weights: the grid, around what a first probe says.
        steps: of a run.
        probe_steps: of ``tune-penalty``.
        features: what judges samples; None trains a small classifier on the images.
    """

    recipe: Recipe
    preset: str
    weights: tuple[float, ...]
    steps: int
    probe_steps: int
    options: tuple[str, ...] = ()
    features: str | None = "digits"

    def words(self) -> list[str]:
        """The options that all its runs share."""
        return ["--preset", self.preset, "--max_steps", str(self.steps), *self.options, *_COMMON]


GAMES = {
    "biggan": Game(get_recipe("biggan_eps_cifar"), "quickstart", (0.01, 0.0316, 0.1, 0.316, 1, 3.16), 300, 200),
    "mnist": Game(
        *(ABLATION, "mnist", (0.0316, 0.1, 0.316, 1, 3.16, 10), 300, 200),
        options=("--evaluate_every", "null"),
        features=None,
    ),
    "ddgan": Game(get_recipe("ddgan_eps_cifar"), "quickstart", (0.00015, 0.0015, 0.015, 0.15), 1400, 1400),
}


@dataclass(frozen=True)
class Cell:
    """One game with one penalty.

    Attributes:
        distances: weight -> Fréchet distance of each seed's run; infinite where it diverged.
        probed: what ``tune-penalty`` measured.
    """

    game: str
    penalty: str
    distances: Mapping[float, Sequence[float]]
    probed: Sequence[ProbedWeight]

    @property
    def best(self) -> float:
        """The weight with the smallest geometric mean over the seeds."""
        return min(self.distances, key=lambda weight: _log_mean(self.distances[weight]))

    @property
    def alike(self) -> list[float]:
        """The weights whose distance cannot be told from the best one's: the 95 % interval of the ratio holds 1."""
        best = [math.log(value) for value in self.distances[self.best]]
        found = []
        for weight, values in self.distances.items():
            logs = [math.log(value) for value in values]
            if weight == self.best or (
                all(map(math.isfinite, logs)) and abs(mean(logs) - mean(best)) <= welch(logs, best)
            ):
                found.append(weight)
        return found

    def recommended(self, target: float) -> tuple[float | None, str]:
        return recommend(self.probed, target)

    def verdict(self, target: float) -> str:
        """Whether the recommended weight is near the best one, or cannot be told from it."""
        weight, _ = self.recommended(target)
        if weight is None:
            return "none recommended"
        if max(weight / self.best, self.best / weight) <= FACTOR:
            return "within 3"
        return "alike" if min(self.alike) <= weight <= max(self.alike) else "worse"


def _log_mean(values: Sequence[float]) -> float:
    return mean(math.log(value) for value in values)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the study."""
    with one_line_errors("; the same command goes on"):
        options = _parser().parse_args(arguments)
        folder = user_path(options.output_dir)
        require_writable(folder, "--output_dir", folder=True)
        for game in options.games:
            for penalty in options.penalties:
                _measure(folder, game, penalty, options.seeds, options.mnist)
        _report(folder)


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--games", nargs="+", choices=GAMES, default=list(GAMES), help="(default: all)")
    add("--penalties", nargs="+", choices=PENALTIES, default=list(PENALTIES), help="(default: all)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of the runs (default: 0 1 2)")
    add("--mnist", default="mnist", help="MNIST, as in --data of the recipes (default: that of the Hub)")
    add("--output_dir", default="output/penalty_calibration", help="folder of the study (default: %(default)s)")
    return parser


def _setting(penalty: str, weight: float) -> Setting:
    return Setting(penalty, CONTROL_SCALE if penalty == "eps" else None, weight)


def _measure(folder: Path, name: str, penalty: str, seeds: Sequence[int], mnist: str) -> None:
    """Trains the grid of one cell and probes it; what is there already is not done again."""
    game, place = GAMES[name], folder / name
    words = game.words() + (["--data", mnist] if name == "mnist" else [])
    images: ImageSet | None = None
    features = game.features
    if features is None:
        images = game.recipe.parts(game.recipe.parse(words)[1]).images
        features = str(classifier_file(images, place / "classifier.safetensors"))
    arms = [_setting(penalty, weight).arm({}) for weight in game.weights]
    probe = place / f"probe-{penalty}.json"
    if not probe.is_file():
        options = [word for key, value in arms[0].options.items() for word in (f"--{key}", str(value))]
        found = tune(game.recipe, game.recipe.parse([*words, *options])[1], game.weights, game.probe_steps)
        say(f"{name}, {penalty}\n{found}")
        place.mkdir(parents=True, exist_ok=True)
        write_json(probe, _json_of(found))
    run_sweep(game.recipe, arms, seeds, place, [*words, "--evaluate_features", features], lambda: arms, images)


def _json_of(found: PenaltyTuning) -> dict[str, Any]:
    rows = [{key: None if math.isnan(value) else value for key, value in asdict(row).items()} for row in found.probed]
    return {"probed": rows, "weight": found.weight, "reason": found.reason}


def cells_in(folder: Path) -> list[Cell]:
    """What is measured in a folder: games and penalties with at least two runs of each of their weights."""
    cells = []
    for name, game in GAMES.items():
        for penalty in PENALTIES:
            probe = folder / name / f"probe-{penalty}.json"
            results = collect(folder / name, [_setting(penalty, weight).arm({}) for weight in game.weights])
            distances = {weight: _distances(results, penalty, weight) for weight in game.weights}
            if probe.is_file() and all(len(values) > 1 for values in distances.values()):
                rows = json.loads(probe.read_text(encoding="utf-8"))["probed"]
                probed = [
                    ProbedWeight(**{key: math.nan if value is None else value for key, value in row.items()})
                    for row in rows
                ]
                cells.append(Cell(name, penalty, distances, probed))
    return cells


def _distances(results: Sequence[Result], penalty: str, weight: float) -> list[float]:
    name = _setting(penalty, weight).name
    return [result.metrics.get("fid", math.inf) for result in results if result.arm.name == name]


def _report(folder: Path) -> None:
    cells = cells_in(folder)
    text = table(cells)
    write_text(folder / "table.md", text)
    runs = [{**asdict(cell), "probed": [asdict(row) for row in cell.probed]} for cell in cells]
    write_json(folder / "runs.json", runs)
    say(text)


def table(cells: Sequence[Cell]) -> str:
    """The results as Markdown: each grid, what was recommended, and how other targets would do."""
    parts = ["# Does rho find the weight?"]
    for cell in cells:
        _, reason = cell.recommended(TARGET)
        rhos = {row.weight: row.rho for row in cell.probed}
        shown = ", ".join(f"{one:g}" for one in cell.alike)
        lines = [
            f"## {cell.game}, {cell.penalty}",
            "",
            "| weight | rho | Fréchet distance of each seed |",
            "| --- | --- | --- |",
        ]
        lines += [
            f"| {one:g} | {rhos.get(one, math.nan):.3f} | {', '.join(f'{value:.2f}' for value in values)} |"
            for one, values in cell.distances.items()
        ]
        lines.append(
            f"\nBest: {cell.best:g}; cannot be told from it: {shown}. The recommended weight: {cell.verdict(TARGET)} "
            f"({reason})."
        )
        parts.append("\n".join(lines))
    parts.append("\n".join(["## Other targets", "", *_targets(cells)]))
    return "\n\n".join(parts) + "\n"


def _targets(cells: Sequence[Cell]) -> list[str]:
    verdicts = ("within 3", "alike", "worse", "none recommended")
    head = f"| target of rho | {' | '.join(verdicts)} |"
    rows = [[cell.verdict(target) for cell in cells] for target in TARGETS]
    counts = [" | ".join(str(row.count(verdict)) for verdict in verdicts) for row in rows]
    return [head, f"|{' --- |' * 5}", *(f"| {t:g} | {c} |" for t, c in zip(TARGETS, counts, strict=True))]


if __name__ == "__main__":
    main()
