"""Critics that users bring: every term gives the right number and the right gradient, or refuses in one line."""

import functools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from licfg_hf import (
    AdversarialLipschitzPenalty,
    ConsistencyRegularization,
    DifferentiableAugmentation,
    FlipAndShift,
    GradientNormalized,
    GradientPenalty,
    get_loss,
    spectral_normalize,
    stable_rank_normalize,
)
from licfg_hf.diagnostics import HealthMonitor, gradient_norms
from licfg_hf.objective.functional_gradient import scaled_gradient
from licfg_hf.objective.weights import power_iterated_once

METHODS = ("exact", "tangent", "finite_difference")


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def critic(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(512, 1))
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), *middle, *head).double()


def gradient(network: nn.Module, term: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    term.backward()
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return torch.cat([part.flatten() for part in parts])


def one_sample(method: str, center: float = 1.0, **more) -> GradientPenalty:
    return GradientPenalty(1.0, center=center, points="real", method=method, **more)


class Called(nn.Module):
    """A layer of one function, with a parameter of eight numbers."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 8, dtype=torch.float64))

    def forward(self, x):
        return self.function(x, self.scale)


class OfTokens(nn.Module):
    """A layer of tokens (batch, 64, 8), on images (batch, 8, 8, 8)."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        tokens = self.layer(x.flatten(2).transpose(1, 2))
        return (tokens[0] if isinstance(tokens, tuple) else tokens).transpose(1, 2).reshape(x.shape)


class SelfAttention(nn.Module):
    def __init__(self, need_weights: bool):
        super().__init__()
        self.attention, self.need_weights = nn.MultiheadAttention(8, 2, batch_first=True), need_weights

    def forward(self, x):
        return self.attention(x, x, x, need_weights=self.need_weights)[0]


def bilinear() -> nn.Module:
    layer = nn.Bilinear(8, 8, 8).double()

    def forward(x, scale):
        last = x.permute(0, 2, 3, 1).contiguous()
        return layer(last * scale, last).permute(0, 3, 1, 2)

    return Called(forward)


class Deaf(torch.autograd.Function):
    """A function whose backward pass cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * (1 - ctx.saved_tensors[0].tanh().square())


def scripted(layer: nn.Module) -> nn.Module:
    return torch.jit.script(layer.double())


def encoder(**options) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)


def resampled(down: nn.Module) -> nn.Module:
    return nn.Sequential(down, nn.Upsample(size=(8, 8), mode="bilinear"))


ACTIVATIONS = (
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign, nn.Tanh),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardtanh, nn.Hardswish, nn.ReLU6, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink),
    *(nn.PReLU, nn.RReLU, nn.Hardsigmoid, nn.Softmax2d),
)
LAYERS = {
    **{kind.__name__: kind for kind in ACTIVATIONS},
    "glu": lambda: nn.Sequential(nn.GLU(1), nn.Conv2d(4, 8, 1)),
    "softmax": lambda: nn.Softmax(1),
    "log softmax": lambda: nn.LogSoftmax(1),
    "layer norm": lambda: nn.LayerNorm([8, 8, 8]),
    "layer norm without parameters": lambda: nn.LayerNorm([8, 8, 8], elementwise_affine=False),
    "layer norm of tokens": lambda: OfTokens(nn.LayerNorm(8)),
    "layer norm without bias": lambda: OfTokens(nn.LayerNorm(8, bias=False)),
    "instance norm": lambda: nn.InstanceNorm2d(8),
    "affine instance norm": lambda: nn.InstanceNorm2d(8, affine=True),
    "tracking instance norm": lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    "tracked instance norm": lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True).eval(),
    "group norm": lambda: nn.GroupNorm(2, 8),
    "group norm of one": lambda: nn.GroupNorm(1, 8),
    "rms norm": lambda: OfTokens(nn.RMSNorm(8)),
    "local response norm": lambda: nn.LocalResponseNorm(3),
    "cross map norm": lambda: nn.CrossMapLRN2d(3),
    "batch norm": lambda: nn.BatchNorm2d(8),
    "batch norm in eval mode": lambda: nn.BatchNorm2d(8).eval(),
    "batch norm without statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False).eval(),
    "max pool": lambda: resampled(nn.MaxPool2d(2)),
    "average pool": lambda: resampled(nn.AvgPool2d(2)),
    "power pool": lambda: resampled(nn.LPPool2d(2, 2)),
    "adaptive max pool": lambda: resampled(nn.AdaptiveMaxPool2d(4)),
    "fractional max pool": lambda: resampled(nn.FractionalMaxPool2d(3, output_size=4)),
    "pixel shuffle": lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.PixelShuffle(2)),
    "transposed convolution": lambda: nn.ConvTranspose2d(8, 8, 3, padding=1),
    "depthwise convolution": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "reflection padding": lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3)),
    "circular padding": lambda: nn.Sequential(nn.CircularPad2d(1), nn.Conv2d(8, 8, 3)),
    "fold": lambda: nn.Sequential(nn.Unfold(3, padding=1), nn.Fold((8, 8), 3, padding=1)),
    "bilinear": bilinear,
    "lstm": lambda: OfTokens(nn.LSTM(8, 8, batch_first=True)),
    "gru": lambda: OfTokens(nn.GRU(8, 8, batch_first=True)),
    "attention with weights": lambda: OfTokens(SelfAttention(True)),
    "fused attention": lambda: OfTokens(SelfAttention(False)),
    "transformer layer": lambda: OfTokens(encoder(dropout=0.0)),
    "transformer layer with dropout": lambda: OfTokens(encoder(dropout=0.5)),
    "transformer layer in eval mode": lambda: OfTokens(encoder(norm_first=True).eval()),
    "frozen transformer layer": lambda: OfTokens(encoder().eval().requires_grad_(False)),
    "dropout": lambda: nn.Dropout(0.3),
    "channel dropout": lambda: nn.Dropout2d(0.3),
    "alpha dropout": lambda: nn.AlphaDropout(0.3),
    "noise": lambda: Called(lambda x, scale: x * scale + torch.randn_like(x)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)),
    "scripted layer norm": lambda: scripted(nn.LayerNorm([8, 8, 8])),
    "scripted instance norm": lambda: scripted(nn.InstanceNorm2d(8)),
    "layer norm as a function": lambda: Called(lambda x, scale: F.layer_norm(x, (8,), scale)),
    "layer norm as an operator": lambda: Called(lambda x, scale: torch.layer_norm(x, (8,), scale)),
    "native layer norm": lambda: Called(lambda x, scale: torch.native_layer_norm(x, (8,), scale, None, 1e-5)[0]),
    "instance norm as a function": lambda: Called(lambda x, scale: F.instance_norm(x, weight=scale)),
    "instance norm by batch norm": lambda: Called(
        lambda x, scale: F.batch_norm(x.view(1, 32, 8, 8), None, None, scale.repeat(4), training=True).view_as(x)
    ),
    "normalized": lambda: Called(lambda x, scale: F.normalize(x * scale, dim=1)),
    "deviation": lambda: Called(lambda x, scale: x * scale / x.std((1, 2, 3), keepdim=True)),
    "similarity": lambda: Called(lambda x, scale: x * F.cosine_similarity(x * scale, x.flip(1))[:, None]),
    "determinant": lambda: Called(lambda x, scale: x * torch.linalg.det(x * scale)[..., None, None]),
    "log determinant": lambda: Called(lambda x, scale: x * torch.linalg.slogdet(x * scale)[1][..., None, None]),
    "solution": lambda: Called(lambda x, scale: torch.linalg.solve(x * scale + 8 * torch.eye(8).double(), x)),
    "singular values": lambda: Called(lambda x, scale: x * torch.linalg.svdvals(x * scale)[..., None]),
    "spectrum": lambda: Called(lambda x, scale: torch.fft.fft2(x * scale).abs()),
    "sampled by a grid": lambda: Called(
        lambda x, scale: F.grid_sample(x, (x[:, :2].permute(0, 2, 3, 1) * scale[0]).tanh(), align_corners=False)
    ),
    "distances": lambda: Called(lambda x, scale: x * torch.cdist(x * scale, x + 1)),
    "checkpointed": lambda: Called(lambda x, scale: checkpoint(lambda y: (y * scale).tanh(), x, use_reentrant=False)),
    "checkpointed reentrantly": lambda: Called(
        lambda x, scale: checkpoint(lambda y: (y * scale).tanh(), x, use_reentrant=True)
    ),
    "compiled": lambda: torch.compile(nn.Sequential(nn.Conv2d(8, 8, 1), nn.Tanh()), backend="aot_eager"),
    "differentiable once": lambda: Called(lambda x, scale: Deaf.apply(x * scale)),
}
# What torch itself cannot differentiate twice, and some of what it cannot differentiate forward and then once more.
NOT_EXACT = {
    "Hardsigmoid",
    "cross map norm",
    "distances",
    "checkpointed reentrantly",
    "compiled",
    "differentiable once",
}
NOT_FORWARD = {"glu", "batch norm", "scripted layer norm", "determinant", "transformer layer with dropout"}


def outcome(method: str, name: str, images: torch.Tensor) -> torch.Tensor | None:
    """The parameters' gradient of a penalty on a critic with this layer, or None where the call refuses."""
    torch.manual_seed(4)
    network = critic(nn.Conv2d(8, 8, 3, padding=1), LAYERS[name](), nn.SiLU())
    torch.manual_seed(5)  # of dropout and noise
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        try:
            term = one_sample(method, step=1e-4)(network, images)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) > 40
            return None
    return gradient(network, term)


@pytest.mark.parametrize("name", LAYERS)
def test_tangent_is_the_exact_gradient_or_refuses_and_so_does_exact(name, images):
    exact, tangent = outcome("exact", name, images), outcome("tangent", name, images)
    assert (exact is None) == (name in NOT_EXACT)
    if name in NOT_FORWARD:
        assert tangent is None
    if exact is not None and tangent is not None:
        torch.testing.assert_close(tangent, exact, rtol=1e-7, atol=1e-9)


def test_tangent_works_on_the_normalizations_of_the_papers(images):
    for name in ("layer norm", "instance norm", "group norm", "rms norm", "transformer layer", "fused attention"):
        assert outcome("tangent", name, images) is not None, name


@pytest.mark.parametrize("name", ["layer norm", "instance norm", "dropout", "noise", "fused attention", "deviation"])
def test_finite_differences_are_the_exact_gradient_of_smooth_layers(name, images):
    torch.testing.assert_close(
        outcome("finite_difference", name, images), outcome("exact", name, images), rtol=1e-4, atol=1e-5
    )


def test_a_tangent_that_shares_the_callers_pass_does_not_mix_its_noise_with_that_of_another(images):
    network = critic(nn.Dropout(0.3))
    images.requires_grad_()
    term = one_sample("tangent", center=0.0)
    torch.manual_seed(3)
    shared = term(network, images, real_logits=network(images))
    torch.manual_seed(3)
    for _ in range(2):
        network(images)  # the caller's pass, and the one that showed that the critic draws
    torch.testing.assert_close(shared, one_sample("exact", center=0.0)(network, images))


# ---- critics that are no modules, and conditioning with a graph

WRAPPERS = {
    "module": lambda network: network,
    "lambda": lambda network: lambda x: network(x),
    "partial": lambda network: functools.partial(lambda net, x: net(x), network),
    "method": lambda network: network.forward,
    "hidden module": lambda network: Hidden(network),
}


class Hidden(nn.Module):
    """Keeps its network out of ``modules()``."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.networks = [network]

    def forward(self, x):
        return self.networks[0](x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("norm", [spectral_normalize, "torch"])
def test_a_function_around_a_critic_gives_what_the_critic_gives(wrapper, method, norm, images):
    def value(wrap):
        network = critic()
        if callable(norm):
            norm(network)
        else:
            nn.utils.spectral_norm(network[0])
            nn.utils.spectral_norm(network[-1])
            network.double()
        for _ in range(200):
            network(images)  # until the power iteration stands
        term = one_sample(method, step=1e-3)(wrap(network), images)
        assert all(p.grad is None for p in network.parameters()), "the call left a gradient"
        return gradient(network, term)

    torch.testing.assert_close(value(WRAPPERS[wrapper]), value(lambda network: network), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("wrapper", ["module", "lambda"])
@pytest.mark.parametrize("method", METHODS)
def test_no_call_leaves_a_gradient_or_spoils_a_graph(method, wrapper, images):
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)

        def forward(self, x, emb):
            return (self.out(F.silu(self.conv(x)).mean((2, 3))) * emb["table"][0]).sum(1)

    network, table = Conditional().double(), nn.Embedding(4, 8).double()
    conditioning = {"emb": {"table": [table(torch.arange(4))]}}
    wrapped = network if wrapper == "module" else lambda x, emb: network(x, emb)
    term = one_sample(method)(wrapped, images, **conditioning)
    assert all(p.grad is None for p in (*network.parameters(), *table.parameters()))
    (network(images, **conditioning).mean() + term).backward()
    assert table.weight.grad.any() and network.conv.weight.grad.any()


def test_conditioning_is_repeated_wherever_it_stands(images):
    def conditional(x, nested, captions, codebook):
        weight = nested["scales"][0] * nested["pair"][1]
        assert len(weight) == len(x) == len(captions) and codebook.shape == (5, 2)
        return (x.flatten(1).sum(1) * weight)[:, None]

    scale = torch.arange(4.0, dtype=torch.float64)
    term = GradientPenalty(1.0, points="real_and_fake")
    conditioning = {"nested": {"scales": [scale], "pair": (None, scale)}, "captions": list("abcd")}
    value = term(conditional, images, -images, codebook=torch.zeros(5, 2), **conditioning)
    torch.testing.assert_close(value, 192 * (scale**4).mean())


@pytest.mark.parametrize("how", ["prepared", "function around prepared", "method of prepared", "own"])
def test_finite_differences_keep_no_autocast_on(how, images):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    class Own(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return self.network(x).float()

    images = images.float()
    expected = gradient(plain := critic().float(), one_sample("finite_difference", step=0.01)(plain, images))
    network = critic().float()
    if how == "own":
        wrapped = Own(network)
    else:
        prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare(network)
        wrapped = {"prepared": prepared, "method of prepared": prepared.forward}.get(how, lambda x: prepared(x))
    found = gradient(network, one_sample("finite_difference", step=0.01)(wrapped, images))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert (found - expected).norm() / expected.norm() < 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.nn.functional.linear(images[:, 0, 0], images[0, 0]).dtype == torch.bfloat16, "autocast is off"


def test_a_reentrant_checkpoint_in_a_function_is_refused_in_words(images):
    network = critic(LAYERS["checkpointed reentrantly"]())
    one_sample("finite_difference")(network, images).backward()
    with pytest.raises(ValueError, match="pass the module"):
        one_sample("finite_difference")(lambda x: network(x), images)


# ---- torch's own spectral norm


@pytest.mark.parametrize(
    "term", [*(one_sample(method) for method in METHODS), AdversarialLipschitzPenalty()], ids=repr
)
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
@pytest.mark.parametrize("wrapper", ["module", "lambda", "hidden module"])
def test_one_penalty_moves_the_power_iteration_as_far_as_one_pass(term, norm, wrapper, images):
    torch.manual_seed(0)
    network = nn.Sequential(norm(nn.Conv2d(3, 8, 3, padding=1)), nn.SiLU(), nn.Flatten(), norm(nn.Linear(512, 1)))
    network.double()(images)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    term(WRAPPERS[wrapper](network), images, images).backward()
    after = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(before)
    network(images)
    once = network.state_dict()
    names = [name for name in once if name.endswith("_u")]
    assert len(names) == 2
    for name in names:
        kept, moved = torch.equal(after[name], before[name]), torch.allclose(after[name], once[name])
        assert kept or moved, name
    for layer in (network[0], network[-1]):
        assert layer.training and all(hook.n_power_iterations == 1 for hook in layer._forward_pre_hooks.values())


def test_an_update_moves_classic_power_iterations_once(images):
    network = critic().float()
    nn.utils.spectral_norm(network[0])
    images = images.float()
    vector = network[0].weight_u
    with power_iterated_once(network):
        first = network(images)
        second = network(images)
        torch.testing.assert_close(first, second)
    moved = network[0].weight_u
    assert moved is vector
    network(images)
    (first + second).sum().backward()  # what came later has not spoiled the graph


# ---- weights that are zero, or not to be normalized


@pytest.mark.parametrize("normalize", [spectral_normalize, stable_rank_normalize])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("zeros", ["before", "after", "nearly"])
@pytest.mark.parametrize("width", [1, 4])
def test_a_layer_that_starts_at_zero_learns(normalize, optimizer, zeros, width):
    torch.manual_seed(0)
    layer = nn.Linear(4, width, bias=False)
    network = nn.Sequential(nn.Linear(4, 4), layer)
    if zeros == "before":
        nn.init.zeros_(layer.weight)
    with warnings.catch_warnings(record=True) as said:
        normalize(network)
    assert any("Linear" in str(warning.message) and "zero" in str(warning.message) for warning in said) == (
        zeros == "before"
    )
    if zeros != "before":
        with torch.no_grad():
            layer.parametrizations.weight.original.mul_(0 if zeros == "after" else 1e-10)
        assert network(torch.randn(8, 4)).abs().max() < 1e-6, "what starts at zero starts at zero"
    optimizer = optimizer(network.parameters(), 1e-2 if optimizer is torch.optim.Adam else 0.1)
    target = torch.randn(4, width)
    points = torch.randn(64, 4)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (network(points) - points @ target / 4).square().mean()
        loss.backward()
        assert nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]) < 1e3
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0] and layer.weight.any() and torch.isfinite(layer.weight).all()


OWN = {
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": nn.utils.weight_norm,
    "parametrized spectral_norm": nn.utils.parametrizations.spectral_norm,
    "parametrized weight_norm": nn.utils.parametrizations.weight_norm,
    "lazy": lambda layer: nn.LazyLinear(4),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("normalize", [spectral_normalize, stable_rank_normalize])
@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("own", OWN)
def test_weights_are_normalized_whole_or_refused_whole(own, called, normalize):
    network = nn.Sequential(nn.Linear(4, 4), OWN[own](nn.Linear(4, 4)))
    if called and own != "lazy":
        network(torch.randn(2, 4))
    before = list(network.state_dict())
    with pytest.raises(ValueError, match=r"normalized already|no shape yet"):
        normalize(network)
    assert list(network.state_dict()) == before
    with pytest.raises(ValueError, match=r"normalized already|no shape yet"):
        normalize(network[1:])
    with pytest.raises(ValueError, match="k is"):
        normalize(nn.Sequential(nn.Linear(4, 4)), k=-1.0)


def test_tied_weights_stay_tied():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    spectral_normalize(network).eval()
    assert network[0].parametrizations.weight.original is network[1].parametrizations.weight.original
    torch.testing.assert_close(network[0].weight, network[1].weight, rtol=1e-2, atol=1e-3)


def test_weights_that_are_not_normalized_are_named():
    class Equalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            return x @ self.kernel

    with pytest.warns(UserWarning, match=r"1\.kernel.*2\.weight_ih_l0"):
        spectral_normalize(nn.Sequential(nn.Linear(4, 4), Equalized(), nn.LSTM(4, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spectral_normalize(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.PReLU()))


# ---- second derivatives


def test_penalties_that_share_a_fused_pass_take_one_of_their_own(images):
    network = critic(LAYERS["fused attention"]())
    images.requires_grad_()
    for method in ("exact", "tangent"):
        shared = gradient(network, one_sample(method)(network, images, real_logits=network(images)))
        torch.testing.assert_close(shared, gradient(network, one_sample(method)(network, images)))


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_normalization_can_be_trained_through_or_refuses_at_the_call(name, images):
    network = critic(LAYERS[name]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        normalized = GradientNormalized(network)
        try:
            logits = normalized(images)
        except ValueError as error:
            assert name in NOT_EXACT and "\n" not in str(error)
            return
    assert gradient(network, logits.sum()).isfinite().all()


# ---- outputs that are no single logit

OUTPUTS = {
    "maps and classes": lambda h: [h[:, :1], h.mean((2, 3)), h],
    "a tuple": lambda h: (h[:, :1], h),
    "a dict": lambda h: {"logits": h, "features": h},
    "classes": lambda h: h.mean((2, 3)),
    "a scalar": lambda h: h.mean(),
    "fewer": lambda h: h.mean((1, 2, 3))[:2],
    "integers": lambda h: h.mean((1, 2, 3)).round().long(),
    "complex numbers": lambda h: torch.complex(h, h).mean((1, 2, 3)),
    "None": lambda h: None,
}
USES = {
    **{method: lambda net, x, method=method: one_sample(method)(net, x) for method in METHODS},
    "adversarial": lambda net, x: AdversarialLipschitzPenalty()(net, x, x),
    "normalizer": lambda net, x: GradientNormalized(net)(x),
    "consistency": lambda net, x: ConsistencyRegularization(1.0)(net, x),
    "flow": lambda net, x: scaled_gradient(net, x),
    "gradient norms": lambda net, x: gradient_norms(net, x),
    "loss": lambda net, x: get_loss("hinge").discriminator(net(x), net(x)),
    "monitor": lambda net, x: HealthMonitor(get_loss("hinge")).update(net(x), net(x)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_that_are_no_logits_are_refused_by_one_sentence(use, kind, images):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3).double()

        def forward(self, x):
            return OUTPUTS[kind](self.conv(x))

    if kind == "fewer" and use in ("loss", "monitor"):
        pytest.skip("a loss does not know how many samples there were")
    with pytest.raises(ValueError, match="logits") as refusal:
        USES[use](Other(), images)
    assert "\n" not in str(refusal.value)


def test_what_was_given_is_named():
    for output, words in (
        (torch.zeros(4, 10), r"a tensor \(4, 10\)"),
        ([torch.zeros(4, 1), 3], "an? int"),
        ({"real": "1"}, "a str"),
    ):
        with pytest.raises(ValueError, match=words):
            get_loss("hinge").generator(output)


# ---- inputs that are no images


@pytest.mark.parametrize(
    "augmentation", [DifferentiableAugmentation(("color",)), DifferentiableAugmentation(), FlipAndShift()], ids=repr
)
def test_augmentations_take_images_and_nothing_else(augmentation):
    for data in (torch.randn(4, 1, 32), torch.randn(4, 32), torch.zeros(4, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="images"):
            augmentation(data)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_penalty_is_a_number_where_gradients_are_off(method, off, images):
    expected = one_sample(method)(critic(), images)
    network = critic()
    with off():
        value = one_sample(method)(network, images.clone())
        adversarial = AdversarialLipschitzPenalty()(network, images.clone(), images)
    assert not value.requires_grad and adversarial >= 0
    torch.testing.assert_close(value, expected.detach())


BATCHES = {
    "bytes": torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
    "integers": torch.zeros(4, 3, 8, 8, dtype=torch.int64),
    "complex numbers": torch.zeros(4, 3, 8, 8, dtype=torch.complex64),
    "nothing": torch.zeros(0, 3, 8, 8),
    "numbers": torch.zeros(4),
    "a list": [torch.zeros(3, 8, 8)] * 4,
}


@pytest.mark.parametrize("points", ["interpolate", "real", "fake", "real_and_fake", "perturbed"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", BATCHES)
def test_points_without_a_gradient_are_refused_in_words(kind, method, points):
    batch = BATCHES[kind]
    with pytest.raises(ValueError, match=r"points|batch"):
        GradientPenalty(1.0, points=points, method=method)(critic().float(), batch, batch)


def test_interpolation_is_one_number_per_sample(images):
    with pytest.raises(ValueError, match="one number per sample"):
        GradientPenalty(1.0)(critic(), images, images, interpolation=torch.rand(8))
    flat = GradientPenalty(1.0)(critic(), images, -images, interpolation=torch.full((4,), 0.25).double())
    expected = GradientPenalty(1.0)(critic(), images, -images, interpolation=torch.full((4, 1, 1, 1), 0.25).double())
    torch.testing.assert_close(flat, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_critic_that_does_not_depend_on_its_input_is_refused_in_words(method, images):
    network = critic()
    for blind in (lambda x: network(x.detach()), lambda x: x.detach().sum((1, 2, 3))):
        with pytest.raises(ValueError, match="not differentiable in its input"):
            one_sample(method)(blind, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layer norm", "instance norm", "rms norm", "transformer layer", "max pool"])
def test_compiled_tangents_are_the_exact_gradient(name, images):
    layer = LAYERS[name]()
    for part in layer.modules():
        part.eval()
    network = critic(layer)
    want = gradient(network, one_sample("exact")(network, images))
    compiled = torch.compile(lambda x: one_sample("tangent")(network, x), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradient(network, compiled(images)), want)
