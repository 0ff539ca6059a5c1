"""Does the centre of the gradient penalty matter to functional gradient learning? Li-CFG's question, on MNIST.

Li-CFG (arXiv 2501.11236) claims that the ε-centred penalty gives larger critic gradients than the 0- and 1-centred
ones, hence smaller latent neighbourhoods (r_R1 > r_R0 > r_eps) and more diversity. This trains all three, and none,
with the same budget and seeds, as a resumable sweep, and measures what the claim is about.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from centers_report import plot, table
from judge import Judge, real_images
from sweep import Arm, Result, arm_folder, run_sweep, say

from licfg_hf.command_line import OptionParser, is_main_process
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.errors import InputError
from licfg_hf.files import require_writable, user_path, write_text
from licfg_hf.recipes import Recipe, get_recipe, main

CENTERS = ("none", "zero_centered", "one_centered", "eps_centered")
WEIGHTS = (0.1, 1.0)
_PRESETS = ("mnist-small", "quickstart")


def arms(centers: Sequence[str], weights: Sequence[float]) -> list[Arm]:
    """Every centre with every weight, and once none."""
    found = []
    for center in centers:
        if center == "none":
            found.append(Arm("none", {"penalty": "none"}))
        else:
            options = [{"penalty": center, "penalty_weight": weight} for weight in weights]
            found += [Arm(f"{center}-{one['penalty_weight']:g}", one) for one in options]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="licfg_centers.py",
        description=__doc__,
        epilog="Every other option is one of the training runs (see licfg_mnist --help) and holds for all arms.\n"
        "A study has no --push_to_hub: `licfg-hf push OUTPUT_DIR/arms/RUN --repo_id OWNER/NAME` publishes one run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--preset", choices=_PRESETS, default="mnist-small", help="of licfg_mnist (default: mnist-small)"
    )
    parser.add_argument("--centers", nargs="+", choices=CENTERS, default=list(CENTERS), help="(default: all)")
    parser.add_argument(
        "--weights", nargs="+", type=float, default=list(WEIGHTS), help="of the penalties (default: 0.1 1)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="runs of each arm (default: 0 1 2)")
    parser.add_argument("--output_dir", help="folder of the study (default: output/licfg_centers-PRESET)")
    return parser


def _run(recipe: Recipe, options: argparse.Namespace, rest: list[str]) -> None:
    folder = user_path(f"output/licfg_centers-{options.preset}" if options.output_dir is None else options.output_dir)
    require_writable(folder, "--output_dir", folder=True)
    if any(not 0 < weight < float("inf") for weight in options.weights):
        raise InputError(f"weights are numbers above 0, not {options.weights}")
    panel_grid(1, columns=1, size=(1, 1))  # without matplotlib it fails here rather than after the training
    chosen = arms(options.centers, options.weights)
    results = run_sweep(recipe, chosen, options.seeds, folder, ["--preset", options.preset, *rest], lambda: chosen)
    if is_main_process():
        _report(recipe, results, folder, ["--preset", options.preset, *rest])


def _report(recipe: Recipe, results: Sequence[Result], folder: Path, rest: list[str]) -> None:
    judge = Judge(*real_images(recipe, rest), folder)
    measured = []
    for result in results:
        if result.diverged is None:
            measured.append((result, judge.measure(arm_folder(folder, result.arm, result.seed))))
    text = table(results, measured, judge)
    write_text(folder / "table.md", text)
    plot(measured, folder / "centers.png")
    say(f"{text}\ndone: {folder / 'table.md'} and {folder / 'centers.png'}")


class CenterStudy(Recipe):
    """A recipe whose run is a whole sweep of its settings."""

    def run(self, arguments: list[str] | None = None) -> None:
        """Runs the study with command-line arguments."""
        words = sys.argv[1:] if arguments is None else arguments
        known, rest = _parser().parse_known_args(words)
        _run(self.typed(words), known, rest)


_MNIST = get_recipe("licfg_mnist")
RECIPE = CenterStudy(
    folder="recipes/studies",
    name="licfg_centers",
    title="The centre of the penalty in functional gradient learning",
    components=_MNIST.components,
    build=_MNIST.build,
    presets={name: _MNIST.presets[name] for name in _PRESETS},
    generator_step=_MNIST.generator_step,
    card=_MNIST.card,
)

if __name__ == "__main__":
    main(RECIPE)
