"""Between two logs the host never waits for the device, so that it can prepare the next steps meanwhile."""

import accelerator
import gans
import pytest
import torch
from players import PLAYERS

from licfg_hf import (
    BalancedConsistencyRegularization,
    ConsistencyRegularization,
    DifferentiableAugmentation,
    EpsCenteredGradientPenalty,
    LatentConsistencyRegularization,
    LazyPenalty,
    MaxGradientPenalty,
    Trainer,
    TrainingConfig,
    get_loss,
    r1_penalty,
    wgan_gp,
)
from licfg_hf.training import FunctionalGradientStep


def waits_of(steps: int, folder, kind: str, terms=(), loss="hinge", alpha=1.0, generator_step=None, **settings):
    """What a whole training waits for that reads its log at the end only."""
    players = PLAYERS[kind]()
    pixels = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seldom = {"log_every": 1000, "checkpoint_every": 1000, "sample_every": None, "batch_size": 4}
    with accelerator.in_accelerate():
        config = TrainingConfig(output_dir=str(folder), max_steps=steps, **{**seldom, **settings})
        labels = torch.arange(64) % gans.CLASSES
        from licfg_hf.data.image_sets import TensorImages

        images = TensorImages(pixels, labels)
        trainer = Trainer(
            config,
            players.generator,
            players.discriminator,
            images,
            players.task,
            get_loss(loss, alpha),
            terms,
            generator_step=generator_step,
        )
        with accelerator.Waits() as waits:
            trainer.train()
    return waits.found


def require_no_waits(tmp_path, *args, **options) -> None:
    """A longer training waits no more often than a shorter one."""
    short = waits_of(4, tmp_path / "short", *args, **options)
    long = waits_of(8, tmp_path / "long", *args, **options)
    more = long - short
    assert not more, "\n".join(f"{times} x {what} at {where}" for (what, where), times in more.items())


@pytest.mark.parametrize("kind", PLAYERS)
def test_a_training_waits_for_nothing_between_logs(device, tmp_path, kind):
    require_no_waits(tmp_path, kind, [LazyPenalty(EpsCenteredGradientPenalty(0.1), interval=2)])
