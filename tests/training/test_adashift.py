"""AdaShift with max_mean against the published update in plain float64, and what it refuses."""

import copy

import pytest
import torch

from licfg_hf.errors import InputError
from licfg_hf.training.adashift import AdaShift
from licfg_hf.training.config import OptimizerConfig
from licfg_hf.training.optimizers import load_optimizer, make_optimizer


def published(weights, gradients, lr, beta2, eps):
    """The weights after all steps, from the gradients of the whole run."""
    moment = 0.0
    for before, gradient in zip([torch.zeros_like(weights), *gradients], gradients, strict=False):
        moment = max(moment * beta2, float((before**2).mean()))
        if moment > 0:
            weights = weights - lr * gradient / (moment**0.5 + eps)
    return weights


@pytest.mark.parametrize("beta2", [0.999, 0.5, 0.0])
def test_a_step_is_the_published_one(beta2, rng):
    weights = [torch.randn(shape, generator=rng).double() for shape in ((3, 2), (5,), (1,))]
    # The maximum decays, and is not always that of the newest.
    gradients = [
        [torch.randn(one.shape, generator=rng).double() * 3.0 ** (-step) for step in range(12)] for one in weights
    ]
    parameters = [torch.nn.Parameter(one.clone()) for one in weights]
    optimizer = AdaShift(parameters, lr=0.01, betas=(0.0, beta2), eps=1e-8)
    for step in range(12):
        for parameter, own in zip(parameters, gradients, strict=True):
            parameter.grad = own[step].clone()
        optimizer.step()
    for parameter, start, own in zip(parameters, weights, gradients, strict=True):
        torch.testing.assert_close(parameter.data, published(start, own, 0.01, beta2, 1e-8), rtol=1e-12, atol=0)


def test_the_size_of_a_step_is_that_of_the_gradient_before():
    """By hand: nothing at first; then lr g_t / sqrt(max(beta2 v, g_{t-1}^2))."""
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = AdaShift([parameter], lr=1.0, betas=(0.0, 0.25), eps=1e-30)
    places = []
    for gradient in (4.0, 2.0, 8.0, 1.0):
        parameter.grad = torch.full((1,), gradient, dtype=torch.float64)
        optimizer.step()
        places.append(parameter.item())
    # v: 0, 16, max(4, 4), max(1, 64)
    assert places == pytest.approx([0.0, -2 / 4, -2 / 4 - 8 / 2, -2 / 4 - 8 / 2 - 1 / 8])


def test_a_state_goes_on_as_it_would_have(rng):
    network = torch.nn.Linear(3, 2)
    config = OptimizerConfig("adashift", arguments={"betas": [0.0, 0.9]})
    optimizer = make_optimizer(config, network)
    noise = [torch.randn(2, 3, generator=rng) for _ in range(6)]

    def run(model, own, steps):
        for step in steps:
            model.zero_grad()
            (model.weight * noise[step]).sum().backward()
            own.step()

    run(network, optimizer, range(3))
    other = copy.deepcopy(network)
    resumed = make_optimizer(config, other)
    load_optimizer(resumed, optimizer.state_dict())
    run(network, optimizer, range(3, 6))
    run(other, resumed, range(3, 6))
    assert torch.equal(network.weight, other.weight)


@pytest.mark.parametrize(
    "arguments",
    [{"betas": [0.5, 0.9]}, {"betas": [0.0, 1.1]}, {"eps": 0.0}, {"nu": 1}],
)
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(InputError, match="optimizer adashift does not take"):
        make_optimizer(OptimizerConfig("adashift", arguments=arguments), torch.nn.Linear(1, 1))
