"""The estimate of a step's time: it is the run's own step, on some images, and no failure of it ends the run."""

import pytest
import torch
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANScheduler, Trainer, get_loss
from licfg_hf.training import DDGANTask, TrainingConfig, announce

IMAGES = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)


class Recording(DDGANTask):
    """Keeps how many images each call had."""

    def draw(self, images, labels, rng):
        self.counts = [*getattr(self, "counts", []), len(images)]
        return super().draw(images, labels, rng)


def prepared(folder, **settings) -> Trainer:
    """A trainer whose networks are those of its steps."""
    generator = tiny_generator()
    task = Recording(DDGANScheduler(num_train_timesteps=4), latent_dim=generator.config["latent_dim"])
    config = TrainingConfig(
        **{"output_dir": str(folder), "max_steps": 2, "sample_count": 4, "sample_every": None} | settings
    )
    trainer = Trainer(config, generator, tiny_discriminator(), IMAGES, task, get_loss("non_saturating"))
    trainer.prepare()
    task.counts = []
    return trainer


@pytest.mark.parametrize(
    ("enough", "batch", "accumulation", "counts"),
    [
        (float("inf"), 64, 1, {4, 16, 64}),  # never slow enough: up to the whole batch
        (float("inf"), 24, 2, {4, 12}),  # and no further than a micro-batch
        (0.0, 64, 1, {4}),
        (0.0, 2, 1, {2}),
    ],
)
def test_an_update_is_timed_on_more_images_while_it_is_quick(
    enough, batch, accumulation, counts, monkeypatch, tmp_path
):
    monkeypatch.setattr(announce, "_ENOUGH_SECONDS", enough)
    trainer = prepared(tmp_path, batch_size=batch, gradient_accumulation_steps=accumulation)
    seconds = announce.seconds_per_step(trainer.context, (1, 8, 8), (0.0, batch))
    assert set(trainer.task.counts) == counts and seconds > 0


@pytest.mark.parametrize("precision", ("no", "bf16"))
def test_the_layers_are_timed_as_they_run(precision, tmp_path):
    trainer = prepared(tmp_path, batch_size=4, mixed_precision=precision)
    seen = set()

    def look(module, args, output):
        kinds = [(value.shape, value.dtype, value.stride()) for value in (*args, module.weight, output)]
        seen.add((id(module), *kinds))

    for network in (trainer.generator, trainer.discriminator):
        for layer in network.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                layer.register_forward_hook(look)
    announce.announce_long_run(trainer)
    timed = seen.copy()
    seen.clear()
    trainer.take_step(next(iter(trainer.loader.steps(0, 1))))
    assert timed == seen and len(timed) > 20


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "memory ran out at step 0, with 8 images at a time: raise gradient_accumulation_steps (now 1), set "
            "mixed_precision to bf16, set gradient_checkpointing to true, or lower batch_size (now 8)",
        ),
        (torch.AcceleratorError("CUDA error: unknown"), "AcceleratorError: CUDA error: unknown"),
        (OverflowError("too large"), "OverflowError: too large"),
    ],
)
def test_no_failure_of_the_estimate_ends_a_run(error, words, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(announce, "discriminator_terms", fail)
    assert prepared(tmp_path, batch_size=8).train() == tmp_path
    said = capsys.readouterr().out
    assert f"NOTE: the time that this run will take could not be estimated: {words}\n" in said
