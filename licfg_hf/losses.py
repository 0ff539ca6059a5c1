"""Adversarial losses: what the discriminator and the generator minimize, as functions of the critic's logits.

Everywhere a larger logit means more real. A loss is three scalar functions: phi on fake and psi on real logits for the
discriminator, and the generator's term on fake logits. To add one, add a line to ``_LOSSES``.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

ScalarFunction = Callable[[torch.Tensor], torch.Tensor]


def flat_logits(output: torch.Tensor | object) -> torch.Tensor:
    """The logits (batch,) of a critic's output, half types upcast to float32.

    Args:
        output: a tensor (batch,) or (batch, 1), or an object whose ``logits`` are such a tensor.

    Raises:
        ValueError: the logits have another shape or the batch is empty.
    """
    logits = getattr(output, "logits", output)
    if logits.ndim not in (1, 2) or logits.numel() != logits.shape[0]:
        raise ValueError(f"logits are (batch,) or (batch, 1), not {tuple(logits.shape)}")
    if logits.numel() == 0:
        raise ValueError("the batch is empty")
    logits = logits.reshape(-1)
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


class AdversarialLoss:
    """mean psi(D(x)) + mean phi(D(G(z))) for the discriminator, mean of a term of D(G(z)) for the generator.

    Args:
        phi: scalar function of the fake logits that the discriminator minimizes (increasing).
        psi: the same for real logits; ``None`` means phi(-u), as in Lipschitz GANs.
        generator_term: scalar function of the fake logits that the generator minimizes; ``None`` means psi.
        name: how the loss is called in logs and cards.
    """

    def __init__(
        self,
        phi: ScalarFunction,
        psi: ScalarFunction | None = None,
        generator_term: ScalarFunction | None = None,
        name: str = "custom",
    ):
        self.phi = phi
        self.psi = psi or (lambda logits: phi(-logits))
        self.generator_term = generator_term or self.psi
        self.name = name

    def discriminator(self, real_logits: torch.Tensor | object, fake_logits: torch.Tensor | object) -> torch.Tensor:
        """Scalar loss of the discriminator: mean real term + mean fake term (the two batches may differ in size)."""
        return self.psi(flat_logits(real_logits)).mean() + self.phi(flat_logits(fake_logits)).mean()

    def generator(
        self, fake_logits: torch.Tensor | object, real_logits: torch.Tensor | object | None = None
    ) -> torch.Tensor:
        """Scalar loss of the generator; ``real_logits`` is for losses that pair real and fake, others ignore it."""
        return self.generator_term(flat_logits(fake_logits)).mean()

    def __repr__(self) -> str:
        return f"AdversarialLoss({self.name})"


# name -> (phi, psi, generator term); psi and the generator term default as in AdversarialLoss.
_LOSSES: dict[str, tuple[ScalarFunction, ScalarFunction | None, ScalarFunction | None]] = {
    # -log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))), generator -log sigmoid(D(G(z))): Goodfellow et al., 2014.
    "non_saturating": (F.softplus, None, None),
}


def get_loss(name: str) -> AdversarialLoss:
    """A loss by name.

    Raises:
        ValueError: there is no such loss; the message lists those there are.
    """
    if name not in _LOSSES:
        raise ValueError(f"no loss named {name!r}; there are: {', '.join(_LOSSES)}")
    return AdversarialLoss(*_LOSSES[name], name=name)
