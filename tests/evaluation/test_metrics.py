import pytest
import torch

from licfg_hf.evaluation.metrics import frechet_distance


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form(rng):
    """Between N(m, diag a^2) and N(n, diag b^2) it is ||m - n||^2 + sum (a - b)^2."""
    a, b = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.5, 1.0, 0.5])
    samples = [torch.randn(200_000, 3, generator=rng, dtype=torch.float64) for _ in range(2)]
    found = frechet_distance(samples[0] * a, samples[1] * b + torch.tensor([1.0, 0.0, 0.0]))
    assert found == pytest.approx(1 + (a - b).square().sum().item(), rel=0.02)


def test_frechet_distance_is_zero_for_the_same_set_and_symmetric(rng):
    one, other = torch.randn(50, 4, generator=rng), torch.randn(60, 4, generator=rng) * 2
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))
    flat = torch.cat([one, one[:, :1]], dim=1)  # a covariance without full rank
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="two vectors"):
        frechet_distance(one[:1], other)
