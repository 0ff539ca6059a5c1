"""The term of an auxiliary classifier (AC-GAN)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .logits import wide
from .term import Term, require_weights


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
        require_weights(self, "weight", "fake_weight")

    @staticmethod
    def _cross_entropy(output: object, class_labels: Tensor | None) -> Tensor:
        class_logits = getattr(output, "class_logits", None)
        if class_logits is None or class_labels is None:
            raise ValueError("an auxiliary classification needs class_labels and a discriminator with class_logits")
        with torch.autocast(class_logits.device.type, enabled=False):
            return F.cross_entropy(wide(class_logits), class_labels)

    def __call__(
        self,
        discriminator: object,
        real: Tensor | None = None,
        fake: Tensor | None = None,
        *,
        real_logits: object,
        fake_logits: object = None,
        class_labels: Tensor | None = None,
        **unused: object,
    ) -> Tensor:
        """The discriminator's weighted term, from its outputs with ``class_logits`` and int64 labels (batch,) of both.

        A ValueError says that there are none. Fakes are used where ``fake_weight`` is not 0.
        """
        term = self.weight * self._cross_entropy(real_logits, class_labels)
        if self.fake_weight:
            term = term + self.fake_weight * self._cross_entropy(fake_logits, class_labels)
        return term

    def generator_term(
        self, fake_logits: object, class_labels: Tensor | None = None, **conditioning: object
    ) -> Tensor:
        """The generator's weighted term: its images should be recognized; a ValueError as above."""
        return self.weight * self._cross_entropy(fake_logits, class_labels)
