"""Counted operations against those counted by hand."""

import pytest
import torch
from torch import nn

from licfg_hf import EpsCenteredGradientPenalty, GradientPenalty, get_loss
from licfg_hf.bench.measure import count_flops
from licfg_hf.training import LazyPenalty
from licfg_hf.training.step import discriminator_terms
from licfg_hf.training.tasks import MicroBatch

BATCH, CHANNELS, SIZE = 2, 8, 8
PASS = 2 * BATCH * CHANNELS * CHANNELS * 9 * SIZE * SIZE  # of one convolution in one direction


class Images:
    """A task whose images cost nothing."""

    def generate(self, generator, draw):
        return draw.noise["images"]


class Critic(nn.Module):
    """Three equal convolutions."""

    def __init__(self):
        super().__init__()
        convolutions = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(3)]
        self.layers = nn.Sequential(convolutions[0], nn.Softplus(), convolutions[1], nn.Softplus(), convolutions[2])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).sum((1, 2, 3))


def passes(penalties: list) -> float:
    """Convolution passes of a discriminator step."""
    critic = Critic()
    images = torch.randn(2, BATCH, CHANNELS, SIZE, SIZE)
    draw = MicroBatch(real=images[0], noise={"images": images[1]})
    due = [LazyPenalty(penalty) for penalty in penalties]

    def step() -> None:
        terms = discriminator_terms(nn.Identity(), critic, Images(), get_loss("non_saturating"), due, draw)
        sum(value for value in terms.values() if value.requires_grad).backward()

    return count_flops(step) / PASS


def test_forward_and_backward_passes():
    critic, images = Critic(), torch.randn(BATCH, CHANNELS, SIZE, SIZE)
    with torch.no_grad():
        assert count_flops(lambda: critic(images)) == 3 * PASS
    # each weight's gradient, and each input's but that of the images
    assert count_flops(lambda: critic(images).sum().backward()) == (3 + 5) * PASS


def test_matrix_products():
    left, right = torch.randn(3, 4), torch.randn(4, 5)
    assert count_flops(lambda: left @ right) == 2 * 3 * 4 * 5


def test_a_step_without_a_penalty_has_a_forward_and_a_backward_pass_of_both_batches():
    assert passes([]) == 2 * (3 + 5)


def test_an_exact_penalty_on_interpolates_adds_what_can_be_counted_on_paper():
    # forward 3; input gradient 3; its own backward: 3 for the inputs' and 3 for the weights' part; backward through
    # the activations of the forward pass: 2 + 1. One more where autograd also fills the points' own .grad.
    assert passes([EpsCenteredGradientPenalty(1.0)]) - 16 in (15, 16)


def test_r1_shares_the_forward_pass_and_the_backward_pass_behind_it():
    # input gradient 3; its own backward 3 + 3; and perhaps .grad of the points
    assert passes([GradientPenalty(1.0, points="real")]) - 16 in (9, 10)


@pytest.mark.parametrize("method", ["tangent", "finite_difference"])
def test_the_other_methods_count_more_on_interpolates(method):
    assert passes([EpsCenteredGradientPenalty(1.0, method=method)]) > passes([EpsCenteredGradientPenalty(1.0)])
