"""How much the loss matters under Lipschitz regularization: the study of Qin, Mitra, Wonka (ECCV 2020).

Losses x k_SN (spectral normalization) x alpha (domain scaling) x k_GP (gradient penalty) on MNIST, CIFAR-10 and
CelebA, as a resumable sweep that fills the paper's tables.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from sweep import Arm, Result, list_arms, require_valid, run_sweep, say

from licfg_hf.command_line import OptionParser, is_main_process
from licfg_hf.diagnostics.intervals import mean_interval
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.errors import InputError
from licfg_hf.files import require_writable, user_path, write_text
from licfg_hf.objective.losses import get_loss
from licfg_hf.recipes import PresetFolder, Recipe, get_recipe, main

# Short names of the paper -> ours. WGAN and EXP are written there with the opposite sign.
LOSSES = {
    "NS": "non_saturating",
    "LS": "least_squares",
    "LS#": "least_squares_zero_centered",
    "WGAN": "wasserstein",
    "COS": "cosine",
    "EXP": "exponential",
}
_K = (0.2, 0.25, 0.5, 1.0, 5.0, 10.0, 50.0)
_SMALL_ALPHA = (1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1)
_LARGE_ALPHA = (1e1, 1e3, 1e5, 1e7, 1e9, 1e11)
_LIMIT = 1e-25

_PRESETS = ("mnist", "cifar10", "celeba", "quickstart")


@dataclass(frozen=True)
class Setting:
    """What an arm is made of; ``None`` means not used.

    Attributes:
        loss: short name, a key of ``LOSSES``.
        k_sn: largest singular value of each weight of the discriminator.
        alpha: domain scaling.
        k_gp: gradient norm that the penalty, of weight 10, is centred on.
        rank_ratio: bound of the stable rank (SRN).
    """

    loss: str
    k_sn: float | None = None
    alpha: float = 1.0
    k_gp: float | None = None
    rank_ratio: float | None = None

    def arm(self) -> Arm:
        """The arm of the sweep."""
        options = {"loss": LOSSES[self.loss], "loss_alpha": self.alpha}
        parts = [LOSSES[self.loss]]
        if self.k_sn is not None:
            options |= {"normalizer": "spectral", "normalizer_k": self.k_sn}
            parts.append(f"ksn{self.k_sn:g}")
        if self.rank_ratio is not None:
            options |= {"normalizer": "stable_rank", "normalizer_rank_ratio": self.rank_ratio}
            parts.append(f"srn{self.rank_ratio:g}")
        if self.k_gp is not None:
            options |= {"penalty": "one_centered", "penalty_weight": 10.0, "penalty_center": self.k_gp}
            parts.append(f"kgp{self.k_gp:g}")
        if self.alpha != 1:
            parts.append(f"alpha{self.alpha:g}")
        return Arm("-".join(parts), options)


def _grid(losses: Iterable[str], **values: Iterable[float]) -> list[Setting]:
    names = list(values)
    return [
        Setting(loss, **dict(zip(names, point, strict=True))) for loss, *point in product(losses, *values.values())
    ]


STUDIES: dict[str, list[Setting]] = {
    "table3": _grid(("NS", "LS", "WGAN", "COS", "EXP"), k_sn=_K),
    "table4a": _grid(("NS", "LS", "LS#", "COS", "EXP"), k_sn=[50.0], alpha=_SMALL_ALPHA),
    "table4b": _grid(("NS", "LS", "LS#", "COS", "EXP"), k_sn=[1.0], alpha=_LARGE_ALPHA),
    "table5": [Setting("WGAN", k_sn=50.0), *_grid(("NS", "LS#", "COS", "EXP"), k_sn=[50.0], alpha=[_LIMIT])],
    "fig4": _grid(("NS", "LS"), k_sn=_K) + _grid(("NS", "LS"), k_gp=_K),
    "srn": _grid(("NS", "LS", "WGAN"), k_sn=[1.0], rank_ratio=(0.3, 0.5, 0.7, 0.9)),
}
_ALL = list(dict.fromkeys(setting for study in STUDIES.values() for setting in study))
_QUICK = [setting for setting in STUDIES["table3"] if setting.loss in ("NS", "WGAN") and setting.k_sn in (1.0, 50.0)]


def _parser() -> argparse.ArgumentParser:
    parser = OptionParser(
        prog="lipschitz_losses.py",
        description=__doc__,
        epilog="Every other option is one of the training runs and holds for all arms: see --training_help.\n"
        "A study has no --push_to_hub: `licfg-hf push OUTPUT_DIR/arms/RUN --repo_id OWNER/NAME` publishes one run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=_PRESETS, default="mnist", help="data set and length")
    parser.add_argument(
        "--studies",
        nargs="+",
        choices=list(STUDIES),
        help="parts of the paper; default: all of them, in the quickstart four arms of table3",
    )
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), help="only arms with these losses")
    for name, what in (("k_sn", "spectral normalization"), ("alpha", "domain scaling"), ("k_gp", "gradient penalty")):
        parser.add_argument(f"--{name}", nargs="+", type=float, help=f"only arms with these constants of {what}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="runs of each arm (default: 0)")
    parser.add_argument("--output_dir", help="folder of the study (default: output/lipschitz_losses-PRESET)")
    parser.add_argument("--dry_run", action="store_true", help="list the arms and estimate the time, train nothing")
    parser.add_argument("--training_help", action="store_true", help="explain the options of the training runs")
    return parser


def select(arguments: argparse.Namespace) -> list[Setting]:
    """The settings that the arguments choose, each once, in order.

    Raises:
        InputError: none is left.
    """
    if arguments.studies is None and arguments.preset == "quickstart":
        chosen = list(_QUICK)
    else:
        chosen = [setting for study in arguments.studies or STUDIES for setting in STUDIES[study]]
    wanted = {"loss": arguments.losses, "k_sn": arguments.k_sn, "alpha": arguments.alpha, "k_gp": arguments.k_gp}
    for name, values in wanted.items():
        if values is not None:
            chosen = [setting for setting in chosen if getattr(setting, name) in values]
    if not chosen:
        raise InputError("no arm is left: the chosen studies have none with these losses and constants")
    return list(dict.fromkeys(chosen))


def _run(recipe: Recipe, arguments: argparse.Namespace, rest: list[str]) -> None:
    settings = select(arguments)
    unnamed = f"output/lipschitz_losses-{arguments.preset}"
    folder = user_path(unnamed if arguments.output_dir is None else arguments.output_dir)
    require_writable(folder, "--output_dir", folder=True)
    if any(setting.loss == "LS" and setting.alpha != 1 for setting in settings):
        say("WARNING: LS is centred on 1/2, so scaling its domain moves its centre, too; domain scaling wants LS#")
    arms, known = [setting.arm() for setting in settings], [setting.arm() for setting in _ALL]
    if arguments.dry_run:
        require_valid(known, arguments.seeds, rest)
        list_arms(recipe, arms, arguments.seeds, rest)
        return
    panel_grid(1, columns=1, size=(1, 1))  # without matplotlib it fails here rather than after days of training
    results = run_sweep(recipe, arms, arguments.seeds, folder, rest, lambda: known)
    if is_main_process():
        found = _by_setting(results)
        write_text(folder / "table.md", report(found))
        _plot(found, folder / "omega.png")
        say(f"done: tables in {folder / 'table.md'}, the losses' domains in {folder / 'omega.png'}")


def _by_setting(results: Sequence[Result]) -> list[tuple[Setting, list[Result]]]:
    """Each setting of the study that has results, with them."""
    found = [(setting, [result for result in results if result.arm == setting.arm()]) for setting in _ALL]
    return [(setting, own) for setting, own in found if own]


# ---- tables ---------------------------------------------------------------------------------------------------------

Found = Sequence[tuple[Setting, list[Result]]]


def cell(results: Sequence[Result], metric: str = "fid") -> str:
    """A number, with a 95 % interval (Student) over the seeds where there are several, or ``diverged``."""
    if not results:
        return "-"
    lost = sum(result.diverged is not None for result in results)
    values = [result.metrics[metric] for result in results if metric in result.metrics]
    if not values:
        return "diverged" if lost else "-"
    mean, half = mean_interval(values)
    text = f"{mean:.4g}" + (f" ± {half:.2g}" if len(values) > 1 else "")
    return text + (f" ({lost} of {len(results)} diverged)" if lost else "")


def _table(found: Found, column: str, title: str) -> list[str]:
    columns = sorted({getattr(setting, column) for setting, _ in found})
    rows = list(dict.fromkeys(setting.loss for setting, _ in found))
    cells = {(setting.loss, getattr(setting, column)): cell(results) for setting, results in found}
    return [
        f"## {title}",
        "",
        f"| loss | {' | '.join(f'{column} {value:g}' for value in columns)} |",
        f"| --- |{' --- |' * len(columns)}",
        *(f"| {loss} | {' | '.join(cells.get((loss, value), '-') for value in columns)} |" for loss in rows),
        "",
    ]


def _slopes(setting: Setting, low: float, high: float) -> str:
    """The smallest and largest slope over the domain of the discriminator's term on real and on generated images."""
    grid = torch.linspace(low, high, 201, dtype=torch.float64)
    slopes = get_loss(LOSSES[setting.loss], setting.alpha).slopes(grid, grid)
    return " | ".join(f"[{slopes[part].min():.4g}, {slopes[part].max():.4g}]" for part in ("real", "fake"))


def _domains(found: Found) -> list[str]:
    lines = [
        "## Ω, the domain of the loss at the end, and its slopes there (Table 2)",
        "",
        "Ω: means over the last logged steps of a batch's smallest and largest output of the critic, the outermost of "
        "the seeds.",
        "",
        "| loss | k_SN | rank_ratio | k_GP | alpha | Ω | slope on real | slope on generated |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for setting, results in found:
        ends = [result.logits[-1] for result in results if result.logits]
        if not ends:
            continue
        low, high = min(end[1] for end in ends), max(end[2] for end in ends)
        constants = (setting.k_sn, setting.rank_ratio, setting.k_gp, setting.alpha)
        numbers = ["-" if value is None else f"{value:g}" for value in constants]
        lines.append(
            f"| {setting.loss} | {' | '.join(numbers)} | [{low:.4g}, {high:.4g}] | {_slopes(setting, low, high)} |"
        )
    return [*lines, ""]


def report(found: Found) -> str:
    """Markdown tables in the layout of the paper.

    Args:
        found: each setting with its results, one for each seed.
    """

    def having(study: str) -> Found:
        return [(setting, results) for setting, results in found if setting in STUDIES[study]]

    lines = [
        "# Losses under Lipschitz regularization",
        "",
        "Cells: Fréchet distance of Gaussians fitted to images averaged to 8x8 pixels, against training images; "
        "smaller is better. **This is not FID** and compares only with itself on the same data. ± is a 95 % interval "
        "over the seeds. Precision and recall of each run stand in results.jsonl.",
        "",
    ]
    titles = {
        "table3": ("k_sn", "Losses and k_SN (Table 3)"),
        "table4a": ("alpha", "Domain scaling at k_SN = 50 (Table 4)"),
        "table4b": ("alpha", "Domain scaling at k_SN = 1 (Table 4)"),
        "table5": ("k_sn", f"alpha = {_LIMIT:g} at k_SN = 50, WGAN as it is (Table 5)"),
        "srn": ("rank_ratio", "Stable rank and spectral normalization together, k_SN = 1"),
    }
    for study, (column, title) in titles.items():
        if having(study):
            lines += _table(having(study), column, title)
    penalized = [(setting, results) for setting, results in found if setting.k_gp is not None]
    if penalized:
        lines += _table(penalized, "k_gp", "Losses and k_GP")
    return "\n".join([*lines, *_domains(found)])


def _plot(found: Found, path: Path) -> None:
    """Ω over the iterations, a panel for each loss and constant, of the first seed (Fig. 4)."""
    panels: dict[str, Result] = {}
    for setting, results in found:
        if setting.alpha == 1 and results and results[0].logits:
            names = {"k_SN": setting.k_sn, "k_GP": setting.k_gp, "rank": setting.rank_ratio}
            used = [f"{name} = {value:g}" for name, value in names.items() if value is not None]
            panels[", ".join([setting.loss, *used])] = results[0]
    if not panels:
        return
    figure, axes = panel_grid(len(panels), columns=4, size=(3.2, 2.4))
    for axis, (title, result) in zip(axes, panels.items(), strict=True):
        axis.fill_between(*zip(*result.logits, strict=True), alpha=0.4)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
    axes[0].set_ylabel("Ω, the critic's outputs", fontsize=8)
    figure.savefig(path, dpi=100)


class LossStudy(Recipe):
    """A recipe whose run is a whole sweep of its settings."""

    def run(self, arguments: list[str] | None = None) -> None:
        """Runs the study with command-line arguments."""
        words = sys.argv[1:] if arguments is None else arguments
        known, rest = _parser().parse_known_args(words)
        if known.training_help:
            self.parser(known.preset).print_help()
            return
        _run(self.typed(words), known, ["--preset", known.preset, *rest])


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
