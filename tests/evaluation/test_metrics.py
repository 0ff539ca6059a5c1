"""Metrics against closed forms and against the published definitions, computed naively."""

import pytest
import torch

from licfg_hf.evaluation import distances, neighbours
from licfg_hf.evaluation.distances import frechet_distance, kernel_distance
from licfg_hf.evaluation.neighbours import manifold
from licfg_hf.evaluation.statistics import TensorFeatures


def normal(rng, count: int, dim: int = 4, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dim, generator=rng, dtype=torch.float64) * scale + shift


def with_moments(rng, mean: torch.Tensor, covariance: torch.Tensor, count: int = 400) -> torch.Tensor:
    """Vectors whose sample mean and covariance are exactly these."""
    values = normal(rng, count, len(mean))
    values = values - values.mean(dim=0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(values.T)), values.T, upper=False)
    return (torch.linalg.cholesky(covariance) @ white).T + mean


def test_frechet_distance_of_gaussians_is_the_closed_form(rng):
    """Commuting covariances: ||m - n||^2 + sum (a - b)^2 over the standard deviations along common axes."""
    rotation = torch.linalg.qr(normal(rng, 3, 3)).Q
    a, b = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([1.5, 1.0, 0.7]).double()
    mean, other = torch.zeros(3).double(), torch.tensor([1.0, 0.0, -2.0]).double()
    one = with_moments(rng, mean, rotation @ torch.diag(a**2) @ rotation.T)
    two = with_moments(rng, other, rotation @ torch.diag(b**2) @ rotation.T)
    assert frechet_distance(one, two) == pytest.approx(5 + (a - b).square().sum().item(), rel=1e-9)


def test_frechet_distance_of_any_covariances_is_that_of_matrix_square_roots(rng):
    import scipy.linalg

    one, two = normal(rng, 100, 5), normal(rng, 80, 5, 2.0, 0.5) @ normal(rng, 5, 5)
    covariances = torch.cov(one.T), torch.cov(two.T)
    root = scipy.linalg.sqrtm((covariances[0] @ covariances[1]).numpy()).real.trace()
    expected = (one.mean(0) - two.mean(0)).square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * root
    assert frechet_distance(one, two) == pytest.approx(float(expected), rel=1e-6)


def test_frechet_distance_is_zero_for_the_same_set_symmetric_and_blind_to_order(rng):
    one, other = normal(rng, 50), normal(rng, 60, scale=2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))
    assert frechet_distance(one.flip(0), other) == pytest.approx(frechet_distance(one, other), rel=1e-9)
    flat = torch.cat([one, one[:, :1]], dim=1)  # a covariance without full rank
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-7)
    constant = torch.full((10, 4), 3.0)
    assert frechet_distance(constant, constant + 2) == pytest.approx(16)
    with pytest.raises(ValueError, match="two vectors"):
        frechet_distance(one[:1], other)
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(one, other.clone().fill_(float("nan")))


def naive_mmd(real: torch.Tensor, fake: torch.Tensor) -> float:
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, m = len(real), len(fake)
    within = kernel(real, real), kernel(fake, fake)
    off = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in within]
    return float(off[0] + off[1] - 2 * kernel(real, fake).sum() / (n * m))


def test_full_kernel_distance_is_the_unbiased_estimate_in_any_order_and_in_blocks(rng, monkeypatch):
    real, fake = normal(rng, 47), normal(rng, 33, scale=1.3, shift=0.2)
    expected = naive_mmd(real, fake)
    monkeypatch.setattr(distances, "_BLOCK", 10)
    for order in (torch.arange(33), torch.randperm(33, generator=rng)):
        found, deviation = kernel_distance(TensorFeatures(real), TensorFeatures(fake[order]), 1, 47)
        assert found == pytest.approx(expected, rel=1e-9) and deviation == 0


def test_kernel_distance_over_subsets_follows_its_seed(rng):
    real, fake = TensorFeatures(normal(rng, 200)), TensorFeatures(normal(rng, 150, shift=1.0))
    one = kernel_distance(real, fake, 20, 40, seed=1)
    assert one == kernel_distance(real, fake, 20, 40, seed=1) != kernel_distance(real, fake, 20, 40, seed=2)
    whole, _ = kernel_distance(real, fake, 1, 200)
    assert one[0] == pytest.approx(whole, rel=0.3) and one[1] > 0
    with pytest.raises(ValueError, match="kid_subset_size"):
        kernel_distance(real, fake, 20, 151)


def naive_manifold(real: torch.Tensor, fake: torch.Tensor, k: int) -> tuple[float, float, float, float]:
    def radius(values):
        return torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values[:, k]

    distances = torch.cdist(real, fake, compute_mode="donot_use_mm_for_euclid_dist")
    inside = distances <= radius(real)[:, None]
    return (
        inside.any(dim=0).double().mean().item(),
        (distances <= radius(fake)[None]).any(dim=1).double().mean().item(),
        inside.double().sum(dim=0).mean().item() / k,
        inside.any(dim=1).double().mean().item(),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [7, 2000])
def test_neighbour_metrics_are_those_of_their_definitions(k, block, rng, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    real, fake = normal(rng, 60), normal(rng, 45, scale=0.8, shift=0.3)
    found = manifold(TensorFeatures(real), TensorFeatures(fake), k)
    expected = naive_manifold(real, fake, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected, rel=1e-9)
    mixed = manifold(TensorFeatures(real.flip(0)), TensorFeatures(fake.roll(5, 0)), k)
    assert mixed == found


def test_several_numbers_of_neighbours_take_the_distances_of_one(rng, monkeypatch):
    real, fake = TensorFeatures(normal(rng, 60)), TensorFeatures(normal(rng, 45, scale=0.8, shift=0.3))
    calls, squares = [], neighbours._squares
    monkeypatch.setattr(neighbours, "_squares", lambda *blocks: calls.append(1) or squares(*blocks))
    together = neighbours.manifolds(real, fake, [1, 3, 10])
    assert len(calls) == 3  # both sides with themselves, and with each other
    assert together == {k: manifold(real, fake, k) for k in (1, 3, 10)}


@pytest.mark.parametrize("block", [7, 2000])
def test_balls_of_repeated_vectors_hold_these_and_no_others(block, rng, monkeypatch):
    """Their radius is 0, which a distance that is 0 but for rounding would not be within."""
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    once = normal(rng, 25, 300, shift=10.0)
    real = TensorFeatures(once.repeat(4, 1))
    same = manifold(real, TensorFeatures(once.flip(0).repeat(4, 1)), 3)
    assert (same.precision, same.recall, same.density, same.coverage) == (1, 1, 4 / 3, 1)
    whole = TensorFeatures(normal(rng, 60, 300, shift=10.0))
    assert (
        manifold(whole, TensorFeatures(whole.rows(torch.arange(60))), 3).density == 4 / 3
    )  # the third is on the edge
    moved = manifold(real, TensorFeatures(once.repeat(4, 1) + 1e-3), 3)
    assert (moved.precision, moved.recall, moved.density, moved.coverage) == (0, 0, 0, 0)


def test_neighbour_metrics_of_equal_constant_and_distant_sets(rng):
    real = normal(rng, 40)
    same = manifold(TensorFeatures(real), TensorFeatures(real), 3)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    constant = TensorFeatures(torch.full((10, 4), 1000.25))
    assert manifold(constant, constant, 3).precision == 1
    far = manifold(constant, TensorFeatures(torch.full((10, 4), 1001.0)), 3)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    moved = manifold(TensorFeatures(real), TensorFeatures(real + 100))
    assert (moved.precision, moved.recall) == (0, 0)
    with pytest.raises(ValueError, match="more than 3"):
        manifold(TensorFeatures(real[:3]), TensorFeatures(real))
