from copy import deepcopy

import pytest
import torch
from accelerate import Accelerator
from goldens import ddgan_networks, load, needs_goldens, weights
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import (
    DDGANScheduler,
    EpsCenteredGradientPenalty,
    GradientPenalty,
    get_loss,
    r1_penalty,
)
from licfg_hf.objective.critic import frozen
from licfg_hf.training import DDGANTask, LazyPenalty
from licfg_hf.training.step import discriminator_terms, generator_terms, optimize
from licfg_hf.training.tasks import MicroBatch

LOSS = get_loss("non_saturating")


def gradient_norm(network: torch.nn.Module) -> float:
    return torch.stack([p.grad.double().norm() for p in network.parameters() if p.grad is not None]).norm().item()


def task() -> DDGANTask:
    return DDGANTask(DDGANScheduler(), latent_dim=6)


def draw(rng: torch.Generator, batch: int = 8) -> MicroBatch:
    return task().draw(torch.rand(batch, 1, 8, 8, generator=rng) * 2 - 1, None, rng)


@needs_goldens
def test_one_training_iteration_golden():
    description, tensors = load("ddgan_small32_trainstep")
    generator_description, _ = load("ddgan_small32_G")
    generator = ddgan_networks(
        weights(generator_description["keys"]), generator_description["config"]
    ).generator.train()
    discriminator = ddgan_networks(weights(description["discriminator_keys"])).discriminator.train()
    game = DDGANTask(DDGANScheduler(), latent_dim=100)
    t = tensors["in.t"]
    pair = game.scheduler.sample_pair(
        tensors["in.x0"], t, noise=tensors["in.noise_t"], next_noise=tensors["in.noise_t1"]
    )
    torch.testing.assert_close(pair, (tensors["out.x_t"], tensors["out.x_t1"]), rtol=1e-4, atol=1e-5)
    noise = {"latents": tensors["in.z"], "posterior": tensors["in.posterior_noise"]}
    prepared = MicroBatch(pair[0], {"timestep": t, "next_sample": pair[1]}, noise)
    torch.testing.assert_close(game.generate(generator, prepared), tensors["out.fake"], rtol=1e-4, atol=1e-5)

    def terms(*penalties):
        discriminator.zero_grad()
        return discriminator_terms(
            generator, discriminator, game, LOSS, [LazyPenalty(p) for p in penalties], prepared, torch.Generator()
        )

    with_r1 = terms(r1_penalty(description["r1_gamma"]))
    expected = description["d_loss_real"] + description["d_loss_fake"]
    assert with_r1["discriminator_loss"].item() == pytest.approx(expected, rel=1e-4)
    assert with_r1["penalty"].item() == pytest.approx(description["r1_penalty"], rel=1e-4)
    sum(with_r1.values()).backward()
    assert gradient_norm(discriminator) == pytest.approx(description["grad_norm_D_total"], rel=1e-4)

    discriminator.zero_grad()
    eps = EpsCenteredGradientPenalty(1.0, scale=0.1)(
        discriminator, pair[0], tensors["out.fake"], interpolation=tensors["in.alpha"], **prepared.conditioning
    )
    eps.backward()
    assert eps.item() == pytest.approx(description["eps_centered_penalty"], rel=1e-4)
    assert gradient_norm(discriminator) == pytest.approx(description["grad_norm_D_eps_centered_alone"], rel=1e-4)

    generator.zero_grad()
    g_terms = generator_terms(generator, discriminator, game, LOSS, prepared)
    sum(g_terms.values()).backward()
    assert g_terms["generator_loss"].item() == pytest.approx(description["g_loss"], rel=1e-4)
    assert gradient_norm(generator) == pytest.approx(description["grad_norm_G"], rel=1e-4)


def test_the_discriminator_step_leaves_the_generator_alone(rng):
    generator, discriminator = tiny_generator(), tiny_discriminator()
    terms = discriminator_terms(generator, discriminator, task(), LOSS, [], draw(rng), rng)
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert gradient_norm(discriminator) > 0


def test_the_generator_step_leaves_the_discriminator_alone(rng):
    generator, discriminator = tiny_generator(), tiny_discriminator()
    with frozen(discriminator):
        sum(generator_terms(generator, discriminator, task(), LOSS, draw(rng)).values()).backward()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in discriminator.parameters())
    assert gradient_norm(generator) > 0


def test_real_batch_requires_grad_only_for_penalties_that_share_it(rng):
    seen = []
    discriminator = tiny_discriminator()
    discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].requires_grad))
    for penalty, expected in ((r1_penalty(1.0), [True, False]), (GradientPenalty(1.0), [False, False, True])):
        seen.clear()
        discriminator_terms(tiny_generator(), discriminator, task(), LOSS, [LazyPenalty(penalty)], draw(rng), rng)
        assert seen == expected


def test_lazy_penalty_is_due_at_its_interval_and_multiplied_only_on_demand():
    plain = LazyPenalty(lambda: torch.tensor(2.0), interval=3)
    assert [plain.due(update) for update in range(5)] == [True, False, False, True, False]
    assert plain().item() == 2
    assert LazyPenalty(lambda: torch.tensor(2.0), interval=3, multiply_by_interval=True)().item() == 6
    with pytest.raises(ValueError, match="interval"):
        LazyPenalty(lambda: None, interval=0)


def test_micro_batches_give_the_gradient_of_the_undivided_batch(rng):
    """On a critic without batch statistics; float64, so that only the order of sums differs."""
    critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    critic.double()
    real, fake, a = (torch.randn(8, 1, 8, 8, generator=rng, dtype=torch.float64) for _ in range(3))
    a = a[:, :, :1, :1].sigmoid()
    penalty = EpsCenteredGradientPenalty(0.5)

    def terms(real, fake, a):
        value = penalty(critic, real, fake, interpolation=a)
        return {"loss": LOSS.discriminator(critic(real), critic(fake)), "penalty": value}

    gradients = []
    for parts in (1, 4):
        network = critic
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        batches = list(zip(real.chunk(parts), fake.chunk(parts), a.chunk(parts), strict=True))
        optimize(Accelerator(cpu=True), network, optimizer, terms, batches)
        gradients.append([deepcopy(parameter.grad) for parameter in network.parameters()])
    torch.testing.assert_close(*gradients)
