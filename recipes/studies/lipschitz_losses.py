"""How much the loss matters under Lipschitz regularization: the study of Qin, Mitra, Wonka (ECCV 2020).

Losses x k_SN (spectral normalization) x alpha (domain scaling) x k_GP (gradient penalty) on MNIST, CIFAR-10 and
CelebA, as a resumable sweep that fills the paper's tables.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import one_point
import torch
from jsonargparse import Namespace
from judge import discriminator_of
from lipschitz_arms import ALL, DATA, LOSSES, OF_IMAGES, PLANE, QUICK, STUDIES, Setting
from lipschitz_report import Found, Ground, plot_domains, plot_samples, report
from sweep import Result, arm_arguments, arm_folder, list_arms, require_valid, run_sweep, say
from torch.nn.utils import parametrize

from licfg_hf.command_line import OptionParser, is_main_process
from licfg_hf.diagnostics import operator_norms
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.errors import InputError
from licfg_hf.evaluation.protocol import EvaluationProtocol
from licfg_hf.evaluation.result import RESULT_FILE, stored_result
from licfg_hf.files import require_writable, user_path, write_text
from licfg_hf.recipes import PresetFolder, Recipe, get_recipe, main
from licfg_hf.recipes.differences import in_words
from licfg_hf.recipes.published import Difference, Row, differences, published_rows

_PRESETS = (*DATA, "quickstart")


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lipschitz_losses.py",
        description=__doc__,
        epilog="Every other option is an option of the training runs and applies to all arms: see --training_help.\n"
        "A study has no --push_to_hub: `licfg-hf push OUTPUT_DIR/arms/RUN --repo_id OWNER/NAME` publishes one run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    preset_help = (
        "images and length of the runs; default: all images on which the paper shows the studies, each in turn"
    )
    parser.add_argument("--preset", choices=_PRESETS, help=preset_help)
    parser.add_argument(
        "--studies",
        nargs="+",
        choices=list(STUDIES),
        help="parts of the paper; default: all of them, in the quickstart four arms of table3",
    )
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), help="only arms with these losses")
    for name, what in (("k_sn", "spectral normalization"), ("alpha", "domain scaling"), ("k_gp", "gradient penalty")):
        parser.add_argument(f"--{name}", nargs="+", type=float, help=f"only arms with these constants of {what}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of each arm's runs (default: 0)")
    folder_help = (
        "folder of the study (default: output/lipschitz_losses-PRESET); without --preset, of a folder for each"
    )
    parser.add_argument("--output_dir", help=folder_help)
    parser.add_argument("--dry_run", action="store_true", help="list the arms and estimate the time, train nothing")
    parser.add_argument("--differences", action="store_true", help="say what the arms change from the paper's")
    parser.add_argument("--training_help", action="store_true", help="explain the options of the training runs")
    return parser


# ---- what is chosen -------------------------------------------------------------------------------------------------

Chosen = Mapping[str, list[Setting]]  # of each study


def select(arguments: argparse.Namespace) -> Chosen:
    """The settings that the arguments choose, by study.

    Raises:
        InputError: none is left.
    """
    if arguments.studies is None and arguments.preset == "quickstart":
        chosen = {"table3": QUICK}
    else:
        chosen = {name: list(STUDIES[name].settings) for name in dict.fromkeys(arguments.studies or STUDIES)}
    wanted = {"loss": arguments.losses, "k_sn": arguments.k_sn, "alpha": arguments.alpha, "k_gp": arguments.k_gp}
    for option, values in wanted.items():
        if values is not None:
            chosen = {
                name: [setting for setting in settings if getattr(setting, option) in values]
                for name, settings in chosen.items()
            }
    chosen = {name: settings for name, settings in chosen.items() if settings}
    if not chosen:
        raise InputError("no arm is left: the chosen studies have none with these losses and constants")
    return chosen


def of_images(chosen: Chosen) -> list[Setting]:
    """Those that are trained on images, each once, in order."""
    return list(dict.fromkeys(setting for name in chosen if name in OF_IMAGES for setting in chosen[name]))


def _places(arguments: argparse.Namespace, chosen: Chosen) -> dict[str, Chosen]:
    """Preset -> what is done there: everything on the preset that was named, or each study where the paper has it."""
    if arguments.preset is not None:
        return {arguments.preset: chosen}
    places = {
        place: {name: settings for name, settings in chosen.items() if place in STUDIES[name].data}
        for place in (PLANE, *DATA)
    }
    return {place: own for place, own in places.items() if own}


def _folder(arguments: argparse.Namespace, place: str) -> Path:
    if arguments.output_dir is None:
        return user_path(f"output/lipschitz_losses-{place}")
    named = user_path(arguments.output_dir)
    return named if arguments.preset is not None else named / place


def list_cells(chosen: Chosen) -> None:
    """Prints the paper's cells among the chosen settings."""
    for name, settings in chosen.items():
        cells = [(images, setting) for images, setting in STUDIES[name].cells() if setting in settings]
        lost = " (the label of its images is lost: each is trained)" if STUDIES[name].label_lost else ""
        say(f"{name}, {STUDIES[name].at or 'ours'}: {len(cells)} cells{lost}")
        for images, setting in cells:
            say(f"  {images}: {setting}")


# ---- the run --------------------------------------------------------------------------------------------------------


def _run(recipe: Recipe, arguments: argparse.Namespace, rest: list[str]) -> None:
    chosen = select(arguments)
    if any(setting.loss == "LS" and setting.alpha != 1 for setting in of_images(chosen)):
        say("WARNING: LS is centred on 1/2, so scaling its domain moves its centre, too; use LS# for domain scaling")
    require_valid([setting.arm() for setting in ALL], arguments.seeds, rest)
    places = _places(arguments, chosen)
    for place in places:
        require_writable(_folder(arguments, place), "--output_dir", folder=True)
    if arguments.dry_run:
        _dry_run(recipe, arguments, chosen, rest)
        return
    panel_grid(1, columns=1, size=(1, 1))  # without matplotlib it fails here rather than after days of training
    for place, own in places.items():
        folder = _folder(arguments, place)
        if settings := of_images(own):
            _train(recipe, settings, arguments.seeds, folder, ["--preset", place, *rest])
        if "fig1" in own and is_main_process():
            _follow_points(own["fig1"], arguments.seeds[0], folder)


def _dry_run(recipe: Recipe, arguments: argparse.Namespace, chosen: Chosen, rest: list[str]) -> None:
    if arguments.preset is None:
        list_cells(chosen)
        say("name one of the images by --preset for an estimate of the time")
        return
    list_cells({name: settings for name, settings in chosen.items() if name not in OF_IMAGES})
    if settings := of_images(chosen):
        arms = [setting.arm() for setting in settings]
        list_arms(recipe, arms, arguments.seeds, ["--preset", arguments.preset, *rest])


def _train(recipe: Recipe, settings: Sequence[Setting], seeds: Sequence[int], folder: Path, rest: list[str]) -> None:
    """Trains the arms that are not finished and writes what a folder holds, by this call or an earlier one."""
    known = [setting.arm() for setting in ALL]
    normalized = arm_arguments(recipe, Setting("NS", k_sn=1.0).arm(), seeds[0], folder, rest)
    _, options = recipe.parse(normalized)
    parts = recipe.parts(options)
    layers = sum(parametrize.is_parametrized(layer, "weight") for layer in parts.discriminator.modules())
    ground = Ground(options.preset, parts.images.shape, layers, own=_own_choices(options.as_dict()))
    measure = partial(_measure, shape=ground.shape)
    arms = [setting.arm() for setting in settings]
    results = run_sweep(recipe, arms, seeds, folder, rest, lambda: known, parts.images, measure)
    if is_main_process():
        _write(_by_setting(results), ground, folder)


def _measure(place: Path, shape: Sequence[int]) -> Mapping[str, float]:
    try:
        critic = discriminator_of(place)
    except (AttributeError, OSError):  # a network of the user's own
        return {}
    return {"operator_norms": math.prod(operator_norms(critic, torch.zeros(1, *shape)).values())}


def _write(found: Found, ground: Ground, folder: Path) -> None:
    own = [
        (setting, result, arm_folder(folder, result.arm, result.seed)) for setting, each in found for result in each
    ]
    measured = next((result for *_, place in own if (result := stored_result(place / RESULT_FILE))), None)
    if measured is not None:
        ground = replace(ground, protocol=EvaluationProtocol.from_dict(measured["protocol"]))
    write_text(folder / "table.md", report(found, ground))
    plot_domains(found, folder / "omega.png")
    first = {setting: (place, result.diverged is not None) for setting, result, place in reversed(own)}
    drawn = [(setting, *first[setting]) for setting in STUDIES["fig5"].settings if setting in first]
    plot_samples(drawn, folder / "fig5.png")
    say(f"done: tables in {folder / 'table.md'}, the losses' domains in {folder / 'omega.png'}")


def _follow_points(settings: Sequence[Setting], seed: int, folder: Path) -> None:
    """Fig. 1, which is trained anew at each call: it takes a minute."""
    panels = []
    for setting in settings:
        say(f"== fig1: {setting}")
        points = one_point.follow(LOSSES[setting.loss], setting.k_sn or 1.0, setting.alpha, seed)
        panels.append(one_point.Panel(setting.loss, LOSSES[setting.loss], setting.k_sn or 1.0, setting.alpha, points))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "fig1.md", one_point.table(panels))
    one_point.plot(panels, folder / "fig1.png")
    say(f"done: {folder / 'fig1.md'}, {folder / 'fig1.png'}")


def _by_setting(results: Sequence[Result]) -> Found:
    """Each setting of the study that has results, with them."""
    found = [(setting, [result for result in results if result.arm == setting.arm()]) for setting in ALL]
    return [(setting, own) for setting, own in found if own]


# ---- the paper's rows -----------------------------------------------------------------------------------------------

_TRIVIA = ("hardware", "hours")  # unknown facts that choose nothing
_IDENTITY = ("data", "loss", "normalizer", "penalty")  # of an arm: one that differs in these stands for another row


def row_of(options: Mapping[str, Any]) -> Row | None:
    """The published row that an arm with these options is nearest to; None where the paper has none like it."""
    if options["preset"] not in DATA:
        return None
    rows = [row for name, row in published_rows().items() if name.startswith("qin-") and "max_steps" in row.options]
    compared = {row.name: _names(differences(row, options, {}), "differs") for row in rows}
    alike = [row for row in rows if not compared[row.name] & set(_IDENTITY)]
    return min(alike, key=lambda row: len(compared[row.name]), default=None)


def _names(found: Sequence[Difference], kind: str) -> set[str]:
    return {item.name for item in found if item.kind == kind}


def _own_choices(options: Mapping[str, Any]) -> list[str]:
    """Settings that the paper does not state, with the values of a run."""
    row = row_of(options) or published_rows()["qin-table3-mnist-ns"]
    own = [f"{item.name} {item.here}" for item in differences(row, options, {}) if item.kind == "own"]
    return own + [name for name, setting in row.facts.items() if setting.unknown and name not in _TRIVIA]


class LossStudy(Recipe):
    """A recipe whose run is a whole sweep of its settings."""

    def run(self, arguments: list[str] | None = None) -> None:
        """Runs the study with command-line arguments."""
        words = sys.argv[1:] if arguments is None else arguments
        known, rest = _parser().parse_known_args(words)
        if known.training_help:
            self.parser(known.preset or DATA[0]).print_help()
        elif known.differences:
            say("\n\n".join(dict.fromkeys(map(self.differences, self.chosen(words)))))
        else:
            _run(self.typed(words), known, rest)

    def chosen(self, words: Sequence[str]) -> Iterator[Namespace]:
        """The options of every arm on images that command-line arguments choose."""
        arguments, rest = _parser().parse_known_args(words)
        for place, own in _places(arguments, select(arguments)).items():
            for setting in of_images(own):
                yield self.parse(arm_arguments(self, setting.arm(), 0, Path("output"), ["--preset", place, *rest]))[1]

    def differences(self, options: Namespace) -> str:
        """Against the row that the arm stands for."""
        values = options.as_dict()
        row, presets = row_of(values), cast(PresetFolder, self.presets)
        found = None if row is None else (row, differences(row, values, presets.reasons(options.preset)))
        return in_words(found)


_SNGAN = get_recipe("sngan_pgn_cifar")
RECIPE = LossStudy(
    folder="recipes/studies",
    name="lipschitz_losses",
    title="Losses under Lipschitz regularization",
    components=_SNGAN.components,
    build=_SNGAN.build,
    presets=PresetFolder(Path(__file__).with_name("presets") / "lipschitz_losses", _PRESETS),
    card={"tags": ["lipschitz-losses"], "summary": "One arm of a study of losses under Lipschitz regularization."},
)

if __name__ == "__main__":
    main(RECIPE)
