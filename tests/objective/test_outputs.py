import math
import sys
from pathlib import Path

import pytest
import torch
from gans import DISCRIMINATORS
from goldens import TOLERANCE, load, needs_goldens, penalty_critic, weights
from torch import nn

from licfg_hf import GradientNormalized, GradientPenalty, OutputNormalized, PenaltyGradientNormalized, get_loss
from licfg_hf.models import DiscriminatorOutput
from licfg_hf.objective.critic import frozen

sys.path.insert(0, str(Path(__file__).parent))
from sngan_parity import NETWORKS


def relu_critic() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
    )


def points(count: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(1))


def input_gradient(critic: nn.Module, images: torch.Tensor) -> torch.Tensor:
    images = images.clone().requires_grad_()
    return torch.autograd.grad(critic(images).sum(), images)[0].flatten(1)


class Linear(nn.Module):
    """f(x) = <w, x> + b"""

    def __init__(self, weight: torch.Tensor, bias: float):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, images):
        return images.flatten(1) @ self.weight + self.bias


def test_gradient_norm_is_at_most_one_and_scale_does_not_matter():
    critic, images = relu_critic(), points()
    normalized = GradientNormalized(critic)
    values = normalized(images)
    assert values.shape == (64, 1) and values.abs().max() < 1
    assert input_gradient(normalized, images).norm(dim=1).max() <= 1 + 1e-5
    # (n / (n + |f|))^2 on piecewise-linear critics (methods 4.1)
    norm, value = input_gradient(critic, images).norm(dim=1), critic(images).flatten().abs()
    torch.testing.assert_close(input_gradient(normalized, images).norm(dim=1), (norm / (norm + value)) ** 2)
    with torch.no_grad():
        for parameter in critic[-1].parameters():
            parameter.mul_(100)
    torch.testing.assert_close(normalized(images), values)


@pytest.mark.parametrize(("distance", "published"), [(0.554, 24.8), (0.1, 71.0), (2.0, 4.66)])
def test_published_pgn_breaks_its_bound_and_the_form_of_its_proof_keeps_it(distance, published):
    """Linear f with gradient 0.99 in each of 3,072 coordinates (methods 5.2): the counterexample."""
    critic = Linear(torch.full((3072,), 0.99, dtype=torch.float64), bias=1 - distance)
    images = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    found = input_gradient(PenaltyGradientNormalized(critic), images).norm().item()
    assert found == pytest.approx(published, rel=5e-3)
    assert input_gradient(PenaltyGradientNormalized(critic, form="norm"), images).norm().item() <= 1


def test_pgn_formulas():
    critic, images = relu_critic(), points()
    value, gradient = critic(images).flatten(), input_gradient(critic, images)
    for form, denominator in (("elementwise", (1 - gradient).norm(dim=1)), ("norm", gradient.norm(dim=1))):
        found = PenaltyGradientNormalized(critic, form=form)(images).flatten()
        torch.testing.assert_close(found, (1 - value) / (denominator + (1 - value).abs()))
    with pytest.raises(ValueError, match="elementwise or norm"):
        PenaltyGradientNormalized(critic, form="squared")


def test_takes_a_users_own_formula_and_keeps_the_form_of_the_output():
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.critic, self.embedding = relu_critic(), nn.Embedding(5, 1)

        def forward(self, images, class_labels, return_dict=True):
            logits = self.critic(images) + self.embedding(class_labels)
            return DiscriminatorOutput(logits=logits) if return_dict else (logits,)

    critic, images, labels = Conditional(), points(4), torch.arange(4)
    doubled = OutputNormalized(critic, lambda value, gradient: 2 * value)
    torch.testing.assert_close(doubled(images, class_labels=labels).logits, 2 * critic(images, labels).logits)
    assert isinstance(doubled(images, labels, return_dict=False), tuple)


def test_an_argument_that_is_false_is_the_critics_own():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.critic = relu_critic()

        def forward(self, images, doubled):
            return self.critic(images) * (2 if doubled else 1)

    normalized, images = GradientNormalized(Scaled()), points(4)
    assert torch.equal(normalized(images, False), GradientNormalized(normalized.discriminator.critic)(images))


@pytest.mark.parametrize("normalizers", [(), ({"kind": "gradient"},)])
def test_a_model_gives_its_tuple_where_it_is_asked_for_by_name_or_by_place(normalizers):
    torch.manual_seed(0)
    model, images = DISCRIMINATORS["sngan_cnn"](normalizers=normalizers), torch.randn(4, 1, 8, 8)
    expected = model.eval()(images).logits
    for output in (
        model(images, return_dict=False),
        model(images, None, False),
        model(images=images, class_labels=None, return_dict=False),
    ):
        assert isinstance(output, tuple) and torch.equal(output[0], expected)
    with pytest.raises(TypeError):
        model(images, None, False, None)


def test_a_tangent_of_a_normalized_output_is_refused_in_words():
    with pytest.raises(ValueError, match="use another method: it takes a gradient of its own"):
        GradientPenalty(1.0, points="real", method="tangent")(GradientNormalized(relu_critic()), points(4))


def test_works_without_gradients_and_with_penalties_on_top():
    normalized, images = GradientNormalized(relu_critic()), points(4)
    with torch.no_grad():
        assert not normalized(images).requires_grad
    GradientPenalty(1.0, center=1.0)(normalized, images, -images).backward()
    assert all(torch.isfinite(p.grad).all() for p in normalized.parameters() if p.grad is not None)


def test_generator_shortcut_is_exact_for_piecewise_linear_critics():
    critic, images = relu_critic(), points()
    exact, shortcut = GradientNormalized(critic), GradientNormalized(critic, first_order_generator=True)
    with frozen(critic):
        torch.testing.assert_close(shortcut(images), exact(images))
        torch.testing.assert_close(input_gradient(shortcut, images), input_gradient(exact, images))
    with_parameters = shortcut(images).sum()  # the discriminator's own step keeps the second-order graph
    expected = torch.autograd.grad(exact(images).sum(), critic[1].weight)
    torch.testing.assert_close(torch.autograd.grad(with_parameters, critic[1].weight), expected)


def test_a_critic_of_zeros_gives_zero():
    critic = relu_critic()
    nn.init.zeros_(critic[-1].weight)
    nn.init.zeros_(critic[-1].bias)
    assert GradientNormalized(critic)(points(3)).abs().max() == 0


def test_batch_norm_draws_a_warning():
    with pytest.warns(UserWarning, match="BatchNorm"):
        GradientNormalized(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 1)))


@needs_goldens
def test_golden_gradient_normalization():
    description, tensors = load("penalties")
    golden = description["unweighted_values"]
    critic = penalty_critic(tensors)
    normalized, loss = GradientNormalized(critic), get_loss("hinge")
    expected = golden["gradient_normalization_real"]
    values = normalized(tensors["real"])
    torch.testing.assert_close(values.flatten(), torch.tensor(expected["values"]), rtol=1e-5, atol=1e-6)

    def parameter_norm(value: torch.Tensor) -> float:
        critic.zero_grad()
        value.backward()
        return torch.stack([p.grad.norm() for p in critic.parameters() if p.grad is not None]).norm().item()

    assert parameter_norm(values.sum()) == pytest.approx(expected["sum_grad_theta_norm"], rel=1e-5)
    hinge = golden["gradient_normalized_hinge_d_on_cat_real_fake"]
    value = loss.discriminator(normalized(tensors["real"]), normalized(tensors["fake"]))
    assert value.item() == pytest.approx(hinge["value"], rel=1e-5)
    assert parameter_norm(value) == pytest.approx(hinge["grad_theta_norm"], rel=1e-5)
    both = torch.cat([tensors["real"], tensors["fake"]])
    assert input_gradient(critic, both).norm(dim=1).tolist() == pytest.approx(hinge["raw_gradient_norms"], rel=1e-5)


@needs_goldens
@pytest.mark.parametrize(("first_order", "key"), [(False, "exact_norm"), (True, "piecewise_linear_shortcut_norm")])
def test_golden_generator_gradient(first_order, key):
    description, tensors = load("penalties")
    critic = penalty_critic(tensors)
    normalized = GradientNormalized(critic, first_order_generator=first_order)
    fake = tensors["fake"].clone().requires_grad_()
    with frozen(critic):
        (gradient,) = torch.autograd.grad(get_loss("hinge").generator(normalized(fake)), fake)
    expected = description["unweighted_values"]["gradient_normalized_hinge_g_grad_wrt_fake"][key]
    assert gradient.norm().item() == pytest.approx(expected, rel=1e-5)


@needs_goldens
@pytest.mark.parametrize("name", NETWORKS)
def test_golden_normalized_discriminators(name):
    description, tensors = load(name)
    critic = NETWORKS[name]().eval()
    critic.load_state_dict(weights(description["keys"]))
    assert sum(parameter.numel() for parameter in critic.parameters()) == description["params"]
    torch.testing.assert_close(critic(tensors["in.x"]), tensors["out.raw"], **TOLERANCE)
    found = GradientNormalized(critic)(tensors["in.x"])
    torch.testing.assert_close(found, tensors["out.gradient_normalized"], **TOLERANCE)


def test_measured_squash_of_published_pgn():
    """Far below ||grad f|| = sqrt(d) the published form is a fixed soft sign: its slope follows the critic's scale."""
    critic, images = relu_critic(), points()
    small, large = [], []
    for scale, found in ((0.01, small), (1.0, large)):
        with torch.no_grad():
            for parameter in critic[-1].parameters():
                parameter.mul_(scale)
        found.append(input_gradient(PenaltyGradientNormalized(critic), images).norm(dim=1).mean().item())
        with torch.no_grad():
            for parameter in critic[-1].parameters():
                parameter.div_(scale)
    assert large[0] / small[0] > 20 and math.isfinite(large[0])
