"""The overlap of two sets of feature vectors, by nearest neighbours: precision, recall, density, coverage.

All in float64, by squared distances, of which only a block is in memory: it does not grow with the square of the
number of vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import NamedTuple

import torch

from .statistics import FeatureSet

_BLOCK = 500  # vectors of each of two sets at once: the squares of so few stay in a processor's cache
_ROUNDING = 1e-13  # of the squared length of vectors is more than the rounding of their squared distance


class _Block(NamedTuple):
    vectors: torch.Tensor  # (n, d), float64
    sizes: torch.Tensor  # their squared lengths, (n,)


def _blocks(features: FeatureSet) -> list[_Block]:
    """A whole set, converted once."""
    return [_Block(vectors, vectors.square().sum(dim=1)) for vectors in features.blocks(_BLOCK)]


def _squares(one: _Block, other: _Block) -> torch.Tensor:
    """Squared distances (n, m)."""
    return torch.addmm(one.sizes[:, None] + other.sizes, one.vectors, other.vectors.T, alpha=-2)


def _radii(blocks: Sequence[_Block], k: int) -> torch.Tensor:
    """Squared distances of each vector to its k nearest other ones, (k, n), so rounded that a ball holds its edge."""
    nearest = [torch.full((len(block.vectors), k), float("inf"), dtype=torch.float64) for block in blocks]

    def learn(index: int, squares: torch.Tensor) -> None:
        found = squares.topk(min(k, squares.shape[1]), dim=1, largest=False).values
        nearest[index] = torch.cat([nearest[index], found], dim=1).topk(k, dim=1, largest=False).values

    for i, j in combinations_with_replacement(range(len(blocks)), 2):
        squares = _squares(blocks[i], blocks[j])
        if i == j:
            squares.fill_diagonal_(float("inf"))
        else:
            learn(j, squares.T)
        learn(i, squares)
    pairs = zip(nearest, blocks, strict=True)
    return torch.cat([distances.T + _ROUNDING * block.sizes for distances, block in pairs], dim=1)


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
    return manifolds(real, fake, [k])[k]


def manifolds(real: FeatureSet, fake: FeatureSet, numbers: Sequence[int]) -> dict[int, Manifold]:
    """``manifold`` for several numbers of neighbours, in one pass over all pairs."""
    most = max(numbers, default=0)
    if min(len(real), len(fake)) <= most:
        raise ValueError(f"neighbours with k={most} need more than {most} vectors in each set")
    reals, fakes = _blocks(real), _blocks(fake)
    places = [k - 1 for k in numbers]
    real_radii, fake_radii = (_radii(blocks, most)[places].split(_BLOCK, dim=1) for blocks in (reals, fakes))
    balls = torch.zeros(len(places), len(fake), dtype=torch.float64)
    recalled, covered = torch.zeros(2, len(places), len(real), dtype=torch.bool)
    rows = zip(reals, real_radii, *(values.split(_BLOCK, dim=1) for values in (recalled, covered)), strict=True)
    for left, radii, inside_fakes, holding in rows:
        for right, others, inside in zip(fakes, fake_radii, balls.split(_BLOCK, dim=1), strict=True):
            squares = _squares(left, right)
            for place in range(len(places)):
                within = squares <= radii[place][:, None]
                inside[place].add_(within.sum(dim=0))
                holding[place].logical_or_(within.any(dim=1))
                inside_fakes[place].logical_or_((squares <= others[place]).any(dim=1))
    return {
        k: Manifold(
            precision=(balls[place] > 0).double().mean().item(),
            recall=recalled[place].double().mean().item(),
            density=balls[place].mean().item() / k,
            coverage=covered[place].double().mean().item(),
        )
        for place, k in enumerate(numbers)
    }
