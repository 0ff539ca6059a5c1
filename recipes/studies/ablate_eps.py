"""Where should a gradient penalty have its centre? A grid over penalties, weights, architectures and seeds.

Arms: no penalty, R1, the 0-centred and the 1-centred penalty, the ε-centred one (Li-CFG, arXiv 2501.11236) with
several scales, and controls of the same centre norm: minus ones, a random direction, and the norm alone. Every arm has
the same data, budget and final-step EMA protocol. It is a resumable sweep that measures diversity, stability and what
the critic does, and draws it.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from ablation_arms import CONTROL_SCALE, FACTORS, SCALES, STUDIES, Setting, found_in, settings
from ablation_pictures import Examiner, write_pictures
from ablation_report import Study, plot_against_scale, plot_along_training, report, require_comparable
from judge import classifier_accuracy, classifier_file
from sweep import Arm, Result, arm_folder, collect, list_arms, require_valid, run_sweep, say

from licfg_hf.command_line import OptionParser, is_main_process
from licfg_hf.data import number_of_classes
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.errors import InputError
from licfg_hf.evaluation.evaluate import processes
from licfg_hf.evaluation.extractors import open_extractor
from licfg_hf.evaluation.metrics import metric_options
from licfg_hf.files import require_writable, user_path, write_text
from licfg_hf.recipes import PresetFolder, Recipe, get_recipe, main

# Weights of the penalties where none are given; DDGAN's is its published gamma / 2.
_WEIGHTS = {"cifar10-ddgan": (0.01,)}
# Extractors where none is given; the others need one.
_FEATURES = {"mnist": "classifier", "quickstart": "digits"}


def recipe_of(preset: str) -> Recipe:
    """The recipe whose preset it is."""
    return RECIPE if preset in RECIPE.presets else DDGAN


# ---- the command ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="ablate_eps.py",
        description=__doc__,
        epilog="Every other option, such as --data, is one of the training runs and holds for all arms: see "
        "--training_help.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    presets = [*RECIPE.presets, *DDGAN.presets]
    parser.add_argument(
        "--preset", choices=presets, default="mnist", help="data set, networks and budget (default: mnist)"
    )
    parser.add_argument(
        "--studies", nargs="+", choices=STUDIES, default=["penalties"],
        help="the penalties, or which learning rates still train (default: penalties)",
    )  # fmt: skip
    parser.add_argument(
        "--factors", nargs="+", type=float, default=list(FACTORS),
        help="of the preset's learning rates, in the study learning_rates (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--arms", help="only these penalties, comma-separated, such as none,r1,eps0.1,minus0.1")
    parser.add_argument(
        "--weights",
        nargs="+",
        type=float,
        help="of the penalties, as applied, R1's gamma / 2 (default: 1; 0.01 for cifar10-ddgan)",
    )
    parser.add_argument(
        "--scales", nargs="+", type=float, default=list(SCALES), help="of the ε-centred penalty (default: %(default)s)"
    )
    parser.add_argument(
        "--control_scales", nargs="+", type=float, default=[CONTROL_SCALE],
        help="of minus ones, random direction and norm (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--architectures", nargs="+", choices=("cnn", "resnet"), help="of SNGAN's networks (default: the preset's)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="runs of each arm (default: 0 1 2)")
    parser.add_argument(
        "--features",
        help="what judges samples, as in licfg-hf evaluate; 'classifier' trains a small one on the data, once "
        "(default: classifier for mnist, digits for quickstart)",
    )
    parser.add_argument("--output_dir", help="folder of the study (default: output/ablate_eps-PRESET)")
    parser.add_argument("--dry_run", action="store_true", help="list the arms and estimate the time, train nothing")
    parser.add_argument("--training_help", action="store_true", help="explain the options of the training runs")
    return parser


def select(options: argparse.Namespace) -> list[Setting]:
    """The settings that the options choose, in order.

    Raises:
        InputError: a number is out of range, or an arm is unknown.
    """
    weights = options.weights or _WEIGHTS.get(options.preset, (1.0,))
    numbers = {
        "weights": weights,
        **{name: getattr(options, name) for name in ("scales", "control_scales", "factors")},
    }
    for name, values in numbers.items():
        if any(not 0 < value < math.inf for value in values):
            raise InputError(f"{name} are numbers above 0, not {' '.join(f'{value:g}' for value in values)}")
    if options.architectures and recipe_of(options.preset) is DDGAN:
        raise InputError(f"--architectures are of SNGAN's networks: preset {options.preset} has its own")
    own = recipe_of(options.preset).presets[options.preset].get("generator.architecture", "resnet")
    architectures = [None if name == own else name for name in options.architectures or [own]]
    found = settings(options.studies, weights, options.scales, options.control_scales, architectures, options.factors)
    if options.arms is None:
        return found
    wanted = [name.strip() for name in options.arms.split(",") if name.strip()]
    kinds = list(dict.fromkeys(setting.kind for setting in found))
    unknown = [name for name in wanted if name not in kinds]
    if unknown or not wanted:
        raise InputError(f"no arm {', '.join(unknown) or 'is named'}; there are: {', '.join(kinds)}")
    return [setting for setting in found if setting.kind in wanted]


def _run(options: argparse.Namespace, rest: list[str], words: list[str]) -> None:
    recipe, preset = recipe_of(options.preset).typed(words), options.preset
    chosen = select(options)
    folder = user_path(f"output/ablate_eps-{preset}" if options.output_dir is None else options.output_dir)
    require_writable(folder, "--output_dir", folder=True)
    values = recipe.presets[preset]
    arms = [setting.arm(values) for setting in chosen]

    def known() -> list[Arm]:
        """The chosen arms, and those that lie in the folder by now."""
        found = sorted({*chosen, *found_in(folder)}, key=lambda setting: setting.order)
        return [setting.arm(values) for setting in found]

    # Also what no chosen arm sets, so that none of it holds for all arms.
    grid = [setting.arm(values) for setting in settings(STUDIES, [1.0], architectures=["resnet"])]
    judged = Arm("judged", {"evaluate_features": None, "evaluate_metrics": None})
    rest = ["--preset", preset, *rest]
    require_valid([*known(), *grid, judged], options.seeds, rest)
    features = options.features or _FEATURES.get(preset)
    if features is None:
        raise InputError(f"--preset {preset} needs --features: inception, or a classifier's .safetensors file")
    panel_grid(1, columns=1, size=(1, 1))  # without matplotlib it fails here rather than after the training
    if options.dry_run:
        probe = next((arm for arm in arms if arm.options["penalty"] != "none"), None)
        list_arms(recipe, arms, options.seeds, rest, probe)
        return
    _, parsed = recipe.parse(rest)
    if parsed.evaluate_samples is None and parsed.evaluate_every is None:
        raise InputError("a study measures its runs: pass --evaluate_samples COUNT")
    parts = recipe.parts(parsed)
    if features == "classifier":
        features = str(classifier_file(parts.images, folder / "classifier.safetensors"))
    device = processes().device
    extractor = open_extractor(features, parts.images.shape, device)
    require_comparable(collect(folder, known()), folder, extractor)
    examiner = Examiner(parts.images, parts.task, extractor, device, number_of_classes(parts.images))
    rest += ["--evaluate_features", features, "--evaluate_metrics", ",".join(_metrics(examiner))]
    results = run_sweep(recipe, arms, options.seeds, folder, rest, known, parts.images, examiner.measure)
    if is_main_process():
        study = Study(_by_setting(results), examiner.classes, extractor.name, classifier_accuracy(Path(features)))
        _report(study, examiner, folder)


def _metrics(examiner: Examiner) -> list[str]:
    return [name for name in metric_options() if name in ("fid", "pr", "dc") or (name == "acc" and examiner.classes)]


def _by_setting(results: Sequence[Result]) -> list[tuple[Setting, list[Result]]]:
    names = list(dict.fromkeys(result.arm.name for result in results))
    return [(Setting.of(name), [result for result in results if result.arm.name == name]) for name in names]


def _report(study: Study, examiner: Examiner, folder: Path) -> None:
    require_comparable([result for _, own in study.found for result in own], folder, examiner.extractor)
    text = report(study, folder)
    write_text(folder / "table.md", text)
    plot_against_scale(study, folder / "metric_against_scale.png")
    plot_along_training(study, folder / "along_training.png")
    shown = {
        setting.name: arm_folder(folder, own[0].arm, finished[0])
        for setting, own in study.found
        if (finished := [result.seed for result in own if result.diverged is None])
    }
    write_pictures(study, shown, examiner, folder)
    say(f"{text}\ndone: {folder / 'table.md'} and the pictures beside it")


class EpsStudy(Recipe):
    """A recipe whose run is a whole sweep of its settings."""

    def run(self, arguments: list[str] | None = None) -> None:
        """Runs the study with command-line arguments."""
        words = sys.argv[1:] if arguments is None else arguments
        known, rest = _parser().parse_known_args(words)
        if known.training_help:
            recipe_of(known.preset).parser(known.preset).print_help()
            return
        _run(known, rest, words)


_CARD = {"tags": ["ablate-eps"], "summary": "One arm of a study of the gradient penalty's centre."}
_PRESETS, _SNGAN, _DDGAN = (
    Path(__file__).with_name("presets"),
    get_recipe("sngan_pgn_cifar"),
    get_recipe("ddgan_eps_cifar"),
)
RECIPE = EpsStudy(
    folder="recipes/studies",
    name="ablate_eps",
    title="The centre of the gradient penalty",
    components=_SNGAN.components,
    build=_SNGAN.build,
    presets=PresetFolder(_PRESETS / "ablate_eps", ("mnist", "cifar10-narrow", "cifar10", "quickstart")),
    card=_CARD,
)
DDGAN = Recipe(
    folder="recipes/studies",
    name="ablate_eps",
    title="The centre of the gradient penalty, in a denoising diffusion GAN",
    components=_DDGAN.components,
    build=_DDGAN.build,
    presets=PresetFolder(_PRESETS / "ablate_eps_ddgan"),
    card=_CARD,
)

if __name__ == "__main__":
    main(RECIPE)
