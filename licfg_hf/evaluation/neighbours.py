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
    """Squared distance of each vector to its k-th nearest other one, (n,), so rounded that a ball holds its edge."""
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
    return torch.cat([distances[:, -1] + _ROUNDING * block.sizes for distances, block in pairs])


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
    reals, fakes = _blocks(real), _blocks(fake)
    real_radii, fake_radii = _radii(reals, k), _radii(fakes, k)
    balls = torch.zeros(len(fake), dtype=torch.float64)
    recalled, covered = torch.zeros(2, len(real), dtype=torch.bool)
    rows = zip(reals, *(values.split(_BLOCK) for values in (real_radii, recalled, covered)), strict=True)
    for left, radii, inside_fakes, holding in rows:
        for right, others, inside in zip(fakes, fake_radii.split(_BLOCK), balls.split(_BLOCK), strict=True):
            squares = _squares(left, right)
            within = squares <= radii[:, None]
            inside.add_(within.sum(dim=0))
            holding.logical_or_(within.any(dim=1))
            inside_fakes.logical_or_((squares <= others).any(dim=1))
    return Manifold(
        precision=(balls > 0).double().mean().item(),
        recall=recalled.double().mean().item(),
        density=balls.mean().item() / k,
        coverage=covered.double().mean().item(),
    )
