"""``licfg-hf tune-penalty``: which weight the penalty of a recipe should have, by short trainings in memory."""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from ..command_line import OptionParser, require_no_more
from ..errors import InputError
from ..files import user_path
from ..ranges import require_whole
from ..text import counted
from .recipe import Recipe

if TYPE_CHECKING:
    from ..data import ImageSet
    from ..diagnostics.tuning import PenaltyTuning, ProbeStep
    from ..training import Trainer, TrainingConfig

STEPS = 200
_FEWEST_DUE = 4  # times that a lazy penalty is due, at least; the last half of them counts
_AROUND = [10 ** (k / 2) for k in range(-3, 4)]  # factors of the recipe's weight
_EPILOG = (
    "Every other option is one of the recipe and holds for all weights: `licfg-hf train RECIPE --help` lists them. "
    "Nothing is written but the picture. With several --penalties, the weight is that of the first, and the others "
    "keep their ratios to it."
)


def tuning_parser(name: str = "RECIPE") -> OptionParser:
    """The options of the probe itself."""
    parser = OptionParser(
        prog=f"licfg-hf tune-penalty {name}",
        usage="licfg-hf tune-penalty RECIPE [options of the recipe] [--tune_* options]",
        description="Trains shortly with several weights of the penalty, and recommends the one at which the penalty "
        "has the wanted strength rho = wP / (wP + L0 - L): its cost beside what the critic gains over chance.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("--tune_weights", help="comma-separated (default: 7 in steps of a half decade around the recipe's)")
    add("--tune_steps", type=int, default=STEPS, help="training steps with each weight (default: %(default)s)")
    add("--tune_target", type=float, help="the wanted rho, in (0, 1) (default: 0.15)")
    add("--tune_plot", metavar="FILE", help="draw rho and slope against the weight, in the format of FILE's ending")
    return parser


def main(recipe: Recipe, words: Sequence[str]) -> None:
    """Runs the command for a recipe.

    Raises:
        InputError: an option is wrong, the penalty has no weight, or the measurement recommends none.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("tune-penalty measures in one process: start it without a launcher")
    parser = tuning_parser(recipe.name)
    known, rest = parser.parse_known_args(words)
    require_no_more([word for word in rest if word.startswith(("--tune_", "--tune-"))], parser._option_string_actions)
    _, options = recipe.parse(rest)
    weights = None if known.tune_weights is None else numbers_in(known.tune_weights, "--tune_weights")
    place = _picture(known)
    from ..diagnostics.tuning import TARGET

    target = TARGET if known.tune_target is None else known.tune_target
    found = tune(recipe, options, weights, known.tune_steps, target, announce=True)
    print(found.table())
    if place is not None:
        draw(found, place)
        print(f"picture in {place}")
    if found.weight is None:
        raise InputError(found.reason)
    print(found.reason + (f"; pass --penalty_weight {found.weight:.3g}" if options.penalties is None else ""))


def numbers_in(text: str, option: str) -> list[float]:
    """The numbers of a comma-separated option."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} are numbers such as 0.01,0.1,1, not {text!r}") from error


def _picture(known: argparse.Namespace) -> Path | None:
    from ..diagnostics.plots import panel_grid
    from ..images import require_picture

    if known.tune_plot is None:
        return None
    place = user_path(known.tune_plot)
    require_picture(place, "--tune_plot")
    panel_grid(1, columns=1, size=(1, 1))  # without matplotlib it fails here rather than after the measurement
    return place


def tune(
    recipe: Recipe,
    options: Namespace,
    weights: Sequence[float] | None = None,
    steps: int = STEPS,
    target: float | None = None,
    announce: bool = False,
) -> "PenaltyTuning":
    """Trains a recipe shortly with each weight of its penalty, from the same start and with the same draws.

    Args:
        options: as ``Recipe.parse`` gives them.
        weights: None takes 7 around the weight that the options have.
        steps: training steps with each weight.
        target: the wanted rho; None is the usual one.
        announce: print first what will be done and how long it may take.

    Raises:
        InputError: the options do not fit, the penalty has no weight, the loss tells nothing of its strength, or the
            steps are too few for a lazy penalty.
    """
    from ..data import open_images
    from ..diagnostics.tuning import TARGET, require_probe, tune_penalty
    from ..objective.strength import require_measurable
    from ..training.untouched import untouched

    training, _, data, objective = recipe.configs(options)
    (_, own), *_ = objective.weighted_penalties()
    chosen = weights or [float(f"{factor * own:.3g}") for factor in _AROUND]
    target = TARGET if target is None else target
    loss, terms = objective.build()
    try:
        require_probe(chosen, target)
        require_measurable(loss)
    except ValueError as error:
        raise InputError(str(error)) from error
    _require_steps(steps, training, max(term.interval for term in terms))
    with untouched(), TemporaryDirectory(prefix="licfg-hf-tune-") as folder:
        probe = Probe(recipe, options, open_images(data), steps, folder)
        if announce:
            probe.announce(chosen)
        return tune_penalty(probe.run, chosen, loss, target)


def _require_steps(steps: int, training: "TrainingConfig", interval: int) -> None:
    require_whole(2, training.max_steps, **{"--tune_steps": steps})
    fewest = -(-_FEWEST_DUE * interval // training.discriminator_steps)
    if steps < fewest:
        raise InputError(
            f"{counted(steps, 'step')} are too few for a penalty at every {interval} updates: pass --tune_steps "
            f"{fewest} or more"
        )


class Probe:
    """Short trainings of a recipe, one for each weight; each starts from the same weights and has the same draws.

    Args:
        folder: an empty one, for what a training would write; nothing of it stays.
    """

    def __init__(self, recipe: Recipe, options: Namespace, images: "ImageSet", steps: int, folder: str):
        self.recipe, self.options, self.images, self.steps, self.folder = recipe, options, images, steps, folder
        self.penalties = [name for name, _ in recipe.configs(options)[3].weighted_penalties()]

    def run(self, weight: float) -> "Iterator[ProbeStep]":
        """The updates of the critic with this weight."""
        from ..training.probe import probe_steps

        trainer, penalties = self._trainer(weight)
        return probe_steps(trainer, self.steps, penalties)

    def announce(self, weights: Sequence[float]) -> None:
        """Says what will be done, and how long it may take."""
        from ..machine import device_name
        from ..training.announce import seconds_per_step
        from ..training.progress import duration

        trainer, _ = self._trainer(weights[0])
        trainer.prepare()
        cost = trainer.generator_step.cost_per_step(trainer.config)
        per_step = seconds_per_step(trainer.context, trainer.images.shape, cost)
        print(
            f"{counted(len(weights), 'weight')} of {' and '.join(self.penalties)} x {counted(self.steps, 'step')} of "
            f"{self.recipe.name} on {device_name(trainer.device)}: about "
            f"{duration(per_step * self.steps * len(weights))}",
            flush=True,
        )

    def _trainer(self, weight: float) -> "tuple[Trainer, list[str]]":
        """A training that writes nothing by itself, and the names of the terms that are the penalty."""
        from ..training import Trainer

        with redirect_stdout(StringIO()):  # notes on the networks, once for each weight
            parts = self.recipe.parts(self.options, self.images)
            loss, terms = parts.objective.at_weight(weight).build()
            training = replace(
                parts.training,
                output_dir=f"{self.folder}/{weight!r}",
                resume="auto",
                ema_decay=None,
                torch_compile=False,
                cuda_graphs=False,
                trackers=("jsonl",),  # which waits for the first number
                sample_every=None,
                evaluate_samples=None,
                evaluate_every=None,
                keep_best=None,
            )
            augmentation = parts.objective.differentiable_augmentation()
            played = (parts.generator, parts.discriminator, self.images, parts.task, loss, terms, parts.generator_step)
            trainer = Trainer(training, *played, augmentation=augmentation)
        return trainer, [term.name for term in trainer.terms[: len(self.penalties)]]


def draw(found: "PenaltyTuning", place: Path) -> None:
    """Draws rho and the slope against the weight."""
    from ..diagnostics.plots import panel_grid
    from ..files import writing
    from ..images import PICTURE_FORMATS

    rows = [row for row in found.probed if not row.diverged]
    figure, axes = panel_grid(2, columns=2, size=(4, 3))
    weights = [row.weight for row in rows]
    axes[0].plot(weights, [row.rho for row in rows], marker="o")
    axes[0].axhline(found.target, linestyle=":", color="grey")
    axes[0].set_ylabel("rho")
    axes[1].plot(weights, [row.slope for row in rows], marker="o")
    axes[1].set(ylabel="mean ||grad D|| x distance of real and fake", yscale="log")
    for panel in axes:
        panel.set(xscale="log", xlabel="weight of the penalty")
        if found.weight is not None:
            panel.axvline(found.weight, linestyle="--", color="grey")
    place.parent.mkdir(parents=True, exist_ok=True)
    with writing(place) as file:
        figure.savefig(file, format=PICTURE_FORMATS[place.suffix.lower()].lower())
