"""Fig. 1 of Qin, Mitra, Wonka (ECCV 2020): one generated point against several data points in the plane.

The data points repel nothing and the generator is the point itself, so the picture shows what the loss does. The paper
states neither loss nor optimizer, networks, steps and k_SN of its figure: those here are our own choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from licfg_hf.diagnostics import loss_domain
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.objective.losses import get_loss
from licfg_hf.objective.weights import spectral_normalize

DATA = torch.tensor([[1.0, 1.2], [2.2, 0.9], [2.4, -0.4], [1.5, -1.3], [0.6, -0.3]])
START = (-2.0, 0.0)  # of the generated point
STEPS = 2000
_WIDTH, _RATE = 32, 2e-3  # of RMSprop for both players, as elsewhere in the paper


@dataclass(frozen=True)
class Path2D:
    """Where one run's point went.

    Attributes:
        points: the generated point after each step, (steps, 2).
        omega: smallest and largest output of the critic at the end, over all points.
    """

    points: Tensor
    omega: tuple[float, float]

    @property
    def end(self) -> Tensor:
        """The mean point over the last quarter of the steps, (2,)."""
        return self.points[-max(1, len(self.points) // 4) :].mean(dim=0)

    @property
    def to_mean(self) -> float:
        """Distance of the end to the mean of the data, where the point stands for all of them alike."""
        return torch.linalg.vector_norm(self.end - DATA.mean(dim=0)).item()

    @property
    def to_nearest(self) -> float:
        """Distance of the end to the nearest data point: near 0 where the point stands for one of them."""
        return torch.cdist(self.end[None], DATA).min().item()


def make_critic(k: float) -> nn.Module:
    """A dense critic of four layers, as many as the paper's, each of the spectral norm k."""
    hidden = [nn.Linear(2, _WIDTH), nn.LeakyReLU(0.1)]
    for _ in range(2):
        hidden += [nn.Linear(_WIDTH, _WIDTH), nn.LeakyReLU(0.1)]
    return spectral_normalize(nn.Sequential(*hidden, nn.Linear(_WIDTH, 1)), k)


def follow(loss_name: str, k: float, alpha: float, seed: int = 0, steps: int = STEPS) -> Path2D:
    """Trains the point and its critic by turns.

    Args:
        loss_name: of ``get_loss``.
        k: k_SN.
        alpha: domain scaling.
        seed: of the critic's first weights.
        steps: updates of both players.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = make_critic(k)
    point, loss = nn.Parameter(torch.tensor([START])), get_loss(loss_name, alpha)
    ascent = torch.optim.RMSprop(critic.parameters(), lr=_RATE)
    descent = torch.optim.RMSprop([point], lr=_RATE)
    points, omega = [], (0.0, 0.0)
    for _ in range(steps):
        real, fake = critic(DATA), critic(point.detach())
        ascent.zero_grad()
        loss.discriminator(real, fake).backward()
        ascent.step()
        descent.zero_grad()
        loss.generator(critic(point), real.detach() if loss.uses_real_logits else None).backward()
        descent.step()
        points.append(point.detach()[0].clone())
        omega = loss_domain(loss, real, fake).omega
    return Path2D(torch.stack(points), omega)


@dataclass(frozen=True)
class Panel:
    """A run and what it was made with; ``loss`` is a short name for the titles, ``loss_name`` that of ``get_loss``."""

    loss: str
    loss_name: str
    k: float
    alpha: float
    path: Path2D


def table(panels: Sequence[Panel]) -> str:
    """Markdown: a row for each run."""
    lines = [
        "# One point against several (Fig. 1)",
        "",
        "A generated point starts at (-2, 0); five data points lie on the other side. At the mean of the data it "
        "stands for all of them; at one of them it has collapsed. Distances are those of its mean over the last "
        "quarter of the steps. The paper's text states neither loss nor k_SN, optimizer, networks and steps: they are "
        "our choice.",
        "",
        "| loss | k_SN | alpha | to the mean | to the nearest point | Ω |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for panel in panels:
        low, high = panel.path.omega
        lines.append(
            f"| {panel.loss} | {panel.k:g} | {panel.alpha:g} | {panel.path.to_mean:.3g} | "
            f"{panel.path.to_nearest:.3g} | [{low:.4g}, {high:.4g}] |"
        )
    return "\n".join([*lines, ""])


def plot(panels: Sequence[Panel], path: Path) -> None:
    """For each run the points and the way of the generated one, and beside it the loss with its domain marked."""
    figure, axes = panel_grid(2 * len(panels), columns=6, size=(2.4, 2.4))
    for panel, plane, curve in zip(panels, axes[::2], axes[1::2], strict=True):
        plane.scatter(*DATA.T, marker="+", color="black")
        plane.plot(*panel.path.points.T, color="tab:green", linewidth=1)
        plane.scatter(*panel.path.points[-1], color="tab:green", s=20)
        plane.set_title(f"{panel.loss}, k_SN = {panel.k:g}, alpha = {panel.alpha:g}", fontsize=8)
        _draw_loss(curve, panel)
    figure.savefig(path, dpi=100)


def _draw_loss(axis, panel: Panel) -> None:
    """The generator's term, from which its value at zero is taken, over a range around the domain."""
    low, high = panel.path.omega
    reach = 1.5 * max(abs(low), abs(high), 1e-3)
    u = torch.linspace(-reach, reach, 301, dtype=torch.float64)
    loss = get_loss(panel.loss_name, panel.alpha)
    slopes = loss.slopes(u, u)["generator"]
    # The value may be all L(0) / alpha, so the curve is the integral of its slopes.
    values = torch.cumulative_trapezoid(slopes, u)
    axis.plot(u[1:], values - values[len(values) // 2])
    axis.axvspan(low, high, alpha=0.3)
    axis.set_title("the generator's loss and Ω", fontsize=8)
