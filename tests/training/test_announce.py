"""The estimate of a step's time: on how many images it is timed."""

import pytest
import torch
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANScheduler, get_loss
from licfg_hf.training import DDGANTask, TrainingConfig, announce


class Recording(DDGANTask):
    """Keeps how many images each call had."""

    def draw(self, images, labels, rng):
        self.counts = [*getattr(self, "counts", []), len(images)]
        return super().draw(images, labels, rng)


@pytest.mark.parametrize(
    ("enough", "batch", "accumulation", "counts"),
    [
        (float("inf"), 64, 1, {4, 16, 64}),  # never slow enough: up to the whole batch
        (float("inf"), 24, 2, {4, 12}),  # and no further than a micro-batch
        (0.0, 64, 1, {4}),
        (0.0, 2, 1, {2}),
    ],
)
def test_an_update_is_timed_on_more_images_while_it_is_quick(enough, batch, accumulation, counts, monkeypatch):
    monkeypatch.setattr(announce, "_ENOUGH_SECONDS", enough)
    generator = tiny_generator()
    task = Recording(DDGANScheduler(num_train_timesteps=4), latent_dim=generator.config["latent_dim"])
    config = TrainingConfig(
        output_dir="unused", max_steps=1, batch_size=batch, gradient_accumulation_steps=accumulation
    )
    seconds = announce.seconds_per_step(
        generator,
        tiny_discriminator(),
        task,
        get_loss("non_saturating"),
        [],
        (1, 8, 8),
        config,
        (0.0, batch),
        1,
        torch.device("cpu"),
    )
    assert set(task.counts) == counts and seconds > 0
