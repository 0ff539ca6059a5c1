"""Losses and regularizers on 2-D mixtures, in seconds each: the modes a generator finds, and how its critic looks.

All seeds of an arm train at once: the networks are ensembles, one member per seed, whose members share nothing but the
code. Adam is indifferent to the scale of gradients, so the mean over the members trains each as if it were alone.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from licfg_hf.command_line import OptionParser, one_line_errors
from licfg_hf.diagnostics import gradient_norms, latent_neighbourhood_size
from licfg_hf.diagnostics.intervals import mean_interval as interval
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.errors import InputError
from licfg_hf.files import require_writable, user_path, write_json, write_text
from licfg_hf.objective.functional_gradient import StageConfig, regression_loss
from licfg_hf.objective.losses import AdversarialLoss, get_loss
from licfg_hf.objective.penalties import (
    EpsCenteredGradientPenalty,
    GradientPenalty,
    interpolate,
    r1_penalty,
    r2_penalty,
)
from licfg_hf.ranges import MANY, require_whole

LATENT_DIM = 2
_STAGE = StageConfig(steps=5, step_size=0.5, epochs=2, initial_scale=None)  # of CFG; its pool is one batch per step
_SPREAD = 0.1  # standard deviation of a mode
_WEIGHT = 0.1  # of every penalty
_COVERED = 0.25  # a mode counts as covered from this multiple of its fair share of the samples on


def ring(count: int = 8) -> torch.Tensor:
    """Modes on a circle of radius 2, (count, 2)."""
    angles = torch.arange(count) * (2 * math.pi / count)
    return 2 * torch.stack([angles.cos(), angles.sin()], dim=1)


def grid(side: int = 5) -> torch.Tensor:
    """Modes on a square grid from -2 to 2, (side^2, 2)."""
    line = torch.linspace(-2, 2, side)
    return torch.cartesian_prod(line, line)


MIXTURES: dict[str, Callable[[], torch.Tensor]] = {
    "ring8": ring,
    "grid25": grid,
    # Qin et al., Fig. 1, in spirit: the generator starts at one mode, and many lie on the other side.
    "one_against_many": lambda: torch.cat([torch.tensor([[-2.0, 0.0]]), ring(6) * 0.5 + torch.tensor([1.5, 0.0])]),
}

REGULARIZERS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "zero": lambda: GradientPenalty(_WEIGHT),
    "one": lambda: GradientPenalty(_WEIGHT, center=1.0),
    "r1": lambda: r1_penalty(2 * _WEIGHT),
    "r2": lambda: r2_penalty(2 * _WEIGHT),
    **{
        f"eps{scale:g}{suffix}": lambda scale=scale, direction=direction: EpsCenteredGradientPenalty(
            _WEIGHT, scale=scale, direction=direction
        )
        for scale, (suffix, direction) in itertools.product(
            (0.1, 1.0, 10.0), (("", "ones"), ("-", "minus_ones"), ("r", "random"))
        )
    },
}
# (loss, regularizer, how the generator is trained)
DEFAULT_ARMS = (
    *[("non_saturating", name, "gan") for name in REGULARIZERS],
    *[(name, "zero", "gan") for name in ("hinge", "least_squares", "relativistic")],
    ("wasserstein", "one", "gan"),
    *[("non_saturating", name, "cfg") for name in ("none", "zero", "one", "eps0.1", "eps1", "eps10")],
)


class EnsembleMLP(nn.Module):
    """``members`` separate networks of the same shape; points (members * batch, d_in) -> (members * batch, d_out).

    Member i sees the i-th share of the batch.
    """

    def __init__(self, members: int, widths: Sequence[int]):
        super().__init__()
        self.members = members
        pairs = list(itertools.pairwise(widths))
        self.weights = nn.ParameterList([torch.randn(members, i, o) * math.sqrt(2 / i) for i, o in pairs])
        self.biases = nn.ParameterList([torch.zeros(members, 1, o) for _, o in pairs])

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        hidden = points.view(self.members, -1, points.shape[-1])
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            hidden = hidden if index == last else nn.functional.leaky_relu(hidden, 0.2)
        return hidden.flatten(0, 1)


@dataclass(frozen=True)
class Arm:
    """One setting, trained with several seeds.

    Args:
        mixture, loss, regularizer: by name.
        trainer: ``gan`` (the loss's own term) or ``cfg`` (functional gradient, see ``licfg_hf.functional_gradient``).
        seeds: members of the ensemble.
        steps: generator updates; two discriminator updates precede each.
        batch: points per member and update.
    """

    mixture: str
    loss: str
    regularizer: str
    trainer: str = "gan"
    seeds: int = 5
    steps: int = 1200
    batch: int = 128

    @property
    def label(self) -> str:
        """The loss, and the trainer where it is not the loss's own."""
        return self.loss if self.trainer == "gan" else f"{self.loss}, CFG"


@dataclass
class Result:
    """What an arm gave; one number per seed in each list.

    Attributes:
        modes: modes covered, i.e. with at least a quarter of their fair share of 2,000 samples within 3 sigma.
        near: share of samples within 3 sigma of some mode.
        gradient_norm: E ||grad D|| on interpolates.
        neighbourhood: median latent neighbourhood size, the radius in which samples move by at most 0.1 (first order).
        picture: samples, critic values and gradients of the first seed, for the plot.
    """

    arm: Arm
    modes: list[float] = field(default_factory=list)
    near: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    neighbourhood: list[float] = field(default_factory=list)
    picture: dict[str, Any] = field(default_factory=dict)


def draw(mixture: torch.Tensor, count: int, rng: torch.Generator) -> torch.Tensor:
    """Points (count, 2) of a mixture."""
    modes = mixture[torch.randint(len(mixture), (count,), generator=rng)]
    return modes + _SPREAD * torch.randn(count, 2, generator=rng)


Draw = Callable[[], torch.Tensor]


class _Adversarial:
    """A generator that descends the loss's own term, once for each step."""

    def __init__(self, generator: EnsembleMLP, critic: EnsembleMLP, loss: AdversarialLoss, latents: Draw, real: Draw):
        self.generator, self.critic, self.loss, self.latents, self.real = generator, critic, loss, latents, real
        self.descent = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9))

    @torch.no_grad()
    def fake(self) -> torch.Tensor:
        return self.generator(self.latents())

    def update(self) -> None:
        logits = self.critic(self.generator(self.latents()))
        real_logits = self.critic(self.real()) if self.loss.uses_real_logits else None
        self._descend(self.loss.generator(logits, real_logits))

    def _descend(self, loss: torch.Tensor) -> None:
        self.descent.zero_grad()
        loss.backward()
        self.descent.step()


class _Staged(_Adversarial):
    """A generator that is regressed, once for each stage, on samples that the stored critics have moved (xICFG)."""

    stored: tuple[EnsembleMLP, ...] = ()

    def fake(self) -> torch.Tensor:
        return _STAGE.flow(self.stored)(super().fake())

    def update(self) -> None:
        self.stored = (*self.stored, deepcopy(self.critic).requires_grad_(False))
        if len(self.stored) < _STAGE.steps:
            return
        pool, flow = [self.latents() for _ in self.stored], _STAGE.flow(self.stored)
        targets = [flow(self.generator(latents)) for latents in pool]
        for latents, target in list(zip(pool, targets, strict=True)) * _STAGE.epochs:
            self._descend(regression_loss(self.generator(latents), target))
        self.stored = ()


TRAINERS = {"gan": _Adversarial, "cfg": _Staged}


def train(arm: Arm) -> tuple[EnsembleMLP, EnsembleMLP, torch.Generator]:
    """Trains an arm; returns generator and critic ensembles."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    mixture, loss, penalty = MIXTURES[arm.mixture](), get_loss(arm.loss), REGULARIZERS[arm.regularizer]()
    generator = EnsembleMLP(arm.seeds, (LATENT_DIM, 64, 64, 2))
    critic = EnsembleMLP(arm.seeds, (2, 64, 64, 1))
    ascent = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.9))
    count = arm.seeds * arm.batch

    def latents() -> torch.Tensor:
        return torch.randn(count, LATENT_DIM, generator=rng)

    def real_points() -> torch.Tensor:
        return draw(mixture, count, rng)

    trainer = TRAINERS[arm.trainer](generator, critic, loss, latents, real_points)
    for _ in range(arm.steps):
        for _ in range(2):
            real, fake = real_points().requires_grad_(), trainer.fake().requires_grad_()
            real_logits, fake_logits = critic(real), critic(fake)
            total = loss.discriminator(real_logits, fake_logits)
            if penalty is not None:
                shared = {"real_logits": real_logits, "fake_logits": fake_logits}
                total = total + penalty(critic, real, fake, rng=rng, **shared)
            ascent.zero_grad()
            total.backward()
            ascent.step()
        trainer.update()
    return generator, critic, rng


def measure(arm: Arm, generator: EnsembleMLP, critic: EnsembleMLP, rng: torch.Generator) -> Result:
    """Measures every seed of a trained arm."""
    mixture, result, count = MIXTURES[arm.mixture](), Result(arm), 2000
    latents = torch.randn(arm.seeds * count, LATENT_DIM, generator=rng)
    with torch.no_grad():
        samples = generator(latents)
    distance, nearest = torch.cdist(samples, mixture).min(dim=1)
    near = (distance < 3 * _SPREAD).view(arm.seeds, count)
    for member in range(arm.seeds):
        hits = torch.bincount(nearest.view(arm.seeds, count)[member][near[member]], minlength=len(mixture))
        result.modes.append(float((hits >= _COVERED * count / len(mixture)).sum()))
    result.near = near.float().mean(dim=1).tolist()
    real = draw(mixture, arm.seeds * count, rng)
    norms = gradient_norms(critic, interpolate(real, samples, rng=rng))
    result.gradient_norm = norms.view(arm.seeds, count).mean(dim=1).tolist()
    radii = latent_neighbourhood_size(generator, latents, delta=0.1, rng=rng).view(arm.seeds, count)
    result.neighbourhood = radii.median(dim=1).values.tolist()
    result.picture = _picture(arm, critic, samples[:400], mixture)
    return result


def _picture(arm: Arm, critic: EnsembleMLP, samples: torch.Tensor, mixture: torch.Tensor) -> dict[str, Any]:
    def first_member(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        repeated = points.repeat(arm.seeds, 1).requires_grad_()
        values = critic(repeated)
        (gradient,) = torch.autograd.grad(values.sum(), repeated)
        return values.detach()[: len(points), 0], gradient[: len(points)]

    line = torch.linspace(-3, 3, 41)
    surface, _ = first_member(torch.cartesian_prod(line, line))
    _, arrows = first_member(samples[:60])
    return {
        "samples": samples.tolist(),
        "mixture": mixture.tolist(),
        "surface": surface.view(41, 41).tolist(),
        "arrows": arrows.tolist(),
    }


def run_arm(arm: Arm) -> Result:
    """Trains and measures one arm on one core."""
    torch.set_num_threads(1)
    return measure(arm, *train(arm))


def table(results: Sequence[Result]) -> str:
    """A Markdown table, one row per arm."""
    columns = ("modes", "near", "gradient_norm", "neighbourhood")
    head = "| mixture | loss, trainer | regularizer | modes covered | within 3σ | E‖grad D‖ | latent neighbourhood |"
    lines = [head, "|" + " --- |" * 7]
    for result in results:
        arm = result.arm
        of = {"modes": f" / {len(MIXTURES[arm.mixture]())}"}
        cells = []
        for column in columns:
            mean, half = interval(getattr(result, column))
            cells.append(f"{mean:.3g} ± {half:.2g}{of.get(column, '')}")
        lines.append(f"| {arm.mixture} | {arm.label} | {arm.regularizer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: Sequence[Result], path: Path) -> None:
    """Draws samples, critic surface and gradients at fakes, one panel per arm.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure, panels = panel_grid(len(results), columns=5, size=(2.6, 2.7))
    for panel, result in zip(panels, results, strict=True):
        picture, arm = result.picture, result.arm
        surface = torch.tensor(picture["surface"]).T
        panel.imshow(surface, origin="lower", extent=(-3, 3, -3, 3), cmap="RdBu_r", alpha=0.7)
        panel.scatter(*torch.tensor(picture["mixture"]).T, marker="+", color="black", linewidths=1)
        samples = torch.tensor(picture["samples"])
        panel.scatter(*samples.T, s=2, color="tab:green")
        panel.quiver(*samples[:60].T, *torch.tensor(picture["arrows"]).T, width=0.006)
        panel.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
        panel.set_title(f"{arm.label} + {arm.regularizer}\n{arm.mixture}", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the study."""
    parser = OptionParser(
        prog="toy2d.py",
        description=__doc__.split("\n")[0],
        epilog="It leaves tables and pictures and no model, so there is nothing to publish on the Hub.",
    )
    parser.add_argument("--mixtures", nargs="+", choices=MIXTURES, default=["grid25"], help="(default: grid25)")
    parser.add_argument("--losses", nargs="+", help="names of get_loss; with --regularizers, every pair is run")
    parser.add_argument("--regularizers", nargs="+", choices=REGULARIZERS, help="by name")
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, help="of the pairs (default: gan)")
    parser.add_argument("--seeds", type=int, default=5, help="networks per arm (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1200, help="generator updates (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--output_dir", default="output/toy2d", help="folder (default: %(default)s)")
    parser.add_argument("--no_pictures", action="store_true", help="only the table; needs no matplotlib")
    with one_line_errors():
        _study(parser.parse_args(arguments))


def _study(options: argparse.Namespace) -> None:
    from toy2d_claims import report  # it trains this file's ensembles

    chosen = DEFAULT_ARMS
    if options.losses or options.regularizers or options.trainers:
        chosen = tuple(
            itertools.product(
                options.losses or ["non_saturating"],
                options.regularizers or list(REGULARIZERS),
                options.trainers or ["gan"],
            )
        )
    require_whole(1, 10_000, **{"--seeds": options.seeds, "--workers": options.workers})
    require_whole(1, MANY, **{"--steps": options.steps})
    folder = user_path(options.output_dir)
    require_writable(folder, "--output_dir", folder=True)
    try:
        for name, _, _ in chosen:
            get_loss(name)
    except ValueError as error:
        raise InputError(f"--losses: {error}") from error
    arms = [
        Arm(mixture, *arm, seeds=options.seeds, steps=options.steps) for mixture in options.mixtures for arm in chosen
    ]
    began, results = time.monotonic(), []
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        claims = pool.submit(report)
        for result in pool.map(run_arm, arms):
            results.append(result)
            mean, _ = interval(result.modes)
            arm = result.arm
            print(f"{len(results)}/{len(arms)}  {arm.mixture}  {arm.label} + {arm.regularizer}: {mean:.1f} modes")
    folder.mkdir(parents=True, exist_ok=True)
    text = f"{table(results)}\n\n{claims.result()}"
    write_text(folder / "table.md", text + "\n")
    write_json(folder / "results.json", [{**asdict(result), "picture": None} for result in results])
    if not options.no_pictures:
        plot(results, folder / "toy2d.png")
        for result in results:
            arm = result.arm
            plot([result], folder / "pictures" / f"{arm.mixture}-{arm.loss}-{arm.regularizer}-{arm.trainer}.png")
    print(text)
    print(f"{time.monotonic() - began:.0f} s; everything in {folder}")


if __name__ == "__main__":
    main()
