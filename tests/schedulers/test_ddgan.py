import pytest
import torch
from diffusers import DDPMScheduler
from goldens import TOLERANCE, load, needs_goldens

from licfg_hf import DDGANScheduler

PUBLISHED_BETAS = {2: [0.921324, 0.999451], 4: [0.478255, 0.849206, 0.956418, 0.987404]}


def stock(scheduler: DDGANScheduler) -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=len(scheduler),
        trained_betas=scheduler.betas.numpy(),
        prediction_type="sample",
        clip_sample=False,
        variance_type="fixed_small",
    )


@pytest.mark.parametrize("steps", [2, 4])
def test_betas_are_the_published_ones(steps):
    betas = DDGANScheduler(num_train_timesteps=steps).betas
    torch.testing.assert_close(betas, torch.tensor(PUBLISHED_BETAS[steps]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDGANScheduler(),
        DDGANScheduler(num_train_timesteps=8),
        DDGANScheduler(num_train_timesteps=3, beta_max=10.0),
        DDGANScheduler(beta_min=0.01, beta_max=0.99, schedule="geometric"),
    ],
    ids=["T4", "T8", "T3", "geometric"],
)
def test_samples_like_the_stock_scheduler(scheduler, rng):
    theirs = stock(scheduler)
    theirs.set_timesteps(len(scheduler))
    assert theirs.timesteps.tolist() == scheduler.timesteps.tolist()
    sample, x0 = (torch.randn(4, 3, 8, 8, generator=rng) for _ in range(2))
    for t in range(len(scheduler)):
        ours = scheduler.step(x0, t, sample, generator=torch.Generator().manual_seed(t))
        expected = theirs.step(x0, t, sample, generator=torch.Generator().manual_seed(t))
        torch.testing.assert_close(ours.prev_sample, expected.prev_sample, rtol=2e-6, atol=2e-6)
        noise = torch.randn(4, 3, 8, 8, generator=rng)
        times = torch.full((4,), t)
        torch.testing.assert_close(scheduler.add_noise(x0, noise, times), theirs.add_noise(x0, noise, times))


def test_batched_step_is_the_scalar_step_of_each_sample(rng):
    scheduler = DDGANScheduler()
    sample, x0, noise = (torch.randn(4, 1, 8, 8, generator=rng) for _ in range(3))
    together = scheduler.step(x0, torch.arange(4), sample, variance_noise=noise).prev_sample
    for t in range(4):
        alone = scheduler.step(x0[t : t + 1], t, sample[t : t + 1], variance_noise=noise[t : t + 1]).prev_sample
        torch.testing.assert_close(together[t : t + 1], alone)
    torch.testing.assert_close(together[0], x0[0])  # the last step returns the prediction, without noise


def test_pairs_have_the_moments_of_the_forward_process():
    scheduler = DDGANScheduler()
    x0 = torch.full((200_000, 1), 0.5)
    for t in range(4):
        sample, following = scheduler.sample_pair(x0, t, generator=torch.Generator().manual_seed(t))
        kept = scheduler.alphas_cumprod[t - 1] if t else torch.tensor(1.0)
        for values, abar in ((sample, kept), (following, scheduler.alphas_cumprod[t])):
            assert values.mean().item() == pytest.approx(0.5 * abar.sqrt().item(), abs=0.01)
            assert values.var().item() == pytest.approx(1 - abar.item(), abs=0.01)
        joint = torch.stack([sample.flatten(), following.flatten()]).cov()[0, 1]
        assert joint.item() == pytest.approx((scheduler.alphas[t].sqrt() * (1 - kept)).item(), abs=0.01)
    assert torch.equal(scheduler.sample_pair(x0[:5], 0)[0], x0[:5])


def test_given_noises_are_used_and_the_generator_decides_the_rest(rng):
    scheduler, x0, t = DDGANScheduler(), torch.randn(4, 1, 4, 4, generator=rng), torch.arange(4)
    pairs = [scheduler.sample_pair(x0, t, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(pairs[0][1], pairs[1][1]) and not torch.equal(pairs[0][1], pairs[2][1])
    zero = torch.zeros_like(x0)
    sample, following = scheduler.sample_pair(x0, 2, noise=zero, next_noise=zero)
    torch.testing.assert_close(following, scheduler.alphas_cumprod[2].sqrt() * x0)
    torch.testing.assert_close(sample, scheduler.alphas_cumprod[1].sqrt() * x0)


def test_round_trip_and_refusals(tmp_path):
    DDGANScheduler(num_train_timesteps=3, beta_max=12.0).save_pretrained(tmp_path)
    loaded = DDGANScheduler.from_pretrained(tmp_path)
    assert len(loaded) == 3 and loaded.config.beta_max == 12.0
    torch.testing.assert_close(loaded.betas, DDGANScheduler(num_train_timesteps=3, beta_max=12.0).betas)
    for arguments in (
        {"num_train_timesteps": 0},
        {"beta_min": 30.0},
        {"schedule": "linear"},
        {"schedule": "geometric"},
    ):
        with pytest.raises(ValueError):
            DDGANScheduler(**arguments)
    with pytest.raises(ValueError, match="4 steps"):
        DDGANScheduler().set_timesteps(10)


@needs_goldens
def test_posterior_coefficients_are_those_of_the_reference():
    _, tensors = load("ddgan_small32_sampling")
    one, zero = torch.ones(4, 1), torch.zeros(4, 1)
    scheduler, t = DDGANScheduler(), torch.arange(4)
    weights = {
        "coef1": scheduler.step(one, t, zero, variance_noise=zero).prev_sample[:, 0],
        "coef2": scheduler.step(zero, t, one, variance_noise=zero).prev_sample[:, 0],
        "variance": scheduler.step(zero, t, zero, variance_noise=one).prev_sample[:, 0].square(),
    }
    for name, values in weights.items():
        torch.testing.assert_close(values, tensors[f"out.{name}"], **TOLERANCE)
