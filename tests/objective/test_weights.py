from contextlib import ExitStack

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from licfg_hf import clip_weights_, r1_penalty, remove_weight_normalization, spectral_normalize, stable_rank_normalize
from licfg_hf.objective.critic import power_iterations_paused
from licfg_hf.objective.weights import weights_computed_once


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(4, 6, 3), nn.Linear(10, 7), nn.Embedding(9, 5), nn.Conv1d(2, 3, 5)]


def matrix(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
    return weight.detach().flatten(1)


def converge(layer: nn.Module) -> nn.Module:
    layer.train()
    for _ in range(300):
        _ = layer.weight  # each access in train mode is one power iteration
    return layer.eval()


@pytest.mark.parametrize("k", [0.2, 1.0, 50.0])
@pytest.mark.parametrize("index", range(5))
def test_spectral_norm_makes_the_largest_singular_value_k(index, k):
    layer = converge(spectral_normalize(layers()[index], k=k))
    values = torch.linalg.svdvals(matrix(layer))
    assert values[0].item() == pytest.approx(k, rel=1e-3)
    original = torch.linalg.svdvals(matrix(layers()[index]))
    torch.testing.assert_close(values, k * original / original[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rank_ratio", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("index", range(5))
def test_stable_rank_is_at_most_its_target(index, rank_ratio):
    layer = converge(stable_rank_normalize(layers()[index], rank_ratio=rank_ratio, k=2.0))
    normalized = matrix(layer)
    sigma = torch.linalg.svdvals(normalized)[0]
    target = max(1.0, rank_ratio * min(normalized.shape))
    assert sigma.item() == pytest.approx(2.0, rel=1e-3)
    assert (normalized.square().sum() / sigma**2).item() <= target + 1e-3


def test_a_full_stable_rank_is_spectral_normalization():
    spectral, stable = (
        converge(make(layers()[2])) for make in (spectral_normalize, lambda m: stable_rank_normalize(m, 1.0))
    )
    torch.testing.assert_close(matrix(spectral), matrix(stable), rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_gradient_treats_the_singular_vectors_as_constants(rows, columns, seed):
    torch.manual_seed(seed)
    layer = spectral_normalize(nn.Linear(columns, rows, bias=False).double()).eval()
    original = layer.parametrizations.weight.original
    u, v = layer.parametrizations.weight[0].u, layer.parametrizations.weight[0].v
    probe = torch.randn(rows, columns, dtype=torch.float64)
    (layer.weight * probe).sum().backward()
    expected = torch.autograd.grad((original / (u @ original @ v) * probe).sum(), original)[0]
    torch.testing.assert_close(original.grad, expected)


def test_network_of_k_normalized_layers_is_as_lipschitz_as_promised():
    """Qin et al.: n dense layers of norm k with 1-Lipschitz activations give k^n."""
    torch.manual_seed(0)
    k = 0.5
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    spectral_normalize(network, k=k)
    for layer in network[::2]:
        converge(layer)
    points = torch.randn(256, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(points).sum(), points)
    assert gradient.norm(dim=1).max() <= k**3 * (1 + 1e-3)


def test_train_mode_follows_the_weight_and_eval_mode_does_not_move():
    layer = spectral_normalize(nn.Linear(6, 6))
    with torch.no_grad():
        layer.parametrizations.weight.original[0] *= 100
    layer.eval()
    before = layer.parametrizations.weight[0].u.clone()
    layer(torch.zeros(1, 6))
    assert torch.equal(before, layer.parametrizations.weight[0].u)
    assert torch.linalg.svdvals(matrix(converge(layer)))[0].item() == pytest.approx(1, rel=1e-3)


def test_state_round_trip_and_baking_keep_the_output():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 1))
    spectral_normalize(network, k=3.0).eval()
    other = spectral_normalize(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 1)), k=3.0).eval()
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, 8, 8)
    expected = network(images)
    assert torch.equal(other(images), expected)
    baked = remove_weight_normalization(other)
    assert set(baked.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    torch.testing.assert_close(baked(images), expected)


def test_two_forwards_and_a_double_backward_in_one_step():
    critic = spectral_normalize(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)))
    points = torch.randn(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    (critic(points).sum() + critic(-points).sum() + gradient.square().sum()).backward()
    assert torch.isfinite(critic[0].parametrizations.weight.original.grad).all()


def test_weight_clipping():
    layer = clip_weights_(nn.Linear(50, 50), 0.01)
    assert layer.weight.abs().max() <= 0.01 and layer.bias.abs().max() <= 0.01
    with pytest.raises(ValueError, match="bound"):
        clip_weights_(layer, 0.0)


def test_refusals():
    with pytest.raises(ValueError, match="no convolution"):
        spectral_normalize(nn.ReLU())
    with pytest.raises(ValueError, match="already"):
        spectral_normalize(spectral_normalize(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="k is"):
        spectral_normalize(nn.Linear(2, 2), k=0.0)
    with pytest.raises(ValueError, match="rank_ratio"):
        stable_rank_normalize(nn.Linear(2, 2), rank_ratio=1.5)


@pytest.mark.parametrize("normalize", (spectral_normalize, stable_rank_normalize))
def test_passes_share_a_weight_that_is_computed_once_and_the_gradient_is_the_same(normalize, rng):
    torch.manual_seed(0)
    critic = normalize(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)).double())
    points, computed = torch.randn(4, 6, dtype=torch.float64, generator=rng), []

    def gradients(*contexts) -> list[torch.Tensor]:
        critic.zero_grad(set_to_none=True)
        computed.clear()
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            value = critic(points).mean() - critic(-points).mean() + r1_penalty(1.0)(critic, points)
            with torch.no_grad():
                critic(points)
        value.backward()
        return [parameter.grad.clone() for parameter in critic.parameters() if parameter.grad is not None]

    hooks = [
        module.register_forward_hook(lambda *_: computed.append(1))
        for module in critic.modules()
        if type(module).__name__ in ("_SpectralNorm", "_StableRankNorm")
    ]
    plain = gradients(power_iterations_paused(critic.modules()))
    assert len(hooks) == 2 and len(computed) == 2 * 4
    shared = gradients(power_iterations_paused(critic.modules()), weights_computed_once(critic.modules()))
    assert len(computed) == 2 * 2  # of each layer with a graph, and without one
    for one, other in zip(plain, shared, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    critic(points)
    assert len(computed) == 2 * 2 + 2  # afterwards as before
