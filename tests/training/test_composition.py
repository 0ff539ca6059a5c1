"""Every loss, penalty, normalizer and head in one training step, by the same code."""

import itertools

import pytest
import torch
from accelerate import Accelerator
from gans import CLASSES, DISCRIMINATORS, GENERATORS, HEADS, NORMALIZERS, batch

from licfg_hf import (
    AdversarialLipschitzPenalty,
    AuxiliaryClassification,
    BalancedConsistencyRegularization,
    ConsistencyRegularization,
    EpsCenteredGradientPenalty,
    GradientPenalty,
    MaxGradientPenalty,
    dragan,
    get_loss,
    r1_penalty,
    r2_penalty,
    wgan_gp,
)
from licfg_hf.objective.critic import frozen
from licfg_hf.objective.losses import LOSS_NAMES
from licfg_hf.training import FunctionalGradientStep, GANTask, LazyPenalty, TrainingConfig
from licfg_hf.training.context import StepContext
from licfg_hf.training.step import discriminator_terms, generator_terms, optimize

PENALTIES = {
    "none": [],
    "eps_centered": [EpsCenteredGradientPenalty(0.1)],
    "zero_centered": [GradientPenalty(0.1)],
    "one_sided": [GradientPenalty(0.1, center=1.0, one_sided=True)],
    "wgan_gp": [wgan_gp(0.1)],
    "max": [MaxGradientPenalty(0.1)],
    "dragan": [dragan(0.1)],
    "r1_and_r2": [r1_penalty(0.1), r2_penalty(0.1)],
    "adversarial": [AdversarialLipschitzPenalty(0.1)],
    "consistency": [ConsistencyRegularization(0.1)],
    "balanced_consistency": [BalancedConsistencyRegularization(0.1)],
}
TASK = GANTask(latent_dim=6, num_classes=CLASSES)


class AsTheyAre(StepContext):
    """Its batches are in [-1, 1] already."""

    def micro_batches(self, batch, rng, size=None):
        return [batch]


def terms_beside(penalty: str, head: str) -> list[LazyPenalty]:
    terms = [LazyPenalty(one, name=f"{penalty}_{index}") for index, one in enumerate(PENALTIES[penalty])]
    if head == "auxiliary":
        terms.append(LazyPenalty(AuxiliaryClassification(0.1), name="classification"))
    return terms


def one_step(loss: str, penalty: str, discriminator, generator, beside: list[LazyPenalty]) -> dict[str, torch.Tensor]:
    """A discriminator's and a generator's update, as the trainer makes them."""
    adversarial, rng = get_loss(loss), torch.Generator().manual_seed(0)
    images, labels = batch()
    optimizers = [torch.optim.SGD(network.parameters(), lr=1e-3) for network in (discriminator, generator)]
    accelerator = Accelerator(cpu=True)

    def of_discriminator(images, labels):
        draw = TASK.draw(images, labels, rng)
        return discriminator_terms(generator, discriminator, TASK, adversarial, beside, draw, rng)

    def of_generator(images, labels):
        draw = TASK.draw(images, labels, rng)
        return generator_terms(generator, discriminator, TASK, adversarial, draw, beside)

    terms = optimize(accelerator, discriminator, optimizers[0], of_discriminator, [(images, labels)])
    moved = [parameter.grad for parameter in discriminator.parameters() if parameter.grad is not None]
    assert any(gradient.abs().sum() > 0 for gradient in moved), (loss, penalty)
    with frozen(discriminator):
        terms |= optimize(accelerator, generator, optimizers[1], of_generator, [(images, labels)])
    assert any(parameter.grad.abs().sum() > 0 for parameter in generator.parameters() if parameter.grad is not None)
    return terms


def _but_one_slow(names):
    first, *others = names
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in others)]


@pytest.mark.parametrize("normalizer", _but_one_slow(NORMALIZERS))
@pytest.mark.parametrize("head", _but_one_slow(HEADS))
def test_every_loss_with_every_penalty(head, normalizer):
    for loss, penalty in itertools.product(LOSS_NAMES, PENALTIES):
        torch.manual_seed(0)
        discriminator = DISCRIMINATORS["sngan_resnet"](**HEADS[head], normalizers=NORMALIZERS[normalizer])
        beside = terms_beside(penalty, head)
        terms = one_step(loss, penalty, discriminator, GENERATORS["sngan_conditional"](), beside)
        assert {term.name for term in beside} <= terms.keys()
        assert ("generator_classification" in terms) == (head == "auxiliary")
        assert all(torch.isfinite(value) for value in terms.values()), (loss, penalty, terms)
        assert all(torch.isfinite(parameter).all() for parameter in discriminator.parameters()), (loss, penalty)


@pytest.mark.parametrize("network", [name for name in DISCRIMINATORS if name != "sngan_resnet"])
@pytest.mark.parametrize("generator", ["biggan_hierarchical", "biggan_deep", "dcgan_conditional"])
def test_every_network(network, generator):
    torch.manual_seed(0)
    discriminator = DISCRIMINATORS[network](**HEADS["projection"], normalizers=NORMALIZERS["spectral"])
    terms = one_step("hinge", "eps_centered", discriminator, GENERATORS[generator](), terms_beside("eps_centered", ""))
    assert all(torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize("penalty", [name for name in PENALTIES if name != "none"])
def test_a_penalty_adds_its_term_to_the_loss_and_nothing_else(penalty):
    """In float64: the gradients with it less those without are those of the term alone."""
    gradients, values = {}, {}
    for arm in ("none", penalty):
        torch.manual_seed(0)
        discriminator = DISCRIMINATORS["sngan_cnn"](**HEADS["projection"]).double()
        generator = GENERATORS["sngan_conditional"]().double()
        rng = torch.Generator().manual_seed(0)
        images, labels = batch()
        draw = TASK.draw(images.double(), labels, rng)
        draw.noise["latents"] = draw.noise["latents"].double()
        beside = terms_beside(arm, "projection")
        terms = discriminator_terms(generator, discriminator, TASK, get_loss("hinge"), beside, draw, rng)
        added = [value for name, value in terms.items() if name.startswith(penalty)]
        weights = list(discriminator.parameters())
        own = torch.autograd.grad(sum(added), weights, retain_graph=True, allow_unused=True) if added else None
        total = sum(value for value in terms.values() if value.requires_grad)
        gradients[arm] = torch.autograd.grad(total, weights), own
        values[arm] = terms
    for name in ("discriminator_loss", "logit_min", "logit_max"):
        torch.testing.assert_close(values[penalty][name], values["none"][name], rtol=1e-12, atol=1e-12)
    for with_it, without, alone in zip(
        gradients[penalty][0], gradients["none"][0], gradients[penalty][1], strict=True
    ):
        alone = torch.zeros_like(with_it) if alone is None else alone
        torch.testing.assert_close(with_it - without, alone, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_the_functional_gradient_takes_every_loss_penalty_and_head(head):
    """The plain step: one regression on samples that follow the discriminator's gradient."""
    step, accelerator, (images, labels) = FunctionalGradientStep(0.5, "logd"), Accelerator(cpu=True), batch()
    for loss, penalty in itertools.product(LOSS_NAMES, PENALTIES):
        torch.manual_seed(0)
        discriminator = DISCRIMINATORS["sngan_resnet"](**HEADS[head], normalizers=NORMALIZERS["spectral"])
        generator, beside = GENERATORS["sngan_conditional"](), terms_beside(penalty, head)
        one_step(loss, penalty, discriminator, generator, beside)
        optimizer = torch.optim.SGD(generator.parameters(), lr=1e-3)
        networks = (generator, discriminator, generator, discriminator, discriminator, discriminator)
        functions = (optimizer, optimizer, discriminator_terms, generator_terms)
        context = AsTheyAre(accelerator, TrainingConfig(), TASK, get_loss(loss), beside, *networks, *functions)
        terms = step.after_updates(context, (images, labels), torch.Generator().manual_seed(0))
        assert all(torch.isfinite(value) for value in terms.values()), (loss, penalty)
        assert ("generator_classification" in terms) == (head == "auxiliary")
        assert sum(p.grad.abs().sum() for p in generator.parameters() if p.grad is not None) > 0, (loss, penalty)
