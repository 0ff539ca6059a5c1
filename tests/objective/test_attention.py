"""Critics with fused attention: PyTorch's kernels for it have no second derivative, and the penalties still do."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from licfg_hf import EpsCenteredGradientPenalty, GradientNormalized, PenaltyGradientNormalized, r1_penalty, wgan_gp
from licfg_hf.objective.logits import mean_logit

TOLERANCE = 1e-10


def plain_attention(query, key, value):
    return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1) @ value


class Attention(nn.Module):
    """Attention over (batch, tokens, 8) with two heads, fused or in plain matrix products."""

    def __init__(self, fused: bool):
        super().__init__()
        self.project, self.out, self.fused = nn.Linear(8, 24), nn.Linear(8, 8), fused

    def forward(self, tokens):
        parts = [part.unflatten(2, (2, 4)).transpose(1, 2) for part in self.project(tokens).chunk(3, dim=2)]
        mixed = (F.scaled_dot_product_attention if self.fused else plain_attention)(*parts)
        return self.out(mixed.transpose(1, 2).flatten(2))


class MultiheadAttention(Attention):
    """The same by PyTorch's layer, with the same parameters under other names."""

    def forward(self, tokens):
        if not self.fused:
            return super().forward(tokens)
        names = {"in_proj_weight": self.project.weight, "in_proj_bias": self.project.bias}
        names |= {"out_proj.weight": self.out.weight, "out_proj.bias": self.out.bias}
        layer = nn.MultiheadAttention(8, 2, batch_first=True, device="meta")
        return torch.func.functional_call(layer, names, (tokens, tokens, tokens), {"need_weights": False})[0]


class Encoder(nn.Module):
    """``nn.TransformerEncoderLayer``, norm first, or its formula."""

    def __init__(self, fused: bool):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, F.gelu, batch_first=True, norm_first=True)
        self.fused = fused

    def forward(self, tokens):
        if self.fused:
            return self.layer(tokens)
        layer, attention = self.layer, self.layer.self_attn
        projected = F.linear(layer.norm1(tokens), attention.in_proj_weight, attention.in_proj_bias)
        parts = [part.unflatten(2, (2, 4)).transpose(1, 2) for part in projected.chunk(3, dim=2)]
        tokens = tokens + attention.out_proj(plain_attention(*parts).transpose(1, 2).flatten(2))
        return tokens + layer.linear2(F.gelu(layer.linear1(layer.norm2(tokens))))


class TokenCritic(nn.Module):
    """One logit for each token (batch, 16, 1) of images (batch, 3, 8, 8)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.embed, self.block, self.logit = nn.Conv2d(3, 8, 2, stride=2), block, nn.Linear(8, 1)

    def forward(self, images):
        return self.logit(self.block(self.embed(images).flatten(2).mT))


def critic(kind, fused: bool) -> nn.Module:
    torch.manual_seed(0)
    return TokenCritic(kind(fused)).double()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def gradients(network: nn.Module, value: torch.Tensor) -> torch.Tensor:
    options = {"allow_unused": True, "materialize_grads": True}
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, list(network.parameters()), **options)])


def by_hand(network: nn.Module, penalty, images: torch.Tensor) -> torch.Tensor:
    """The penalty by a double backward of the plain critic."""
    points = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mean_logit(network(points)).sum(), points, create_graph=True)
    return penalty.weight * penalty.squared_distance(gradient.flatten(1)).mean()


@pytest.mark.parametrize("kind", [Attention, MultiheadAttention, Encoder])
@pytest.mark.parametrize("make", [r1_penalty, wgan_gp, EpsCenteredGradientPenalty])
@pytest.mark.parametrize("method", ["exact", "tangent"])
def test_a_penalty_on_fused_attention_is_that_of_plain_matrix_products(kind, make, method, images):
    penalty = make(1.0, method=method)
    fused, plain = critic(kind, True), critic(kind, False)
    assert torch.allclose(fused(images), plain(images), rtol=TOLERANCE)
    found, expected = penalty(fused, images, images), by_hand(plain, penalty, images)
    assert torch.allclose(found, expected, rtol=TOLERANCE)
    found, expected = gradients(fused, found), gradients(plain, expected)
    assert (found - expected).norm() <= TOLERANCE * expected.norm()


@pytest.mark.parametrize("kind", [Attention, MultiheadAttention, Encoder])
@pytest.mark.parametrize("normalize", [GradientNormalized, PenaltyGradientNormalized])
def test_a_normalized_critic_with_fused_attention_is_that_of_plain_matrix_products(kind, normalize, images):
    fused, plain = normalize(critic(kind, True)), normalize(critic(kind, False))
    found, expected = (network(images).square().sum() for network in (fused, plain))
    found, expected = gradients(fused, found), gradients(plain, expected)
    assert (found - expected).norm() <= TOLERANCE * expected.norm()


@pytest.mark.parametrize("kind", [Attention, MultiheadAttention, Encoder])
def test_a_shared_pass_that_took_the_fused_kernel_is_taken_once_more(kind, images):
    network = critic(kind, True).float()
    points = images.float().requires_grad_()
    penalty = r1_penalty(1.0)
    found = gradients(network, penalty(network, points, real_logits=network(points)))
    assert torch.allclose(found, gradients(network, penalty(network, images.float())), atol=1e-6)


def test_the_unet_of_diffusers_is_a_critic_of_every_pixel():
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    ).double()  # fmt: skip
    torch.nn.init.normal_(unet.conv_out.weight, std=0.3)
    images, timestep = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.tensor([3, 5])
    slow = r1_penalty(1.0, method="tangent")(unet, images, timestep=timestep)
    exact = r1_penalty(1.0)(unet, images, timestep=timestep)
    assert torch.allclose(slow, exact, rtol=1e-9)
    found, expected = gradients(unet, exact), gradients(unet, slow)
    assert (found - expected).norm() <= 1e-9 * expected.norm()
    normalized = GradientNormalized(unet)(images, timestep=timestep)
    assert normalized.sample.shape == (2, 1) and gradients(unet, normalized.sample.sum()).isfinite().all()
