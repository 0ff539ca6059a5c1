"""Tables and pictures of ``lipschitz_losses``, in the layout of the paper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lipschitz_arms import LIMIT, LOSSES, STUDIES, Setting
from PIL import Image
from sweep import Result

from licfg_hf.diagnostics import domain_bound
from licfg_hf.diagnostics.intervals import mean_interval
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.evaluation.protocol import EvaluationProtocol, in_words, label, makes_samples
from licfg_hf.objective.losses import get_loss

Found = Sequence[tuple[Setting, list[Result]]]


@dataclass(frozen=True)
class Ground:
    """What all arms of a folder share.

    Attributes:
        data: name of the images.
        shape: of one image, (channels, height, width).
        layers: of the critic that k_SN multiplies.
        protocol: by which the finished runs were measured; None before one has finished.
        own: settings that the paper does not state, with what stands here.
    """

    data: str
    shape: Sequence[int]
    layers: int
    protocol: EvaluationProtocol | None = None
    own: Sequence[str] = ()

    def legend(self) -> list[str]:
        """How the cells were measured, and what is not the paper's."""
        extractor = "pixels" if self.protocol is None else self.protocol.extractor
        lines = [f"Cells: {label('fid', extractor)}; smaller is better. ± is a 95 % interval over the seeds."]
        if self.protocol is not None:
            lines.append(f"Final step, {makes_samples(self.protocol)}: {in_words(self.protocol, 'fid')}.")
        if extractor != "inception":
            lines.append("**This is not FID**: compare these numbers only with each other, on the same data.")
        lines += [
            f"The critic has n = {self.layers} normalized layers. k_SN is the largest singular value of each weight "
            "as a matrix. The paper takes k_SN^n for the critic's Lipschitz constant K. Convolutions can be steeper "
            "than their matrices, so K is no bound.",
            "Further numbers of each run stand in results.jsonl.",
        ]
        if self.own:
            lines.append(
                "The paper's main text does not state these settings, and its supplement was not readable. They are "
                f"our choice: {'; '.join(self.own)}."
            )
        return [" ".join(lines), ""]


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


def _table(
    found: Found, name: str, value: Callable[[Setting], Any], title: str, layers: int | None = None
) -> list[str]:
    """Rows losses, columns the values of one constant; with ``layers``, K = k^n below the head."""
    columns = sorted({value(setting) for setting, _ in found})
    rows = list(dict.fromkeys(setting.loss for setting, _ in found))
    cells = {(setting.loss, value(setting)): cell(results) for setting, results in found}
    heads = [f"{name} {column}" if isinstance(column, str) else f"{name} {column:g}" for column in columns]
    powers = [] if layers is None else [f"| K = k^{layers} | {' | '.join(f'{k**layers:.4g}' for k in columns)} |"]
    return [
        f"## {title}",
        "",
        f"| loss | {' | '.join(head.strip() for head in heads)} |",
        f"| --- |{' --- |' * len(columns)}",
        *powers,
        *(f"| {loss} | {' | '.join(cells.get((loss, column), '-') for column in columns)} |" for loss in rows),
        "",
    ]


def omega(results: Sequence[Result]) -> tuple[float, float] | None:
    """The outermost ends over the seeds; None where nothing was logged."""
    ends = [result.logits[-1] for result in results if result.logits]
    return (min(end[1] for end in ends), max(end[2] for end in ends)) if ends else None


def _slopes(setting: Setting, domain: tuple[float, float], part: str) -> str:
    """The smallest and largest slope of the discriminator's term on ``real`` or ``fake`` images over the domain."""
    grid = torch.linspace(*domain, 201, dtype=torch.float64)
    slopes = get_loss(LOSSES[setting.loss], setting.alpha).slopes(grid, grid)[part]
    return _interval((slopes.min().item(), slopes.max().item()))


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def _table2(found: Found) -> list[str]:
    """Ω and the slopes of one term over it: -log sigmoid for NS, the square for LS, as printed in the paper."""
    terms = {"NS": ("real", "-log sigmoid"), "LS": ("fake", "the square")}
    columns = [setting.k_sn for setting in STUDIES["table2"].settings if setting.loss == "NS"]
    lines = ["## Ω and the slopes of one term of the loss over it (Table 2)", ""]
    lines += [f"| loss | {' | '.join(f'k_sn {k:g}' for k in columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for loss in dict.fromkeys(setting.loss for setting, _ in found):
        domains = {setting.k_sn: omega(results) for setting, results in found if setting.loss == loss}
        shown = [domains.get(k) for k in columns]
        part, name = terms[loss]
        lines.append(f"| {loss}, Ω | {' | '.join('-' if ends is None else _interval(ends) for ends in shown)} |")
        slopes = ["-" if ends is None else _slopes(Setting(loss), ends, part) for ends in shown]
        lines.append(f"| {loss}, slopes of {name} | {' | '.join(slopes)} |")
    return [*lines, ""]


def _domains(found: Found, ground: Ground) -> list[str]:
    lines = [
        "## Ω, the domain of the loss at the end, its slopes there, and Theorem 1",
        "",
        "Ω: means over the last logged steps of a batch's smallest and largest output of the critic, the outermost of "
        f"the seeds. Bound: K times the diameter of the images' cube, {domain_bound(1.0, ground.shape):.6g}; a critic "
        "that is K-Lipschitz has no wider Ω (Theorem 1). K: k_SN^n, or k_GP, which a penalty does not enforce. "
        "Operator norms: the product of the layers' norms as operators on images, at the end, of the first seed. It "
        "is a Lipschitz constant of a critic that is a chain of layers, as the presets' is: in the place of K it "
        "gives a bound that holds.",
        "",
        "| loss | k_SN | rank_ratio | k_GP | alpha | Ω | width | bound | K | operator norms | slope on real | "
        "slope on generated |",
        "|" + " --- |" * 12,
    ]
    for setting, results in found:
        domain = omega(results)
        if domain is None:
            continue
        constants = (setting.k_sn, setting.rank_ratio, setting.k_gp, setting.alpha)
        k = setting.lipschitz_constant(ground.layers)
        bound = None if k is None else domain_bound(k, ground.shape)
        norms = next((result.measured.get("operator_norms") for result in results if result.measured), None)
        slopes = " | ".join(_slopes(setting, domain, part) for part in ("real", "fake"))
        lines.append(
            f"| {setting.loss} | {' | '.join(map(_number, constants))} | {_interval(domain)} | "
            f"{' | '.join(map(_number, (domain[1] - domain[0], bound, k, norms)))} | {slopes} |"
        )
    return [*lines, ""]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def report(found: Found, ground: Ground) -> str:
    """Markdown tables in the layout of the paper.

    Args:
        found: each setting with its results, one for each seed.
        ground: what they share.
    """

    def having(study: str) -> Found:
        return [(setting, results) for setting, results in found if setting in STUDIES[study].settings]

    lines = ["# Losses under Lipschitz regularization", "", *ground.legend()]
    if having("table2"):
        lines += _table2(having("table2"))
    if having("table3"):
        lines += _table(having("table3"), "k_sn", lambda s: s.k_sn, "Losses and k_SN (Table 3)", ground.layers)
    for study, k in (("table4a", 50), ("table4b", 1)):
        if having(study):
            title = f"Domain scaling at k_SN = {k}, K = {float(k**ground.layers):.4g} ({STUDIES[study].at})"
            lines += _table(having(study), "alpha", lambda s: s.alpha, title)
    if having("table5"):
        title = f"alpha = {LIMIT:g} at k_SN = 50, WGAN as it is (Table 5)"
        lines += _table(having("table5"), "", lambda _: ground.data, title)
    penalized = [(setting, results) for setting, results in found if setting.k_gp is not None]
    if penalized:
        lines += _table(
            penalized, "k_gp", lambda s: s.k_gp, "Losses and k_GP, whose domains are in omega.png (Fig. 4)"
        )
    if having("fig5"):
        lines += _table(
            having("fig5"), "alpha", lambda s: s.alpha, "Collapse and crash at k_SN = 50, see fig5.png (Fig. 5)"
        )
    if having("srn"):
        title = "Stable rank and spectral normalization together, k_SN = 1"
        lines += _table(having("srn"), "rank_ratio", lambda s: s.rank_ratio, title)
    return "\n".join([*lines, *_domains(found, ground)])


def plot_domains(found: Found, path: Path) -> None:
    """Ω of the first seed over the iterations, as in Fig. 4: rows GP and SN, columns losses, a band for a constant."""
    bands: dict[tuple[str, str], list[tuple[float, Result]]] = {}
    for setting, results in found:
        values = {"SRN": setting.rank_ratio, "GP": setting.k_gp, "SN": setting.k_sn}
        kind = next((kind for kind, value in values.items() if value is not None), None)
        if kind is not None and setting.alpha == 1 and results and results[0].logits:
            bands.setdefault((kind, setting.loss), []).append((values[kind] or 0.0, results[0]))
    if not bands:
        return
    kinds, losses = (
        [name for name in names if any(name in key for key in bands)] for names in (("GP", "SN", "SRN"), LOSSES)
    )
    figure, axes = panel_grid(len(kinds) * len(losses), columns=len(losses), size=(3.2, 2.4))
    for axis, key in zip(axes, ((kind, loss) for kind in kinds for loss in losses), strict=True):
        for constant, result in sorted(bands.get(key, []), key=lambda band: -band[0]):  # the widest lies behind
            axis.fill_between(*zip(*result.logits, strict=True), alpha=0.4, label=f"{constant:g}")
        axis.set_title(f"{key[1]}, {key[0]}", fontsize=9)
        axis.set_yscale("symlog", linthresh=0.01)
        axis.yaxis.get_major_locator().set_params(numticks=7)
        axis.tick_params(labelsize=7)
        axis.set_xlabel("step", fontsize=8)
        if key in bands:
            axis.legend(fontsize=6)
    axes[0].set_ylabel("Ω, the critic's outputs", fontsize=8)
    figure.savefig(path, dpi=100)


def plot_samples(found: Sequence[tuple[Setting, Path, bool]], path: Path) -> None:
    """The last samples that each run drew, as in Fig. 5; of each its setting, folder and whether it diverged."""
    if not found:
        return
    figure, axes = panel_grid(len(found), columns=4, size=(2.6, 2.8))
    for axis, (setting, folder, diverged) in zip(axes, found, strict=True):
        axis.set_axis_off()
        axis.set_title(f"{setting.loss}{', diverged' if diverged else ''}", fontsize=9)
        pictures = sorted((folder / "samples").glob("step-*.png"))
        if pictures:
            with Image.open(pictures[-1]) as picture:
                axis.imshow(picture.convert("RGB"))
        else:
            axis.text(0.5, 0.5, "no samples before it diverged", ha="center", fontsize=7)
    figure.savefig(path, dpi=100)
