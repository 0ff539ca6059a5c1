"""Metrics on features: Fréchet and kernel distances, Inception Score, precision, recall, density, coverage.

All in float64; sets of feature vectors are walked through in blocks, so memory does not grow with the square of their
number. On Inception features the Fréchet distance is FID and the kernel distance KID; on others they are not.
"""

from dataclasses import dataclass

import torch

from .statistics import ClassStatistics, FeatureSet, GaussianStatistics, TensorFeatures

_BLOCK = 2000  # feature vectors in memory at once, from each of two sets


def frechet_distance(real: torch.Tensor, fake: torch.Tensor) -> float:
    """``gaussian_distance`` of the Gaussians fitted to feature vectors (n, d) and (m, d).

    Raises:
        ValueError: a set has fewer than two vectors, or a vector is not finite.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError("a Fréchet distance needs at least two vectors in each set")
    return gaussian_distance(GaussianStatistics.of(real), GaussianStatistics.of(fake))


def gaussian_distance(real: GaussianStatistics, fake: GaussianStatistics) -> float:
    """Squared Fréchet distance of two Gaussians, covariances of any rank.

    ||m_r - m_f||^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) (Heusel et al., NeurIPS 2017).

    Raises:
        ValueError: a set has fewer than two vectors, or they are of different lengths.
    """
    if real.mean.shape != fake.mean.shape:
        raise ValueError(f"features of length {len(real.mean)} and {len(fake.mean)} cannot be compared")
    one, other = real.covariance, fake.covariance
    values, vectors = torch.linalg.eigh(one)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    # (S_r S_f)^(1/2) has the trace of (S_r^(1/2) S_f S_r^(1/2))^(1/2), which is symmetric.
    mixed = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    difference = (real.mean - fake.mean).square().sum()
    return (difference + one.trace() + other.trace() - 2 * mixed).clamp(min=0).item()


def inception_score(statistics: ClassStatistics) -> tuple[float, float]:
    """Mean and standard deviation over the splits (Salimans et al., 2016); the deviation of one split is 0."""
    scores = statistics.scores()
    return scores.mean().item(), scores.std(correction=0).item()


def _kernel_sum(one: FeatureSet, other: FeatureSet, dim: int) -> float:
    """Sum of (x.y / d + 1)^3 over all pairs."""
    total = 0.0
    for left in one.blocks(_BLOCK):
        for right in other.blocks(_BLOCK):
            total += ((left @ right.T) / dim + 1).pow(3).sum().item()
    return total


def _diagonal_sum(features: FeatureSet, dim: int) -> float:
    return sum((block.square().sum(dim=1) / dim + 1).pow(3).sum().item() for block in features.blocks(_BLOCK))


def _squared_mmd(real: FeatureSet, fake: FeatureSet) -> float:
    """Unbiased estimate with the cubic kernel; sets may differ in size."""
    n, m, dim = len(real), len(fake), next(real.blocks(1)).shape[1]
    within_real = (_kernel_sum(real, real, dim) - _diagonal_sum(real, dim)) / (n * (n - 1))
    within_fake = (_kernel_sum(fake, fake, dim) - _diagonal_sum(fake, dim)) / (m * (m - 1))
    return within_real + within_fake - 2 * _kernel_sum(real, fake, dim) / (n * m)


def kernel_distance(
    real: FeatureSet, fake: FeatureSet, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al., ICLR 2018).

    Args:
        subsets: how many random subsets it is averaged over; 1 with ``subset_size`` of at least both sets takes them
            whole, and then the order does not matter.
        subset_size: vectors of each set in a subset.
        seed: decides the subsets.

    Returns:
        Mean and standard deviation over the subsets (0 for one).

    Raises:
        ValueError: a set has fewer than two vectors, or than a subset wants.
    """
    smallest = min(len(real), len(fake))
    if smallest < 2:
        raise ValueError("a kernel distance needs at least two vectors in each set")
    if subsets == 1 and subset_size >= max(len(real), len(fake)):
        return _squared_mmd(real, fake), 0.0
    if subset_size > smallest:
        raise ValueError(f"subsets of {subset_size} cannot be drawn from {smallest} vectors: lower kid_subset_size")
    rng = torch.Generator().manual_seed(seed)

    def chosen(features: FeatureSet) -> TensorFeatures:
        return TensorFeatures(features.rows(torch.randperm(len(features), generator=rng)[:subset_size].sort().values))

    values = torch.tensor([_squared_mmd(chosen(real), chosen(fake)) for _ in range(subsets)], dtype=torch.float64)
    return values.mean().item(), values.std(correction=0).item()


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
            candidates = torch.cat([nearest, distances], dim=1)
            nearest = candidates.topk(k, dim=1, largest=False).values
        radii.append(nearest[:, -1])
    return torch.cat(radii)


@dataclass(frozen=True)
class Manifold:
    """How two sets of feature vectors overlap, by balls that reach to the k-th nearest neighbour.

    Attributes:
        precision: share of fakes inside some real ball (Kynkäänniemi et al., NeurIPS 2019).
        recall: share of reals inside some fake ball.
        density: real balls that a fake is inside of, on average, over k (Naeem et al., ICML 2020); may exceed 1.
        coverage: share of real balls that hold a fake.
    """

    precision: float
    recall: float
    density: float
    coverage: float


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
    row = 0
    for left in real.blocks(_BLOCK):
        rows = slice(row, row + len(left))
        column = 0
        for right in fake.blocks(_BLOCK):
            columns = slice(column, column + len(right))
            distances = _distances(left, right)
            inside = distances <= real_radii[rows, None]
            balls[columns] += inside.sum(dim=0)
            covered[rows] |= inside.any(dim=1)
            recalled[rows] |= (distances <= fake_radii[None, columns]).any(dim=1)
            column += len(right)
        row += len(left)
    return Manifold(
        precision=(balls > 0).double().mean().item(),
        recall=recalled.double().mean().item(),
        density=balls.mean().item() / k,
        coverage=covered.double().mean().item(),
    )
