"""Pipelines and diagnostics give the CPU's numbers on a strict device without float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerator
import gans
import numpy as np
import pytest
import torch
from PIL import Image
from players import PLAYERS

from licfg_hf import DDGANPipeline, DDGANScheduler, GANPipeline, get_loss
from licfg_hf.cli import main
from licfg_hf.diagnostics import (
    HealthMonitor,
    critic_statistics,
    gradient_norms,
    latent_neighbourhood_size,
    lipschitz_lower_bound,
    loss_domain,
    memorization_gap,
)
from licfg_hf.machine import best_device

CALLS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda rng: {},
    "a generator": lambda rng: {"generator": rng(0)},
    "a generator per image": lambda rng: {"generator": [rng(index) for index in range(3)]},
    "in chunks": lambda rng: {"generator": rng(0), "chunk_size": 2},
}


def pipeline_of(kind: str) -> GANPipeline | DDGANPipeline:
    generator = PLAYERS[kind]().generator
    if kind == "ddgan":
        pipeline = DDGANPipeline(unet=generator, scheduler=DDGANScheduler())
    else:
        pipeline = GANPipeline(model=generator)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def on_both(device: torch.device, compute: Callable[[torch.device], Any]) -> None:
    """The same on the device, which has no float64, and on the CPU."""
    wanted = compute(torch.device("cpu"))
    with accelerator.like_mps():
        found = compute(device)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", PLAYERS)
def test_a_pipeline_draws_the_pictures_of_the_cpu(device, kind, call):
    def draw(where: torch.device) -> torch.Tensor:
        pipeline, further = pipeline_of(kind).to(where), {} if kind == "ddgan" else {"truncation": 0.7}
        torch.manual_seed(0)  # of all devices
        options = CALLS[call](lambda seed: torch.Generator(where).manual_seed(seed))
        return torch.from_numpy(pipeline(batch_size=3, output_type="np", **options, **further)[0])

    on_both(device, draw)


@pytest.mark.parametrize("kind", ("sngan", "biggan", "biggan_deep"))
def test_interpolations_and_sweeps_run(device, kind):
    with accelerator.like_mps():
        pipeline = pipeline_of(kind).to(device)
        assert pipeline.interpolate(rows=2, steps=3).size
        if pipeline.num_classes:
            assert pipeline(class_labels=[1, 2], batch_size=4, output_type="pt")[0].shape == (4, 1, 8, 8)


@pytest.mark.parametrize("kind", ("sngan", "ddgan"))
def test_sampling_waits_for_its_pictures_alone(device, kind):
    """Drawing twice as many chunks waits no more often."""
    found = []
    for chunk_size in (4, 2):
        pipeline = pipeline_of(kind).to(device)
        with accelerator.Waits() as waits:
            pipeline(batch_size=4, output_type="pt", chunk_size=chunk_size, generator=torch.Generator(device))
        found.append(waits.found)
    assert found[1].total() <= found[0].total(), found[1] - found[0]


DIAGNOSTICS = {
    "loss_domain": lambda critic, real, fake, rng: loss_domain(get_loss("hinge", 0.5), critic(real), critic(fake)),
    "gradient_norms": lambda critic, real, fake, rng: gradient_norms(critic, real).cpu(),
    "critic_statistics": lambda critic, real, fake, rng: critic_statistics(critic, real, fake, rng),
    "lipschitz_lower_bound": lambda critic, real, fake, rng: lipschitz_lower_bound(critic, real, steps=3, rng=rng),
    "memorization_gap": lambda critic, real, fake, rng: memorization_gap(critic, real, fake),
    "health": lambda critic, real, fake, rng: HealthMonitor(get_loss("hinge")).update(critic(real), critic(fake)),
}


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_a_diagnostic_is_that_of_the_cpu(device, name):
    def measure(where: torch.device) -> Any:
        critic = PLAYERS["sngan"]().discriminator.to(where)
        real = gans.batch(6)[0].to(where)
        found = DIAGNOSTICS[name](critic, real, -real, torch.Generator(where).manual_seed(0))
        return vars(found) if name == "loss_domain" else found

    on_both(device, measure)


def test_the_neighbourhood_of_a_latent_is_that_of_the_cpu(device):
    def measure(where: torch.device) -> torch.Tensor:
        generator = PLAYERS["sngan"]().generator.to(where).eval()
        latents = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).to(where)
        return latent_neighbourhood_size(generator, latents, rng=torch.Generator(where).manual_seed(0)).cpu()

    on_both(device, measure)


def test_the_command_draws_on_the_device(device, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    assert best_device() == torch.device(device.type) or best_device() == device
    model = Path(__file__).parents[3] / "model_cards" / "sngan_mnist16"
    for where in (device, None):
        if where is None:
            monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
        with accelerator.like_mps(), accelerator.Waits() as waits:
            main(["sample", str(model), "--count", "4", "--output", str(tmp_path / f"{where}.png")])
        assert bool(waits.found) == (where is not None)  # the pictures come to the host
    one, other = (np.asarray(Image.open(tmp_path / f"{where}.png")).astype(int) for where in (device, None))
    assert abs(one - other).max() <= 1
