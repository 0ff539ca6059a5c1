"""The objective of a recipe, chosen by name: loss, penalty, normalizer, consistency, classification."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from torch import nn

from ..errors import InputError
from ..models import Discriminator
from ..objective.augmentation import DifferentiableAugmentation, FlipAndShift
from ..objective.classification import AuxiliaryClassification
from ..objective.consistency import BalancedConsistencyRegularization, ConsistencyRegularization
from ..objective.losses import AdversarialLoss, get_loss
from ..objective.penalties import Method, Points
from ..ranges import MANY, require_set, require_whole
from ..training import LazyPenalty
from ..training.checks import require_measurable_strength
from .terms import SHORT_NAMES, TermConfig

_TAGS = {"eps_centered": "eps-licfg"}
PenaltyName = Literal[
    "eps_centered", "zero_centered", "one_centered", "one_sided", "max", "dragan", "r1", "r2", "adversarial", "none"
]
NormalizerName = Literal["spectral", "stable_rank", "gradient", "penalty_gradient", "none"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """The adversarial loss and what regularizes the discriminator.

    Args:
        loss: name of the adversarial loss, see licfg_hf.get_loss.
        loss_alpha: domain scaling L(alpha * u) / alpha of the loss, in [1e-25, 1e11]; 1 is the plain loss.
        loss_weight: multiplies the adversarial losses of both players.
        penalty: ``eps_centered`` (Li-CFG), ``zero_centered``, ``one_centered`` (WGAN-GP), ``one_sided`` (LP) and
            ``max`` (MaxGP) on interpolates, ``dragan`` around real points, ``r1`` on real points, ``r2`` on fake
            points, ``adversarial`` (ALP), or ``none``.
        penalty_weight: coefficient of the mean squared distance of the input gradient from the centre, as applied
            (R1's gamma / 2).
        penalty_center: gradient norm that one_centered and one_sided do not penalize (k_GP of Qin et al.).
        penalty_scale: squared norm of the centre of eps_centered, in [0, 1] in the published code.
        penalty_direction: direction of that centre: ``ones``, or the controls ``minus_ones`` and ``random``.
        penalty_points: where eps_centered, zero_centered, one_centered, one_sided and max are taken: ``interpolate``,
            ``real``, ``fake``, ``real_and_fake`` or ``perturbed``.
        penalty_method: ``exact`` (double backward), ``tangent`` (forward mode; the same gradient but for batch
            statistics), ``finite_difference`` (for smooth critics) or ``stochastic`` (values of the critic alone, one
            draw; not for a norm as the centre); not used by adversarial.
        penalty_interval: number of discriminator updates from one penalty to the next.
        penalty_multiply_by_interval: multiply a lazy penalty by its interval, as StyleGAN2 does and DDGAN does not.
        penalty_target: strength rho between 0 and 1 that is held in place of the weight, which then follows from
            penalty_weight on; 0.15 is a starting point, not known to be best. None keeps the weight.
        penalties: several penalties, or your own, instead of the one above: a list of
            ``{class_path: my_module.MyPenalty, init_args: {weight: 1.0}, interval: 1, multiply_by_interval: false}``,
            and ``target`` for penalty_target.
            ``class_path`` is the path of a class, one of the names above such as ``r1``, or a class of licfg_hf.
        normalizer: of the discriminator, ``spectral`` or ``stable_rank`` (SRN) on its weights, ``gradient`` (GN) or
            ``penalty_gradient`` (PGN) on its output, or ``none``.
        normalizer_k: largest singular value of each weight as a matrix (out, rest), for spectral and stable_rank.
        normalizer_rank_ratio: bound of the stable rank in units of the smaller matrix dimension, for stable_rank.
        normalizer_formula: PGN's ``elementwise`` (as published) or ``norm`` (as in its proof).
        normalizer_first_order_generator: GN and PGN without a second-order graph in the generator's step; exact for
            piecewise-linear critics.
        consistency: the discriminator must agree on an image and its augmented copy: on ``real`` images (CR), on
            ``both`` real and generated ones (bCR), or ``none``.
        consistency_weight: coefficient of the mean squared difference.
        consistency_flip: probability of mirroring the copy.
        consistency_shift: largest shift of the copy as a share of height and width.
        consistency_padding: content of the border that a shift uncovers, ``reflect``, ``black``, or ``zeros``,
            which is grey.
        augmentation: augmentation of all images that the discriminator sees, for small data sets (DiffAugment):
            ``color``, ``translation`` and ``cutout``, comma-separated; None leaves images as they are.
        auxiliary_weight: coefficient of the cross-entropy of an auxiliary classifier head, for both players; None
            without such a head.

    Raises:
        InputError: a value is outside its range.
    """

    loss: str = "non_saturating"
    loss_alpha: float = 1.0
    loss_weight: float = 1.0
    penalty: PenaltyName = "eps_centered"
    penalty_weight: float = 0.01
    penalty_center: float = 1.0
    penalty_scale: float = 0.1
    penalty_direction: Literal["ones", "minus_ones", "random"] = "ones"
    penalty_points: Points = "interpolate"
    penalty_method: Method = "exact"
    penalty_interval: int = 1
    penalty_multiply_by_interval: bool = False
    penalty_target: float | None = None
    penalties: list[dict[str, Any]] | None = None
    normalizer: NormalizerName = "none"
    normalizer_k: float = 1.0
    normalizer_rank_ratio: float = 0.7
    normalizer_formula: Literal["elementwise", "norm"] = "elementwise"
    normalizer_first_order_generator: bool = False
    consistency: Literal["real", "both", "none"] = "none"
    consistency_weight: float = 10.0
    consistency_flip: float = 0.5
    consistency_shift: float = 0.125
    consistency_padding: Literal["reflect", "zeros", "black"] = "reflect"
    augmentation: str | None = None
    auxiliary_weight: float | None = None

    def __post_init__(self) -> None:
        require_set(self)
        try:
            loss, terms = self.build()
            require_measurable_strength(loss, terms)
            self.normalizers()
            self.differentiable_augmentation()
        except ValueError as error:
            raise InputError(str(error)) from error
        require_whole(1, MANY, penalty_interval=self.penalty_interval)
        if self.penalty == "eps_centered" and self.penalty_scale == 0:
            raise InputError("penalty_scale 0 centres the penalty on zero: pass --penalty zero_centered for that")
        tangent = "tangent" in (self.penalty_method, *(getattr(term.innermost, "method", None) for term in terms))
        if self.normalizer in ("gradient", "penalty_gradient") and tangent:
            raise InputError("GN and PGN have no forward-mode derivative: pass --penalty_method exact")

    def card(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The model card's part on the techniques: tags and the method, added to the recipe's own text."""
        penalties = [term.class_path.rpartition(".")[2] for term in self._terms()]
        used = [name for name in (*penalties, self.normalizer) if name != "none"] or ["none"]
        regularizers = [f"regularizer:{_TAGS.get(name, name.replace('_', '-'))}" for name in used]
        methods = recipe.get("methods", {})
        text = "\n\n".join(methods[name] for name in used if name in methods)
        return {"tags": [*recipe.get("tags", []), *regularizers], "method": text or None}

    def build(self) -> tuple[AdversarialLoss, list[LazyPenalty]]:
        """The loss and the terms beside it."""
        terms = [*(term.build() for term in self._terms()), self._consistency(), self._auxiliary()]
        return get_loss(self.loss, self.loss_alpha, self.loss_weight), [term for term in terms if term is not None]

    def _terms(self) -> list[TermConfig]:
        """The penalties as ``--penalties`` has them; ``--penalty`` and what belongs to it is short for one."""
        if self.penalties is not None:
            return [TermConfig.of(entry) for entry in self.penalties]
        if self.penalty == "none":
            return []
        if self.penalty not in SHORT_NAMES:
            raise ValueError(f"penalty is one of {', '.join([*SHORT_NAMES, 'none'])}, not {self.penalty!r}")
        arguments = {name: getattr(self, f"penalty_{name}") for name in SHORT_NAMES[self.penalty].options}
        lazy = (self.penalty_interval, self.penalty_multiply_by_interval)
        return [TermConfig(self.penalty, arguments, *lazy, self.penalty_target)]

    def weighted_penalties(self) -> list[tuple[str, float]]:
        """Name or path of each penalty, and its weight; an InputError says where there is none."""
        if not (terms := self._terms()):
            raise InputError("there is no penalty, so no weight of one: pass --penalty NAME")
        if any(term.target is not None for term in terms):
            raise InputError("a penalty with a target holds a strength already: leave out the target to tune a weight")
        found = [(term.class_path, getattr(term.build().penalty, "weight", None)) for term in terms]
        for path, weight in found:
            if not isinstance(weight, (int, float)):
                raise InputError(f"{path} has no attribute weight that is a number")
        return cast(list[tuple[str, float]], found)

    def at_weight(self, weight: float) -> "ObjectiveConfig":
        """The same with this weight of the first penalty; those of further ones keep their ratios to it."""
        first, *others = [own for _, own in self.weighted_penalties()]
        if others and first == 0:
            raise InputError("the first of --penalties has weight 0: the others have no ratio to it")
        weights = [weight, *(weight * other / first for other in others)]
        terms = [
            {**vars(term), "init_args": {**term.init_args, "weight": own}}
            for term, own in zip(self._terms(), weights, strict=True)
        ]
        return replace(self, penalties=terms)

    def differentiable_augmentation(self) -> DifferentiableAugmentation | None:
        """The augmentation of all images that the discriminator sees."""
        if self.augmentation is None:
            return None
        policy: Any = tuple(part.strip() for part in self.augmentation.split(","))
        return DifferentiableAugmentation(policy)

    def _consistency(self) -> LazyPenalty | None:
        kinds = {"real": ConsistencyRegularization, "both": BalancedConsistencyRegularization}
        if self.consistency == "none":
            return None
        if self.consistency not in kinds:
            raise ValueError(f"consistency is real, both or none, not {self.consistency!r}")
        augmentation = FlipAndShift(self.consistency_flip, self.consistency_shift, self.consistency_padding)
        return LazyPenalty(kinds[self.consistency](self.consistency_weight, augmentation), name="consistency")

    def _auxiliary(self) -> LazyPenalty | None:
        if self.auxiliary_weight is None:
            return None
        return LazyPenalty(AuxiliaryClassification(self.auxiliary_weight), name="classification")

    def normalizers(self) -> list[dict[str, Any]]:
        """The normalizers of the discriminator, as its config records them."""
        first_order = {"first_order_generator": self.normalizer_first_order_generator}
        known: dict[str, dict[str, Any]] = {
            "spectral": {"k": self.normalizer_k},
            "stable_rank": {"rank_ratio": self.normalizer_rank_ratio, "k": self.normalizer_k},
            "gradient": first_order,
            "penalty_gradient": {"formula": self.normalizer_formula, **first_order},
        }
        if self.normalizer == "none":
            return []
        if self.normalizer not in known:
            raise ValueError(f"normalizer is one of {', '.join([*known, 'none'])}, not {self.normalizer!r}")
        return [{"kind": self.normalizer, **known[self.normalizer]}]

    def prepare(self, discriminator: nn.Module) -> None:
        """Applies the normalizers to a discriminator, or raises a ValueError where it cannot have this objective."""
        own = isinstance(discriminator, Discriminator)
        classifies = discriminator.config.get("head_type") == "auxiliary" if own else self.auxiliary_weight is not None
        if classifies != (self.auxiliary_weight is not None):
            raise ValueError("--discriminator.head_type auxiliary and --auxiliary_weight 1.0 belong together")
        for record in self.normalizers():
            if not own:
                raise ValueError(
                    f"--normalizer {self.normalizer} is for discriminators of licfg_hf.models: normalize "
                    f"{type(discriminator).__name__} in its own __init__, see licfg_hf.spectral_normalize"
                )
            discriminator.add_normalizer(**record)
