"""Between two logs the host never waits for the device, so that it can prepare the next steps meanwhile."""

from collections import Counter
from pathlib import Path
from typing import Any

import accelerator
import pytest
from players import PLAYERS, random_images

from licfg_hf import (
    AdversarialLipschitzPenalty,
    BalancedConsistencyRegularization,
    ConsistencyRegularization,
    DifferentiableAugmentation,
    EpsCenteredGradientPenalty,
    LatentConsistencyRegularization,
    LazyPenalty,
    StrengthControlledPenalty,
    Trainer,
    TrainingConfig,
    dragan,
    get_loss,
    r1_penalty,
    wgan_gp,
)
from licfg_hf.objective.losses import LOSS_NAMES
from licfg_hf.training import FunctionalGradientStep


def waits_of_training(
    folder: Path, kind: str, steps: int, loss: tuple[str, float] = ("hinge", 1.0), terms: Any = (), **options: Any
) -> Counter[tuple[str, str]]:
    """What a whole training waits for that reads its log at the end only."""
    generator, discriminator, task = PLAYERS[kind]()
    seldom = {"log_every": 1000, "checkpoint_every": 1000, "sample_every": None}
    settings = {**seldom, "batch_size": 4, **options.pop("config", {})}
    with accelerator.in_accelerate():
        config = TrainingConfig(output_dir=str(folder), max_steps=steps, **settings)
        trainer = Trainer(config, generator, discriminator, random_images(64), task, get_loss(*loss), terms, **options)
        with accelerator.Waits() as waits:
            trainer.train()
    return waits.found


def require_no_waits(folder: Path, kind: str, **options: Any) -> None:
    """A longer training waits no more often than a shorter one."""
    short, long = (waits_of_training(folder / str(steps), kind, steps, **options) for steps in (3, 7))
    more = long - short
    assert not more, "\n".join(f"{times} x {what} at {where}" for (what, where), times in more.items())


@pytest.mark.parametrize("kind", PLAYERS)
def test_no_network_waits(device, tmp_path, kind):
    require_no_waits(tmp_path, kind, terms=[LazyPenalty(EpsCenteredGradientPenalty(0.1), interval=2)])


@pytest.mark.parametrize("alpha", (1.0, 0.5))
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_no_loss_waits(device, tmp_path, loss, alpha):
    require_no_waits(tmp_path, "sngan", loss=(loss, alpha))


TERMS = {
    "wgan_gp": lambda: wgan_gp(0.1),
    "dragan": lambda: dragan(0.1),
    "r1 tangent": lambda: r1_penalty(0.1, "tangent"),
    "r1 finite differences": lambda: r1_penalty(0.1, "finite_difference"),
    "random direction": lambda: EpsCenteredGradientPenalty(0.1, direction="random"),
    "adversarial": lambda: AdversarialLipschitzPenalty(0.1),
    "consistency": lambda: ConsistencyRegularization(1.0),
    "balanced consistency": lambda: BalancedConsistencyRegularization(1.0, augmentation=DifferentiableAugmentation()),
    "latent consistency": lambda: LatentConsistencyRegularization(),
    "controlled strength": lambda: StrengthControlledPenalty(r1_penalty(0.1), averaging=1),
}


@pytest.mark.parametrize("term", TERMS)
def test_no_term_waits(device, tmp_path, term):
    require_no_waits(tmp_path, "sngan", terms=[TERMS[term]()])


OPTIONS = {
    "accumulation": {"config": {"gradient_accumulation_steps": 2}},
    "bf16": {"config": {"mixed_precision": "bf16"}},
    "gradient checkpointing": {"config": {"gradient_checkpointing": True}},
    "several discriminator steps": {"config": {"discriminator_steps": 3}},
    "functional gradient": {"generator_step": FunctionalGradientStep()},
    "augmentation": {"augmentation": DifferentiableAugmentation()},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_no_way_to_train_waits(device, tmp_path, option):
    require_no_waits(tmp_path, "biggan", **OPTIONS[option])
