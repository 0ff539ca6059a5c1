"""Ways to train the generator: by its adversarial loss, or along the functional gradient (in stages: ``stages``)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..objective.functional_gradient import FunctionalGradientFlow, Scaling, regression_loss
from .config import TrainingConfig
from .context import Batch, GeneratorStep, StepContext, Terms
from .step import generator_parts, update_generator
from .tasks import MicroBatch


@dataclass
class AdversarialStep(GeneratorStep):
    """The generator descends its part of the adversarial loss, once for each training step."""

    def after_updates(self, context: StepContext, batch: Batch | None, rng: torch.Generator) -> Terms:
        assert batch is not None  # with interval = 1, every step brings one
        return update_generator(context, lambda micro_batch: self.terms(context, micro_batch, rng), batch, rng)

    def terms(self, context: StepContext, micro_batch: MicroBatch, rng: torch.Generator) -> Terms:
        """The terms of the generator's loss on one micro-batch."""
        return context.generator_terms(
            context.prepared_generator, context.opponent, context.task, context.loss, micro_batch, context.terms
        )


@dataclass
class FunctionalGradientStep(AdversarialStep):
    """The generator is regressed on its samples after ``steps`` steps along the current discriminator's gradient.

    One optimizer step for each training step, as in an ordinary GAN, with any loss and penalty of the discriminator.
    With ``steps`` = 1 and ``scaling`` = ``logd`` it is ``step_size`` times the non-saturating loss's gradient.

    Args:
        step_size, scaling, noise: see ``FunctionalGradientFlow``.
        steps: functional-gradient steps along the same discriminator.

    Raises:
        ValueError: a value is outside its range.
    """

    step_size: float = 1.0
    scaling: Scaling = "kl"
    noise: float = 0.0
    steps: int = 1

    def __post_init__(self) -> None:
        FunctionalGradientFlow([], self.step_size, self.scaling, self.noise)
        if self.steps < 1:
            raise ValueError(f"steps is at least 1, not {self.steps}")

    def terms(self, context: StepContext, micro_batch: MicroBatch, rng: torch.Generator) -> Terms:
        generator, critic, conditioning = context.prepared_generator, context.opponent, micro_batch.fake_conditioning
        fake = context.task.generate(generator, micro_batch)
        flow = FunctionalGradientFlow([critic] * self.steps, self.step_size, self.scaling, self.noise)
        loss = regression_loss(fake, flow(fake, rng=rng, **conditioning))
        compared = (context.task, fake, micro_batch, context.terms, rng)

        def judged(images: Tensor) -> Any:
            return critic(images, **(conditioning if images is fake else micro_batch.conditioning))

        beside = generator_parts(generator, judged, *compared)
        return {"generator_loss": loss, **beside}

    def cost_per_step(self, config: TrainingConfig) -> tuple[float, float]:
        return self.steps * config.effective_generator_batch_size, config.effective_generator_batch_size
