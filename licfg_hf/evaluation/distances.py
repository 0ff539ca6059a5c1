"""Distances of two sets of feature vectors: Fréchet's and the kernel distance.

Both in float64; sets are walked through in blocks, so memory does not grow with the square of their number. On
Inception features the Fréchet distance is FID and the kernel distance KID; on others they are not.
"""

import torch

from .statistics import FeatureSet, GaussianStatistics, TensorFeatures

_BLOCK = 2000  # feature vectors in memory at once, from each of two sets


def frechet_distance(real: torch.Tensor, fake: torch.Tensor) -> float:
    """``gaussian_distance`` of the Gaussians fitted to feature vectors (n, d) and (m, d).

    ValueError where a set has fewer than two vectors, or a vector is not finite.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError("a Fréchet distance needs at least two vectors in each set")
    return gaussian_distance(GaussianStatistics.of(real), GaussianStatistics.of(fake))


def gaussian_distance(real: GaussianStatistics, fake: GaussianStatistics) -> float:
    """Squared Fréchet distance of two Gaussians, covariances of any rank; ValueError where their lengths differ.

    ||m_r - m_f||^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) (Heusel et al., NeurIPS 2017).
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


def _kernel_sum(one: FeatureSet, other: FeatureSet) -> float:
    """Sum of (x.y / d + 1)^3 over all pairs."""
    total = 0.0
    for left in one.blocks(_BLOCK):
        for right in other.blocks(_BLOCK):
            total += ((left @ right.T) / left.shape[1] + 1).pow(3).sum().item()
    return total


def _within(features: FeatureSet) -> float:
    """Mean of the kernel over the pairs of two different vectors of a set."""
    blocks = features.blocks(_BLOCK)
    same = sum((block.square().sum(dim=1) / block.shape[1] + 1).pow(3).sum().item() for block in blocks)
    return (_kernel_sum(features, features) - same) / (len(features) * (len(features) - 1))


def _squared_mmd(real: FeatureSet, fake: FeatureSet) -> float:
    """Unbiased estimate with the cubic kernel; sets may differ in size."""
    return _within(real) + _within(fake) - 2 * _kernel_sum(real, fake) / (len(real) * len(fake))


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
