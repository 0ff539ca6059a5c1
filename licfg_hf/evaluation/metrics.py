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
