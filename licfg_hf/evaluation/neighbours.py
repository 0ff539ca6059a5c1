"""The overlap of two sets of feature vectors, by nearest neighbours: precision, recall, density, coverage.

All in float64; the sets are walked through in blocks, so memory does not grow with the square of their number.
"""

from dataclasses import dataclass

import torch

from .statistics import FeatureSet

_BLOCK = 2000  # feature vectors in memory at once, from each of two sets


def _distances(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (n, m), exactly 0 where rounding could not tell them from it."""
    sizes = one.square().sum(dim=1)[:, None] + other.square().sum(dim=1)[None, :]
    squares = sizes - 2 * one @ other.T
    return torch.where(squares > 1e-13 * sizes, squares, 0.0).sqrt()


def _radii(features: FeatureSet, k: int) -> torch.Tensor:
    """Distance of each vector to its k-th nearest other vector of the same set, (n,)."""
    radii = []
    for number, left in enumerate(features.blocks(_BLOCK)):
        nearest = torch.full((len(left), k), float("inf"), dtype=torch.float64)
        for index, right in enumerate(features.blocks(_BLOCK)):
            distances = _distances(left, right)
            if index == number:
                distances.fill_diagonal_(float("inf"))
            nearest = torch.cat([nearest, distances], dim=1).topk(k, dim=1, largest=False).values
        radii.append(nearest[:, -1])
    return torch.cat(radii)


@dataclass(frozen=True)
class Manifold:
    """The overlap of two sets of feature vectors, by balls that reach to the k-th nearest neighbour."""

    precision: float  # share of fakes inside some real ball (Kynkäänniemi et al., NeurIPS 2019)
    recall: float  # share of reals inside some fake ball
    density: float  # real balls that a fake is inside of, on average, over k (Naeem et al., ICML 2020); may exceed 1
    coverage: float  # share of real balls that hold a fake


def manifold(real: FeatureSet, fake: FeatureSet, k: int = 3) -> Manifold:
    """Precision, recall, density and coverage.

    Args:
        k: neighbours; 3 is usual for precision and recall, 5 for density and coverage.

    Raises:
        ValueError: a set has at most k vectors.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"neighbours with k={k} need more than {k} vectors in each set")
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    balls = torch.zeros(len(fake), dtype=torch.float64)
    recalled, covered = torch.zeros(len(real), dtype=torch.bool), torch.zeros(len(real), dtype=torch.bool)
    for row, left in enumerate(real.blocks(_BLOCK)):
        rows = slice(row * _BLOCK, row * _BLOCK + len(left))
        for column, right in enumerate(fake.blocks(_BLOCK)):
            columns = slice(column * _BLOCK, column * _BLOCK + len(right))
            distances = _distances(left, right)
            inside = distances <= real_radii[rows, None]
            balls[columns] += inside.sum(dim=0)
            covered[rows] |= inside.any(dim=1)
            recalled[rows] |= (distances <= fake_radii[None, columns]).any(dim=1)
    return Manifold(
        precision=(balls > 0).double().mean().item(),
        recall=recalled.double().mean().item(),
        density=balls.mean().item() / k,
        coverage=covered.double().mean().item(),
    )
