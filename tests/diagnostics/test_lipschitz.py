import math

import pytest
import torch
from torch import nn

from licfg_hf import spectral_normalize
from licfg_hf.diagnostics import domain_bound, lipschitz_lower_bound, operator_norm, operator_norms
from licfg_hf.models import SNGANDiscriminator
from licfg_hf.objective.weights import refresh_power_iterations


def true_norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """By the matrix of the operator, an entry for each pair of input and output pixel."""
    points = torch.zeros(shape, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda x: layer(x[None]).flatten(), points)
    return torch.linalg.matrix_norm(matrix.flatten(1), 2).item()


@pytest.mark.parametrize(("size", "published"), [(32, 110.851), (64, 221.703)])
def test_theorem_1_has_the_numbers_of_the_paper(size, published):
    assert domain_bound(1.0, (3, size, size)) == pytest.approx(published, abs=1e-3)
    assert domain_bound(50.0, (3, size, size)) == pytest.approx(50 * math.sqrt(12 * size * size))


def test_the_bound_is_the_diameter_of_any_cube_and_is_reached():
    """A linear critic whose weights point from one corner to the opposite one."""
    shape, k = (1, 5, 7), 0.3
    weight = k * torch.ones(shape, dtype=torch.float64) / math.sqrt(35)
    for low, high in ((-1.0, 1.0), (0.0, 1.0)):
        reached = (weight * high).sum() - (weight * low).sum()
        assert reached.item() == pytest.approx(domain_bound(k, shape, (low, high)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 7), (5,)),
        (nn.Conv2d(2, 3, 3, padding=1), (2, 6, 6)),
        (nn.Conv2d(2, 3, 4, stride=2, padding=1), (2, 6, 8)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2, padding_mode="reflect"), (4, 5, 5)),
        (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (3, 3, 4)),
        (nn.Conv1d(2, 2, 5), (2, 9)),
    ],
)
def test_the_norm_is_that_of_the_operators_matrix_and_the_bias_does_not_count(layer, shape):
    torch.manual_seed(0)
    layer = layer.double()
    nn.init.normal_(layer.weight)
    nn.init.constant_(layer.bias, 3.0)
    assert operator_norm(layer, shape, iterations=500) == pytest.approx(true_norm(layer, shape), rel=1e-6)


@pytest.mark.parametrize(("kernel", "stride", "overlap"), [(3, 1, 3.0), (4, 2, 2.0), (4, 4, 1.0)])
def test_a_normalized_convolution_can_be_steeper_than_k_up_to_its_overlap(kernel, stride, overlap):
    """Weights of one sign see constant images at their steepest, and each pixel as often as kernels overlap there."""
    k = 0.5
    layer = nn.Conv2d(2, 3, kernel, stride, bias=False).double()
    nn.init.constant_(layer.weight, 1.0)
    layer = refresh_power_iterations(spectral_normalize(layer, k)).eval()
    assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(k)
    norm = operator_norm(layer, (2, 40, 40))
    assert 0.95 * overlap * k < norm <= overlap * k * (1 + 1e-9)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_norm_lies_between_k_and_what_the_overlap_allows(kernel):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, kernel, padding=kernel // 2).double()
    layer = refresh_power_iterations(spectral_normalize(layer, 2.0), iterations=500).eval()
    assert 2.0 * (1 - 1e-6) <= operator_norm(layer, (3, 9, 9), iterations=300) <= 2.0 * kernel * (1 + 1e-6)


def test_the_norms_of_a_critic_bound_its_slopes_and_leave_it_as_it_is():
    torch.manual_seed(0)
    critic = spectral_normalize(SNGANDiscriminator(8, 1, "cnn", base_channels=4, channel_multipliers=(1, 2))).train()
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    images = torch.rand(4, 1, 8, 8) * 2 - 1
    norms = operator_norms(critic, images)
    assert list(norms) == ["blocks.0.0", "blocks.1.0", "blocks.1.2", "head.linear"] and critic.training
    assert all(torch.equal(before[name], value) for name, value in critic.state_dict().items())
    assert lipschitz_lower_bound(critic.eval(), images, steps=50) <= math.prod(norms.values())
    assert math.prod(norms.values()) > 1.5  # though every weight has the norm k = 1


def test_what_has_no_norm_is_refused():
    with pytest.raises(ValueError, match="not of a ReLU"):
        operator_norm(nn.ReLU(), (3,))
    with pytest.raises(ValueError, match="iterations"):
        operator_norm(nn.Linear(2, 2), (2,), iterations=0)
    for wrong in ((-1.0, (3, 2, 2)), (1.0, ()), (1.0, (3, 0, 2)), (math.nan, (3, 2, 2))):
        with pytest.raises(ValueError, match="k is at least 0"):
            domain_bound(*wrong)
    with pytest.raises(ValueError, match="k is at least 0"):
        domain_bound(1.0, (3, 2, 2), (1.0, -1.0))
