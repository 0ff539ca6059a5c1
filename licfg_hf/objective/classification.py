"""The term of an auxiliary classifier (AC-GAN)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .term import Term


@dataclass(frozen=True)
class AuxiliaryClassification(Term):
    """Cross-entropy of an auxiliary classifier's class logits (AC-GAN; Odena, Olah, Shlens, ICML 2017).

    A term beside the adversarial loss of either player: called like a penalty for the discriminator, and
    ``generator_term`` for the generator. Needs a discriminator whose output has ``class_logits``.

    Args:
        weight: the coefficient that multiplies the mean cross-entropy.
        fake_weight: the discriminator's coefficient on generated images, 1 x weight in the paper; 0, the default,
            trains the classifier on real images alone, as later implementations do.

    Raises:
        ValueError: a weight is negative or not finite.
    """

    weight: float = 1.0
    fake_weight: float = 0.0
    name = "classification"
    differentiates_twice = False  # no input gradient is taken

    def __post_init__(self) -> None:
        for name in ("weight", "fake_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is a finite number >= 0, not {value}")

    @staticmethod
    def _cross_entropy(output: object, class_labels: torch.Tensor | None) -> torch.Tensor:
        class_logits = getattr(output, "class_logits", None)
        if class_logits is None or class_labels is None:
            raise ValueError("an auxiliary classification needs class_labels and a discriminator with class_logits")
        with torch.autocast(class_logits.device.type, enabled=False):
            wide = class_logits.float() if class_logits.element_size() < 4 else class_logits
            return F.cross_entropy(wide, class_labels)

    def __call__(
        self,
        discriminator: object,
        real: torch.Tensor | None = None,
        fake: torch.Tensor | None = None,
        *,
        real_logits: object,
        fake_logits: object = None,
        rng: torch.Generator | None = None,
        class_labels: torch.Tensor | None = None,
        **conditioning: object,
    ) -> torch.Tensor:
        """The discriminator's weighted term.

        Args:
            real_logits: the discriminator's output on real images, with ``class_logits``.
            fake_logits: the same on generated ones; used where ``fake_weight`` is not 0.
            class_labels: (batch,) int64, of both.

        Raises:
            ValueError: there are no class logits or no labels.
        """
        term = self.weight * self._cross_entropy(real_logits, class_labels)
        if self.fake_weight:
            term = term + self.fake_weight * self._cross_entropy(fake_logits, class_labels)
        return term

    def generator_term(
        self, fake_logits: object, class_labels: torch.Tensor | None = None, **conditioning: object
    ) -> torch.Tensor:
        """The generator's weighted term: its images should be recognized.

        Raises:
            ValueError: there are no class logits or no labels.
        """
        return self.weight * self._cross_entropy(fake_logits, class_labels)
