"""Metrics on feature vectors."""

import torch


def _neighbour_radius(features: torch.Tensor, k: int) -> torch.Tensor:
    """Distance of each vector to its k-th nearest other vector of the same set, (n,)."""
    distances = torch.cdist(features, features)
    distances.fill_diagonal_(float("inf"))
    return distances.kthvalue(k, dim=1).values


def precision_recall(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al., NeurIPS 2019).

    A set's manifold is the union of balls around its vectors, each reaching to the k-th nearest neighbour. Precision
    is the share of fakes inside the real manifold, recall that of reals inside the fake one.

    Args:
        real: feature vectors (n, d), float32 or wider.
        fake: feature vectors (m, d).
        k: neighbours.

    Returns:
        (precision, recall), each in [0, 1].

    Raises:
        ValueError: a set has at most k vectors.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"precision and recall with k={k} need more than {k} vectors in each set")
    distances = torch.cdist(real, fake)
    in_real = (distances <= _neighbour_radius(real, k)[:, None]).any(dim=0)
    in_fake = (distances <= _neighbour_radius(fake, k)[None, :]).any(dim=1)
    return in_real.float().mean().item(), in_fake.float().mean().item()


def frechet_distance(real: torch.Tensor, fake: torch.Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of feature vectors.

    ||m_r - m_f||^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) (Heusel et al., NeurIPS 2017), in float64; on Inception
    features it is FID, on others it is not.

    Args:
        real: feature vectors (n, d).
        fake: feature vectors (m, d).

    Raises:
        ValueError: a set has fewer than two vectors.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError("a Fréchet distance needs at least two vectors in each set")
    real, fake = real.double(), fake.double()
    covariances = torch.cov(real.T).reshape(real.shape[1], -1), torch.cov(fake.T).reshape(fake.shape[1], -1)
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    # (S_r S_f)^(1/2) has the trace of (S_r^(1/2) S_f S_r^(1/2))^(1/2), which is symmetric.
    mixed = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    difference = (real.mean(0) - fake.mean(0)).square().sum()
    return (difference + covariances[0].trace() + covariances[1].trace() - 2 * mixed).clamp(min=0).item()
