"""Feature matching: what the critic sees in a generated sample should be what it sees in a real one."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from .logits import features_of, reduced, wide
from .term import Term, require_weights


@dataclass(frozen=True)
class FeatureMatching(Term):
    """weight * mean |F_l(x) - F_l(G(z))| over the layers l of the critic's features, for the generator alone.

    The features come beside the critic's logits, see ``logits``. Paired, sample by sample, it is for a generator that
    is to reproduce its target: image to image (pix2pixHD; Wang et al., CVPR 2018) or speech (HiFi-GAN; Kong et al.,
    NeurIPS 2020). Not paired, the batch means are compared (Salimans et al., NeurIPS 2016). These are means over the
    micro-batch of one process: unlike every other mean here, the term over two of them, by accumulation or on two
    processes, is not that of one batch of both. It is larger, because the means of fewer samples differ more.

    Args:
        weight: the coefficient; pix2pixHD's 10 times the sum of four layers is 40 with ``mean``, HiFi-GAN with ``sum``
            is 2.
        reduction: ``mean`` or ``sum`` over the layers of all heads.
        paired: whether the i-th generated sample belongs to the i-th real one.

    Raises:
        ValueError: a parameter is outside its range.
    """

    weight: float = 10.0
    reduction: Literal["mean", "sum"] = "mean"
    paired: bool = True
    name = "feature_matching"
    differentiates_twice = False  # no input gradient is taken
    uses_real_logits = True
    pairs_fakes = False

    def __post_init__(self) -> None:
        require_weights(self, "weight")
        if self.reduction not in ("mean", "sum"):
            raise ValueError(f"reduction is mean or sum, not {self.reduction!r}")

    def __call__(self, *arguments: Any, **options: Any) -> None:
        """None: the discriminator's loss has no such part."""

    def generator_term(self, fake_logits: Any, *, real_logits: Any = None, **conditioning: Any) -> Tensor:
        """The generator's weighted term, from the critic's outputs on generated and on real samples.

        No gradient reaches the real features. A ValueError says that there are no real logits or no features, that
        the two differ, or that a part cannot be compared, such as a mask of integers.
        """
        if real_logits is None:
            raise ValueError("feature matching needs real_logits, the critic's output on real samples, too")
        fakes, reals = features_of(fake_logits), features_of(real_logits)
        if not fakes:
            raise ValueError(
                "feature matching needs the critic's features beside its logits: return (logits, [features]), or an "
                "object or dict with logits and features"
            )
        shapes = [[tuple(part.shape[not self.paired :]) for part in parts] for parts in (fakes, reals)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"feature matching compares equal shapes: {shapes[0]} and {shapes[1]} differ")
        for part in (*fakes, *reals):
            _require_features(part)
        distances = [self._distance(fake, real.detach()) for fake, real in zip(fakes, reals, strict=True)]
        return self.weight * reduced(distances, self.reduction)

    def _distance(self, fake: Tensor, real: Tensor) -> Tensor:
        if not self.paired:
            fake, real = fake.mean(dim=0), real.mean(dim=0)
        return (wide(fake) - wide(real)).abs().mean()


def _require_features(part: Tensor) -> None:
    if not (part.is_floating_point() or part.is_complex()):
        raise ValueError(f"features are floating-point numbers, not {part.dtype}: leave masks out of the features")
    if part.numel() == 0:
        raise ValueError(f"features of shape {tuple(part.shape)} hold nothing to compare")
