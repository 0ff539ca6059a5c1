"""Functional gradients: samples follow the discriminator's input gradient, and the generator follows the samples.

Composite functional gradient learning (CFG; Johnson and Zhang, ICML 2018, arXiv 1801.06309) moves every sample by

    x <- x + eta * s(x) * grad_x D(x)

For D = ln(p_real / p_fake), the optimum of the logistic loss, and small eta each step lowers KL(p_real || p_fake) by
eta * E_real[s * ||grad D||^2], and KL(p_fake || p_real) by eta * E_fake[s * ||grad D||^2]. xICFG takes T such steps,
each with the discriminator of its time, then teaches the generator where its samples went, by regression. Li-CFG
(arXiv 2501.11236) adds a gradient penalty to the discriminator's loss.

    flow = FunctionalGradientFlow([discriminator], step_size=0.5)   # or the stored D_1 .. D_T
    target = flow(fake)                                             # no graph is kept
    regression_loss(generator(latents), target).backward()

With one step and s = ``logd`` that gradient is eta times that of the non-saturating loss of a GAN's generator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .critic import Critic, input_gradient, require_points, usable
from .logits import mean_logit, wide

Scaling = Literal["kl", "logd", "js", "jeffreys"]

# s of a logit D. f-divergences by their names in the CFG papers; ``logd`` is the trick of a GAN's generator.
SCALINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "kl": torch.ones_like,
    "logd": lambda logits: torch.sigmoid(-logits),  # 1 / (1 + e^D)
    "js": torch.sigmoid,  # 1 / (1 + e^-D)
    "jeffreys": lambda logits: 1 + torch.exp(logits),
}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def scaled_gradient(discriminator: Critic, samples: Tensor, scaling: Scaling = "kl", **conditioning: Any) -> Tensor:
    """s(x) * grad_x D(x) at samples (batch, ...), of the same shape; it has no graph and leaves no parameter gradient.

    The gradient is that of the summed logits: per-sample, unless the discriminator couples the samples of a batch.
    """
    with torch.inference_mode(False), torch.enable_grad():
        conditioning = usable(conditioning)
        points = usable(require_points(samples, "sample")).detach().requires_grad_()
        logits = mean_logit(discriminator(points, **conditioning), len(points))
        gradient = input_gradient(logits, points)
    scale = SCALINGS[scaling](logits.detach()).view(-1, *[1] * (samples.ndim - 1))
    return scale * wide(gradient)


@dataclass(frozen=True)
class FunctionalGradientFlow:
    """One functional-gradient step for each discriminator, in order: where the samples go.

    No graph runs from one step to the next, so memory is that of one step on ``chunk_size`` samples.

    Args:
        discriminators: D_1 .. D_T; none leaves the samples where they are.
        step_size: eta, >= 0, in units of the samples.
        scaling: s: ``kl`` (1), ``logd`` (1 / (1 + e^D)), ``js`` (1 / (1 + e^-D)) or ``jeffreys`` (1 + e^D).
        noise: standard deviation of the normal noise that follows each step (the DDGAN port of Li-CFG has 0.01).
        chunk_size: samples per pass; ``None`` passes the whole batch.
        group: batches are filled up to a multiple of it with their own first samples, for discriminators that need
            whole groups (minibatch standard deviation).

    Raises:
        ValueError: a value is outside its range.
    """

    discriminators: Sequence[Critic]
    step_size: float = 0.5
    scaling: Scaling = "kl"
    noise: float = 0.0
    chunk_size: int | None = None
    group: int = 1

    def __post_init__(self) -> None:
        _require(not isinstance(self.discriminators, torch.nn.Module), "discriminators are a list, of one or more")
        _require(self.group >= 1, f"group is at least 1, not {self.group}")
        _require(0 <= self.step_size < float("inf"), f"step_size is finite and >= 0, not {self.step_size}")
        _require(self.scaling in SCALINGS, f"scaling is one of {', '.join(SCALINGS)}, not {self.scaling!r}")
        _require(0 <= self.noise < float("inf"), f"noise is finite and >= 0, not {self.noise}")
        _require(self.chunk_size is None or self.chunk_size >= 1, f"chunk_size is at least 1, not {self.chunk_size}")

    @torch.no_grad()
    def __call__(self, samples: Tensor, rng: torch.Generator | None = None, **conditioning: Tensor) -> Tensor:
        """Samples (batch, ...) -> moved samples, without a graph; values may leave [-1, 1], as in the papers.

        The conditioning of the discriminators has the batch first; the noise does not depend on ``chunk_size``.
        """
        samples = samples.detach()
        for discriminator in self.discriminators:
            samples = samples + self.step_size * self._gradient(discriminator, samples, conditioning).to(samples.dtype)
            if self.noise:
                place = samples.device if rng is None else rng.device
                drawn = torch.randn(samples.shape, generator=rng, device=place, dtype=torch.float32)
                samples = samples + self.noise * drawn.to(samples.device, samples.dtype)
        return samples

    def _gradient(self, discriminator: Critic, samples: Tensor, conditioning: dict[str, Tensor]) -> Tensor:
        size = -(-(self.chunk_size or max(len(samples), 1)) // self.group) * self.group
        parts = []
        for start in range(0, max(len(samples), 1), size):
            count = min(size, len(samples) - start)
            filled = -(-count // self.group) * self.group
            whole = start + torch.arange(filled, device=samples.device) % max(count, 1)
            given = {name: value[whole] for name, value in conditioning.items()}
            parts.append(scaled_gradient(discriminator, samples[whole], self.scaling, **given)[:count])
        return torch.cat(parts)


def group_size(discriminator: torch.nn.Module) -> int:
    """The group size of a discriminator's minibatch standard deviation: its batches must be a multiple of that."""
    return max((getattr(layer, "group_size", 1) for layer in discriminator.modules()), default=1)


def regression_loss(output: Tensor, target: Tensor) -> Tensor:
    """1/2 * ||output - target||^2, summed over a sample's elements, averaged over the batch, of equal shapes."""
    _require(output.shape == target.shape, f"{tuple(output.shape)} and {tuple(target.shape)} differ")
    return 0.5 * (wide(output) - wide(target)).square().flatten(1).sum(dim=1).mean()


@dataclass(frozen=True)
class StageConfig:
    """The numbers of xICFG; the defaults are those of the CFG authors' convolutional networks without BatchNorm.

    A stage is ``steps`` functional-gradient steps, each after the discriminator's updates, and one regression of the
    generator on a pool of samples that the steps have moved.

    Args:
        steps: T, functional-gradient steps of a stage.
        step_size: eta; the authors' values depend on data and networks (MNIST 0.5 with BatchNorm and 2.5 without).
        scaling: s: ``kl`` (1, the authors' choice), ``logd``, ``js`` or ``jeffreys``.
        noise: standard deviation of the noise after each step.
        epochs: passes of the regression over the pool.
        learning_rate_decay: factor of the generator's learning rate after each epoch whose loss is higher than that of
            the epoch before.
        max_decays: how often the learning rate falls at most: 3 times in the CFG authors' code, 5 times in Li-CFG's.
        early_stop: whether the regression ends where the learning rate would fall once more. In both of these codes it
            goes on at the last rate, to the last epoch (false).
        initial_scale: before the first stage the generator learns clamp(z W, -1, 1) with W ~ N(0, initial_scale^2),
            so that its first samples differ; None leaves it as it was initialized.
        max_gap: the run ends if mean D(real) - mean D(fake) exceeds this, because the generator has lost; None never
            ends it for that reason.
        max_gap_after: number of first stages in which ``max_gap`` does not apply.

    Raises:
        ValueError: a value is outside its range.
    """

    steps: int = 15
    step_size: float = 2.5
    scaling: Scaling = "kl"
    noise: float = 0.0
    epochs: int = 10
    learning_rate_decay: float = 0.1
    max_decays: int = 3
    early_stop: bool = True
    initial_scale: float | None = 0.01
    max_gap: float | None = 40.0
    max_gap_after: int = 2000

    def __post_init__(self) -> None:
        self.flow([])
        _require(self.step_size > 0, f"step_size is above 0, not {self.step_size}: else no sample moves")
        _require(1 <= self.steps <= 10_000, f"steps is in 1 to 10,000, not {self.steps}")
        _require(1 <= self.epochs <= 10_000, f"epochs is in 1 to 10,000, not {self.epochs}")
        decay, scale = self.learning_rate_decay, self.initial_scale
        _require(0 < decay <= 1, f"learning_rate_decay is in (0, 1], not {decay}")
        _require(self.max_decays >= 0, f"max_decays is at least 0, not {self.max_decays}")
        _require(scale is None or scale > 0, f"initial_scale is positive, not {scale}")
        _require(self.max_gap is None or self.max_gap > 0, f"max_gap is positive, not {self.max_gap}")
        _require(self.max_gap_after >= 0, f"max_gap_after is at least 0, not {self.max_gap_after}")

    def flow(self, discriminators: Sequence[Critic], group: int = 1) -> FunctionalGradientFlow:
        """The steps so far, one for each discriminator; ``group`` as in ``FunctionalGradientFlow``."""
        return FunctionalGradientFlow(discriminators, self.step_size, self.scaling, self.noise, group=group)

    def cost(self, batch_size: int, discriminator_steps: int, pool: int) -> "StageCost":
        """The cost of a stage whose regression learns ``pool`` samples.

        ``batch_size`` counts the images of a discriminator update, ``discriminator_steps`` the updates per step.
        """
        updates = self.steps * discriminator_steps
        return StageCost(
            discriminator_updates=updates * batch_size,
            transport_passes=discriminator_steps * batch_size * self.steps * (self.steps - 1) // 2 + pool * self.steps,
            sampling_passes=updates * batch_size + pool,
            generator_updates=self.epochs * pool,
        )


@dataclass(frozen=True)
class StageCost:
    """Images that pass a network in one stage, at most (a regression may end early).

    Attributes:
        discriminator_updates: fake images of discriminator updates (as many real ones beside them; penalty not
            counted): forward and backward.
        transport_passes: through stored discriminators: forward, and backward to the input alone.
        sampling_passes: through the generator, forward alone.
        generator_updates: of the regression: forward and backward.
    """

    discriminator_updates: int
    transport_passes: int
    sampling_passes: int
    generator_updates: int

    def __str__(self) -> str:
        return (
            f"discriminator: {self.discriminator_updates:,} images in updates and {self.transport_passes:,} in "
            f"transport; generator: {self.sampling_passes:,} in sampling and {self.generator_updates:,} in regression"
        )
