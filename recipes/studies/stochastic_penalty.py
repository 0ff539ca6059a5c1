"""How far the gradient of a stochastic penalty is from the exact one, by step, draws, dimension and kind of critic.

    python recipes/studies/stochastic_penalty.py

prints a table: the ratio of the mean value to the exact one, and the cosine of the parameter gradient to the exact one
at 1, 4 and 16 draws, of a batch of 64 on random MLPs in float64. ``finite_difference``, which has no draws, is beside.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from licfg_hf import GradientPenalty

BATCH, WIDTH, SEEDS = 64, 128, 5
DRAWS = (1, 4, 16)
CRITICS: dict[str, Callable[[], nn.Module]] = {"SiLU": nn.SiLU, "LeakyReLU": lambda: nn.LeakyReLU(0.2)}


def critic(activation: Callable[[], nn.Module], dim: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Linear(dim, WIDTH), activation(), nn.Linear(WIDTH, WIDTH), activation(), nn.Linear(WIDTH, 1))
    return nn.Sequential(*layers).double()


def measured(network: nn.Module, penalty: GradientPenalty, points: Tensor, seed: int) -> tuple[float, Tensor]:
    value = penalty(network, points, rng=torch.Generator().manual_seed(seed))
    gradients = torch.autograd.grad(value, list(network.parameters()), allow_unused=True, materialize_grads=True)
    return value.item(), torch.cat([gradient.flatten() for gradient in gradients])


def row(kind: str, dim: int, step: float, antithetic: bool, seeds: int = SEEDS) -> dict[str, float]:
    """Means over the seeds of a critic, its points and the draws."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        network = critic(CRITICS[kind], dim, seed)
        points = torch.randn(BATCH, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        exact, expected = measured(network, GradientPenalty(1.0, points="real"), points, seed)
        compared = {"finite differences": GradientPenalty(1.0, points="real", method="finite_difference", step=step)}
        for draws in DRAWS:
            compared[f"{draws} draws"] = GradientPenalty(
                1.0, points="real", method="stochastic", step=step, draws=draws, antithetic=antithetic
            )
        for name, penalty in compared.items():
            value, gradient = measured(network, penalty, points, seed)
            found.setdefault(name, []).append(torch.cosine_similarity(gradient, expected, dim=0).item())
            if name == f"{DRAWS[-1]} draws":
                found.setdefault("value / exact", []).append(value / exact)
    return {name: sum(values) / len(values) for name, values in found.items()}


def table(dims: Sequence[int] = (64, 768), steps: Sequence[float] = (0.01, 0.1, 0.5), seeds: int = SEEDS) -> str:
    names = ["value / exact", *(f"{draws} draws" for draws in DRAWS), "finite differences"]
    rows = []
    for kind in CRITICS:
        for dim in dims:
            for step in steps:
                for antithetic in (True, False):
                    numbers = row(kind, dim, step, antithetic, seeds)
                    sides = "two" if antithetic else "one"
                    rows.append([kind, str(dim), f"{step:g}", sides, *(f"{numbers[name]:.2f}" for name in names)])
    head = ["critic", "d", "step", "sides", *names]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(table())
