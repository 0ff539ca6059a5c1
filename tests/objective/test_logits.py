"""Every form of a critic's output, against a loop over samples, heads and positions in float64."""

from collections import OrderedDict, UserDict
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from licfg_hf import (
    AdversarialLipschitzPenalty,
    AuxiliaryClassification,
    BalancedConsistencyRegularization,
    EpsCenteredGradientPenalty,
    FeatureMatching,
    GradientNormalized,
    GradientPenalty,
    MaxGradientPenalty,
    PenaltyGradientNormalized,
    get_loss,
    r1_penalty,
    spectral_normalize,
    stable_rank_normalize,
)
from licfg_hf.diagnostics import HealthMonitor, gradient_norms
from licfg_hf.models.base import DiscriminatorOutput
from licfg_hf.objective.functional_gradient import SCALINGS, scaled_gradient
from licfg_hf.objective.logits import features_of, heads_of, mean_logit, with_mean_logit
from licfg_hf.objective.losses import LOSS_NAMES

# What the critic returns from features h (batch, 4, 4, 4): as it is, and its heads (batch, positions) by hand.
FORMS = {
    "(batch,)": (lambda h: h.mean((1, 2, 3)), lambda h: [h.mean((1, 2, 3))[:, None]]),
    "(batch, 1)": (lambda h: h[:, :1, 0, 0], lambda h: [h[:, :1, 0, 0]]),
    "a map": (lambda h: h[:, :1], lambda h: [h[:, 0].flatten(1)]),
    "a clip": (lambda h: h[:, None], lambda h: [h.flatten(1)]),
    "tokens": (lambda h: h[:, :1].flatten(2), lambda h: [h[:, 0].flatten(1)]),
    "tokens last": (lambda h: h[:, 0].flatten(1)[..., None], lambda h: [h[:, 0].flatten(1)]),
    "scales": (
        lambda h: [h[:, :1], h[:, 1:2, ::2, ::2]],
        lambda h: [h[:, 0].flatten(1), h[:, 1, ::2, ::2].flatten(1)],
    ),
    "a tuple": (lambda h: (h[:, :1], h[:, :1, 0, 0]), lambda h: [h[:, 0].flatten(1), h[:, :1, 0, 0]]),
    "named heads": (
        lambda h: {"fine": h[:, :1], "coarse": h[:, 1, :1, 0]},
        lambda h: [h[:, 0].flatten(1), h[:, 1, :1, 0]],
    ),
    "an object": (lambda h: DiscriminatorOutput(logits=h[:, :1]), lambda h: [h[:, 0].flatten(1)]),
    "a dict": (lambda h: {"logits": h[:, :1], "features": [h]}, lambda h: [h[:, 0].flatten(1)]),
    "a pair": (lambda h: (h[:, :1], [h]), lambda h: [h[:, 0].flatten(1)]),
    "pairs": (lambda h: [(h[:, :1], [h]), (h[:, 1:2], [h])], lambda h: [h[:, 0].flatten(1), h[:, 1].flatten(1)]),
    "lists of pix2pixHD": (
        lambda h: [[h, h[:, :1]], [h[..., ::2], h[:, 1:2, ::2]]],
        lambda h: [h[:, 0].flatten(1), h[:, 1, ::2].flatten(1)],
    ),
    "lists of HiFi-GAN": (
        lambda h: ([h[:, 0].flatten(1)[:, None], h[:, 1:2]], [[h], [h, h[:, :1]]]),
        lambda h: [h[:, 0].flatten(1), h[:, 1].flatten(1)],
    ),
}
_SCALES = FORMS["lists of pix2pixHD"]
FORMS["a tuple of lists of pix2pixHD"] = (lambda h: tuple(_SCALES[0](h)), _SCALES[1])
FORMS["a tuple of lists of pairs"] = (
    lambda h: ([(h[:, :1], [h])], [(h[:, 1:2], [h])]),
    lambda h: [h[:, 0].flatten(1), h[:, 1].flatten(1)],
)
METHODS = ("exact", "tangent", "finite_difference")
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


class Critic(nn.Module):
    """A smooth critic of images (batch, 3, 6, 6); finite differences of it need a small step."""

    def __init__(self, form):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.Conv2d(8, 4, 3)).double()
        self.form = form

    def forward(self, images):
        return self.form(self.layers(images))


def critic(form, which: int = 0) -> Critic:
    torch.manual_seed(3)
    return Critic(FORMS[form][which])


def value_by_hand(form: str, images: torch.Tensor) -> tuple[Critic, torch.Tensor]:
    """The critic, and per sample the mean over heads of the mean over positions, by a loop."""
    network = critic(form, 1)
    values = [torch.stack([head.mean() for head in network(image[None])]).mean() for image in images]
    return network, torch.stack(values)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


@pytest.fixture
def others() -> torch.Tensor:
    return torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1


def parameter_gradient(network: nn.Module, value: torch.Tensor) -> torch.Tensor:
    gradients = torch.autograd.grad(
        value, list(network.parameters()), allow_unused=True, materialize_grads=True, retain_graph=True
    )
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("form", FORMS)
def test_heads_and_their_mean_are_read(form, images):
    network, expected = value_by_hand(form, images)
    output = critic(form)(images)
    for head, by_hand in zip(heads_of(output, 4), network(images), strict=True):
        assert torch.equal(head, by_hand)
    assert torch.allclose(mean_logit(output, 4), expected, **TOLERANCE)


def loss_by_hand(function, alpha, heads):
    """The mean over heads of the mean over samples and positions of f(alpha u) / alpha, logit by logit."""
    means = [torch.stack([function(alpha * u) / alpha for u in head.flatten()]).mean() for head in heads]
    return torch.stack(means).mean()


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_a_loss_is_taken_at_every_position_before_the_means(form, name, images, others):
    loss = get_loss(name, alpha=0.5)
    network, by_hand = critic(form), critic(form, 1)
    found = [
        loss.discriminator(network(images), network(others)),
        loss.generator(network(others), network(images)),
    ]
    real, fake = by_hand(images), by_hand(others)
    if loss.uses_real_logits:
        pairs = [one - other for one, other in zip(real, fake, strict=True)]
        expected = [loss_by_hand(loss.psi, 0.5, pairs), loss_by_hand(loss.phi, 0.5, pairs)]
    else:
        expected = [
            loss_by_hand(loss.psi, 0.5, real) + loss_by_hand(loss.phi, 0.5, fake),
            loss_by_hand(loss.generator_term, 0.5, fake),
        ]
    for value, hand in zip(found, expected, strict=True):
        assert torch.allclose(value, hand, **TOLERANCE)
        assert torch.allclose(
            parameter_gradient(network, value), parameter_gradient(by_hand, hand), rtol=1e-9, atol=1e-12
        )


PENALTIES = {
    "r1": lambda method: r1_penalty(0.7, method=method),
    "one centred": lambda method: GradientPenalty(0.7, center=1.0, points="real", method=method, step=1e-4),
    "eps centred": lambda method: EpsCenteredGradientPenalty(0.7, points="real", method=method, step=1e-4),
    "max": lambda method: MaxGradientPenalty(0.7, points="real", method=method, step=1e-4),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("form", FORMS)
def test_a_penalty_is_that_of_the_mean_logit(form, name, method, images):
    penalty = PENALTIES[name](method)
    network = critic(form)
    points = images.clone().requires_grad_()
    by_hand, values = value_by_hand(form, points)
    (gradient,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    distances = penalty.squared_distance(gradient.flatten(1))
    expected = 0.7 / (2 if name == "r1" else 1) * (distances.max() if name == "max" else distances.mean())
    found = penalty(network, images)
    rough = {"rtol": 1e-3, "atol": 1e-5} if method == "finite_difference" else TOLERANCE
    assert torch.allclose(found, expected, **rough)
    found, expected = parameter_gradient(network, found), parameter_gradient(by_hand, expected)
    assert (found - expected).norm() <= rough["rtol"] * expected.norm() + rough["atol"]


@pytest.mark.parametrize("form", FORMS)
def test_all_else_that_knows_one_critic_per_sample_takes_the_mean_logit(form, images, others):
    network = critic(form)
    points = images.clone().requires_grad_()
    _, values = value_by_hand(form, points)
    (gradient,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    norm = gradient.flatten(1).norm(dim=1)
    assert torch.allclose(gradient_norms(network, images), norm, **TOLERANCE)
    normalized = mean_logit(GradientNormalized(network)(images))
    assert torch.allclose(normalized, values / (norm + values.abs()), **TOLERANCE)
    elementwise = (1 - values) / ((1 - gradient).flatten(1).norm(dim=1) + (1 - values).abs())
    assert torch.allclose(mean_logit(PenaltyGradientNormalized(network)(images)), elementwise, **TOLERANCE)
    for scaling, function in SCALINGS.items():
        expected = function(values)[:, None, None, None] * gradient
        assert torch.allclose(scaled_gradient(network, images, scaling), expected, **TOLERANCE)
    consistency = BalancedConsistencyRegularization(2.0, augmentation=lambda x, rng: x.flip(3))
    expected = sum(
        2 * (value_by_hand(form, batch)[1] - value_by_hand(form, batch.flip(3))[1]).square().mean()
        for batch in (images, others)
    )
    assert torch.allclose(consistency(network, images, others), expected, **TOLERANCE)
    rng = torch.Generator().manual_seed(0)
    adversarial = AdversarialLipschitzPenalty(lipschitz_constant=0.0)(network, images, others, rng=rng)
    by_mean = AdversarialLipschitzPenalty(lipschitz_constant=0.0)(
        lambda x: value_by_hand(form, x)[1], images, others, rng=torch.Generator().manual_seed(0)
    )
    assert torch.allclose(adversarial, by_mean, rtol=1e-8)


@pytest.mark.parametrize("normalize", [spectral_normalize, stable_rank_normalize, GradientNormalized])
@pytest.mark.parametrize("form", FORMS)
def test_normalized_critics_train_whatever_they_return(form, normalize, images, others):
    network = normalize(critic(form))
    real_logits, fake_logits = network(images), network(others)
    loss = get_loss("hinge").discriminator(real_logits, fake_logits) + r1_penalty(1.0)(network, images)
    assert parameter_gradient(network, loss).isfinite().all()
    assert not HealthMonitor(get_loss("hinge")).update(real_logits, fake_logits, images, others)


def test_gamma_means_the_same_whatever_the_number_of_positions_and_heads(images):
    """A map of equal values gives what one value gives, equal heads too; a sum of P logits gives P^2 times that."""

    def of(output):
        torch.manual_seed(0)
        layer = nn.Linear(108, 1).double()
        return r1_penalty(1.0)(lambda x: output(layer(x.flatten(1)).tanh()), images)

    one = of(lambda u: u)
    for output in (lambda u: u[..., None, None].expand(-1, 1, 3, 3), lambda u: [u, u], lambda u: [u, [u, u]]):
        assert torch.allclose(of(output), one, rtol=1e-14)
    assert torch.allclose(of(lambda u: u[..., None].expand(-1, 1, 9).sum(2)), 81 * one, rtol=1e-14)


def test_the_hinge_of_two_heads_is_averaged_over_heads_or_summed():
    a = torch.linspace(-2, 2, 18, dtype=torch.float64).view(2, 1, 9)
    b = torch.linspace(1, -1.5, 8, dtype=torch.float64).view(2, 1, 4)
    for heads, expected in (("mean", 2.42489495798), ("sum", 4.84978991597)):
        loss = get_loss("hinge", heads=heads)
        assert loss.discriminator([a[:1], b[:1]], [a[1:], b[1:]]).item() == pytest.approx(expected, abs=1e-11)
        assert loss.config.get("heads", "mean") == heads
        assert loss.excess_over_zero([a, b], [a, b])["discriminator"].item() == pytest.approx(
            loss.discriminator([a, b], [a, b]).item() - loss.discriminator([a * 0, b * 0], [a * 0, b * 0]).item()
        )
    wide = torch.tensor([[[-3.0, 3.0]]])  # the hinge of the mean logit would be 2
    assert get_loss("hinge").discriminator(wide, wide).item() == pytest.approx(4)
    with pytest.raises(ValueError, match="heads is mean or sum"):
        get_loss("hinge", heads="both")


def test_a_relativistic_loss_pairs_positions_and_refuses_others():
    loss = get_loss("relativistic")
    with pytest.raises(ValueError, match="4x9 and 4x16 differ"):
        loss.discriminator(torch.zeros(4, 1, 3, 3), torch.zeros(4, 1, 4, 4))
    with pytest.raises(ValueError, match="pairs real with fake"):
        loss.discriminator([torch.zeros(4, 1)] * 2, torch.zeros(4, 1))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.zeros(4, 10), r"\(4, 10\).*nn.Unflatten\(1, \(1, -1\)\).*of classes the logit of the sample's own"),
        (torch.zeros(4, 5, 6, 6), r"\(4, 5, 6, 6\).*\(logits, \[features\]\)"),
        ([torch.zeros(4, 1), torch.zeros(4, 5, 6)], r"\(4, 5, 6\)"),
        (torch.zeros(()), "no logits for real or fake"),
        ([], "a list"),
        ({"real": 1}, "an? int|of real"),
        (None, "a NoneType"),
        (torch.zeros(0, 1), "batch is empty"),
        (torch.zeros(4, 1, 0), r"\(4, 1, 0\) holds no logits"),
        ([torch.zeros(4, 1), torch.zeros(4, 1, 0, 3)], r"\(4, 1, 0, 3\) holds no logits"),
        (torch.zeros(4, 1).long(), "floating-point"),
        (torch.zeros(4, 1, dtype=torch.complex64), "floating-point"),
        ((torch.zeros(4, 1), torch.ones(4, 1, 3, 3).bool()), "floating-point.*beside a mask or the like return"),
        ({"score": torch.zeros(4, 1), "features": [torch.zeros(4, 1, 3, 3)]}, "a dict of score, features.*'logits'"),
        ({"features": [torch.zeros(4, 1, 3, 3)]}, "a dict of features.*'logits'"),
        ((torch.zeros(4, 1), None), "a NoneType"),
        (torch.zeros(4, 1).to_sparse(), "logits are a dense tensor"),
        (torch.nested.as_nested_tensor([torch.zeros(1, n + 1) for n in range(4)]), "logits are a dense tensor"),
        ([torch.zeros(4, 1), torch.zeros(3, 1)], "those of 3 do not fit 4 samples"),
        (([torch.zeros(4, 1)], [torch.zeros(4, 1)]), "in two ways, as heads"),
        ((torch.zeros(4, 1), (torch.zeros(4, 5, 6), torch.zeros(4, 1))), "in two ways, as heads"),
        ([torch.zeros(4, 1), [torch.zeros(4, 5, 6), torch.zeros(4, 1)]], "in two ways, as heads"),
        (
            {"score": torch.zeros(4, 1), "fmap": [torch.zeros(4, 5, 6), torch.zeros(4, 1)]},
            "in two ways, as heads",
        ),
    ],
)
def test_what_is_ambiguous_or_no_logits_is_refused_in_one_line(output, words):
    with pytest.raises(ValueError, match=words) as refusal:
        heads_of(output)
    assert "\n" not in str(refusal.value) and "logits" in str(refusal.value)


TOKENS, LOGIT, MAP = torch.zeros(4, 16, 1), torch.zeros(4, 1), torch.zeros(4, 1, 3, 3)
IN_TWO_WAYS = {  # what has two readings, and the heads among it
    "pooled features first": ([TOKENS, LOGIT], [TOKENS, LOGIT]),
    "pooled features last": ((LOGIT, TOKENS), [LOGIT, TOKENS]),
    "pooled features by name": ({"score": LOGIT, "pooled": TOKENS}, [LOGIT, TOKENS]),
    "pooled features in a pair": ((LOGIT, [TOKENS]), [LOGIT, TOKENS]),
    "pooled features in a list": ([LOGIT, [TOKENS]], [LOGIT, TOKENS]),
    "several scales": ([[TOKENS, LOGIT], [TOKENS, MAP]], [TOKENS, LOGIT, TOKENS, MAP]),
    "a saliency map": ((LOGIT, [MAP]), [LOGIT, MAP]),
}


@pytest.mark.parametrize("form", IN_TWO_WAYS)
def test_what_has_two_readings_is_refused_until_it_is_marked_as_the_refusal_says(form):
    output, heads = IN_TWO_WAYS[form]
    for reader in (heads_of, features_of, lambda output: with_mean_logit(output, torch.zeros(4))):
        with pytest.raises(ValueError, match=r"two ways.*\{'logits': \[heads\]\}, or \{'logits': ..., 'features'"):
            reader(output)
    marked = {"logits": output}
    assert [head.shape for head in heads_of(marked)] == [head.flatten(1).shape for head in heads]
    assert features_of(marked) == [] and heads_of(with_mean_logit(marked, torch.ones(4)))[0].eq(1).all()
    features = {"logits": LOGIT, "features": output, "mask": MAP}
    assert len(heads_of(features)) == 1 and len(features_of(features)) == len(heads)


def test_parts_that_are_clear_by_themselves_may_stand_side_by_side():
    """Tokens beside maps, each with its features or called logits."""
    for beside in ((TOKENS, [torch.zeros(4, 5, 6)]), {"logits": TOKENS}, DiscriminatorOutput(logits=TOKENS)):
        assert len(heads_of([beside, MAP])) == 2
    assert len(heads_of([TOKENS, TOKENS[:, :5]])) == 2
    assert len(heads_of((LOGIT, []))) == 1  # a critic that was asked for no features


def test_an_output_of_another_batch_is_refused():
    with pytest.raises(ValueError, match="those of 8 do not fit 4 samples"):
        mean_logit(torch.zeros(8, 1, 3, 3), 4)


def test_a_relativistic_loss_has_the_slopes_of_every_pair_of_a_map():
    real, fake = torch.randn(4, 1, 3, 3), torch.randn(4, 1, 3, 3)
    loss = get_loss("relativistic")
    flat = loss.slopes(real.flatten(), fake.flatten())
    for name, slopes in loss.slopes(real, fake).items():
        assert torch.equal(slopes, flat[name])


# ---- feature matching

REAL = [torch.linspace(0, 5 / 3, 6, dtype=torch.float64).view(1, 6), torch.arange(4.0).double().view(1, 4)]
FAKE = [torch.ones(1, 6, dtype=torch.float64), torch.tensor([[0.0, 2.0, 2.0, 5.0]], dtype=torch.float64)]


@pytest.mark.parametrize(("weight", "reduction", "expected"), [(1, "sum", 1.25), (1, "mean", 0.625), (2, "sum", 2.5)])
def test_feature_matching_is_the_mean_difference_of_each_layer(weight, reduction, expected):
    term, logit = FeatureMatching(weight, reduction), torch.zeros(1, 1)
    for real, fake in (
        ((logit, REAL), (logit, FAKE)),
        ({"logits": logit, "features": REAL}, {"logits": logit, "features": FAKE}),
        ([(logit, REAL[:1]), (logit, REAL[1:])], [(logit, FAKE[:1]), (logit, FAKE[1:])]),
    ):
        assert len(features_of(real)) == 2
        assert term.generator_term(fake, real_logits=real).item() == pytest.approx(expected)
    assert term(None, None, None) is None  # nothing for the discriminator


def test_feature_matching_without_pairs_compares_means_of_batches():
    real, fake = torch.rand(6, 3, 4, 4), torch.rand(4, 3, 4, 4)
    found = FeatureMatching(1.0, paired=False).generator_term((fake[:, :1], [fake]), real_logits=(real[:, :1], [real]))
    assert torch.allclose(found, (fake.mean(0) - real.mean(0)).abs().mean())
    with pytest.raises(ValueError, match="equal shapes"):
        FeatureMatching(1.0).generator_term((fake[:, :1], [fake]), real_logits=(real[:, :1], [real]))
    with pytest.raises(ValueError, match="features beside its logits"):
        FeatureMatching(1.0).generator_term(fake[:, :1], real_logits=real[:, :1])
    with pytest.raises(ValueError, match="reduction"):
        FeatureMatching(1.0, "max")


@pytest.mark.parametrize("paired", [True, False])
def test_paired_matching_is_linear_in_the_batch_and_that_of_means_is_not(paired):
    real, fake = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def term(part):
        logits = torch.zeros(len(real[part]), 1)
        return FeatureMatching(1.0, paired=paired).generator_term(
            (logits, [fake[part]]), real_logits=(logits, [real[part]])
        )

    micro_batches, whole = (term(slice(4)) + term(slice(4, 8))) / 2, term(slice(8))
    assert torch.allclose(micro_batches, whole) if paired else micro_batches > 1.1 * whole


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([torch.zeros(4, 5, 6).long()], "features are floating-point numbers, not torch.int64"),
        ([torch.zeros(4, 5), torch.zeros(4, 5, 6).bool()], "features are floating-point numbers, not torch.bool"),
        ([torch.zeros(4, 5, 0)], r"\(4, 5, 0\) hold nothing to compare"),
        ([], "features beside its logits"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(features, words, paired):
    output = {"logits": torch.zeros(4, 1), "features": features}
    with pytest.raises(ValueError, match=words):
        FeatureMatching(paired=paired).generator_term(output, real_logits=output)


def test_feature_matching_says_what_it_needs_of_the_real_side():
    output = (torch.zeros(4, 1), [torch.zeros(4, 5)])
    with pytest.raises(ValueError, match="needs real_logits"):
        FeatureMatching().generator_term(output)
    with pytest.raises(ValueError, match="equal shapes"):
        FeatureMatching().generator_term(output, real_logits=torch.zeros(4, 1))


def test_half_and_complex_features_are_compared():
    for kind, expected in ((torch.bfloat16, 3.0), (torch.complex64, 3 * 2**0.5)):
        fake = torch.ones(4, 5, dtype=kind) * (3 + 3j if kind.is_complex else 3)
        outputs = ({"logits": torch.zeros(4, 1), "features": part} for part in (fake, fake * 0))
        found = FeatureMatching(1.0).generator_term(next(outputs), real_logits=next(outputs))
        assert found.item() == pytest.approx(expected)


def test_no_gradient_of_feature_matching_reaches_the_real_side():
    real, fake = torch.rand(4, 3, 4, 4, requires_grad=True), torch.rand(4, 3, 4, 4, requires_grad=True)
    FeatureMatching().generator_term((fake[:, :1], [fake]), real_logits=(real[:, :1], [real])).backward()
    assert real.grad is None and fake.grad is not None


class Named(NamedTuple):
    logits: torch.Tensor
    features: list


@pytest.mark.parametrize("kind", [Named, SimpleNamespace, dict, OrderedDict, UserDict, DiscriminatorOutput])
def test_other_logits_take_the_place_of_the_old_in_every_kind_of_output(kind):
    fields = {"logits": torch.zeros(4, 1, 3, 3)} | ({} if kind is DiscriminatorOutput else {"features": []})
    changed = with_mean_logit(kind(**fields), torch.arange(4.0))
    assert type(changed) is kind and mean_logit(changed).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("form", FORMS)
def test_a_normalized_critic_returns_one_logit_and_all_features_beside(form, images, others):
    output, normalized = critic(form)(images), GradientNormalized(critic(form))(images)
    assert len(heads_of(normalized, 4)) == 1 and heads_of(normalized)[0].shape == (4, 1)
    features = features_of(output)
    assert all(map(torch.equal, features_of(normalized), features)) and len(features_of(normalized)) == len(features)
    if features:
        normalized = GradientNormalized(critic(form))(others)
        found = FeatureMatching(1.0).generator_term(normalized, real_logits=output)
        assert torch.equal(found, FeatureMatching(1.0).generator_term(critic(form)(others), real_logits=output))


@pytest.mark.parametrize("kinds", [("float16", "float64"), ("bfloat16", "float32", "float64"), ("float8_e4m3fn",) * 2])
def test_heads_of_several_types_are_averaged_in_the_widest(kinds):
    heads = [torch.full((4, 1), 1.5).to(getattr(torch, kind)) for kind in kinds]
    assert mean_logit(heads).eq(1.5).all() and get_loss("wasserstein").generator(heads).item() == -1.5


def test_what_cannot_be_copied_with_other_logits_is_refused_in_words():
    class Fixed:
        logits = property(lambda self: torch.zeros(4, 1))

    class Strange(dict):  # whose attributes are its items
        __getattr__ = dict.__getitem__

    assert mean_logit(with_mean_logit(Strange(logits=torch.zeros(4, 1)), torch.ones(4))).eq(1).all()
    for output in (Fixed(), MappingProxyType({"logits": torch.zeros(4, 1)})):
        assert len(heads_of(output)) == 1
        with pytest.raises(ValueError, match=r"no copy of a .* with other logits can be made: return \{'logits'"):
            with_mean_logit(output, torch.zeros(4))


def test_an_auxiliary_classifier_may_stand_beside_a_map():
    output = DiscriminatorOutput(logits=torch.zeros(4, 1, 3, 3), class_logits=torch.zeros(4, 10))
    assert mean_logit(output).shape == (4,)
    term = AuxiliaryClassification()(None, real_logits=output, class_labels=torch.zeros(4).long())
    assert term.item() == pytest.approx(2.302585, abs=1e-5)
