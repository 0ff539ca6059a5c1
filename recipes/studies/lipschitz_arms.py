"""The arms of ``lipschitz_losses``: losses and constants of each table and figure of the paper, and on which images.

Qin, Mitra, Wonka, How does Lipschitz Regularization Influence GAN Training?, ECCV 2020.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from sweep import Arm

# Short names of the paper -> ours. WGAN and EXP are written there with the opposite sign.
LOSSES = {
    "NS": "non_saturating",
    "LS": "least_squares",
    "LS#": "least_squares_zero_centered",
    "WGAN": "wasserstein",
    "COS": "cosine",
    "EXP": "exponential",
}
DATA = ("mnist", "cifar10", "celeba")
PLANE = "2d"  # Fig. 1 has points in the plane and no images
_K = (0.2, 0.25, 0.5, 1.0, 5.0, 10.0, 50.0)
_SMALL_ALPHA = (1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1)
_LARGE_ALPHA = (1e1, 1e3, 1e5, 1e7, 1e9, 1e11)
LIMIT = 1e-25


@dataclass(frozen=True)
class Setting:
    """What an arm is made of; ``None`` means not used.

    Attributes:
        loss: short name, a key of ``LOSSES``.
        k_sn: largest singular value of each weight of the discriminator, as a matrix.
        alpha: domain scaling.
        k_gp: gradient norm that the penalty, of weight 10, is centred on.
        rank_ratio: bound of the stable rank (SRN).
    """

    loss: str
    k_sn: float | None = None
    alpha: float = 1.0
    k_gp: float | None = None
    rank_ratio: float | None = None

    def arm(self) -> Arm:
        """The arm of the sweep."""
        options = {"loss": LOSSES[self.loss], "loss_alpha": self.alpha}
        parts = [LOSSES[self.loss]]
        if self.k_sn is not None:
            options |= {"normalizer": "spectral", "normalizer_k": self.k_sn}
            parts.append(f"ksn{self.k_sn:g}")
        if self.rank_ratio is not None:
            options |= {"normalizer": "stable_rank", "normalizer_rank_ratio": self.rank_ratio}
            parts.append(f"srn{self.rank_ratio:g}")
        if self.k_gp is not None:
            options |= {"penalty": "one_centered", "penalty_weight": 10.0, "penalty_center": self.k_gp}
            parts.append(f"kgp{self.k_gp:g}")
        if self.alpha != 1:
            parts.append(f"alpha{self.alpha:g}")
        return Arm("-".join(parts), options)

    def __str__(self) -> str:
        values = {"k_SN": self.k_sn, "rank ratio": self.rank_ratio, "k_GP": self.k_gp, "alpha": self.alpha}
        used = [f"{name} {value:g}" for name, value in values.items() if value is not None]
        return ", ".join([self.loss, *used])

    def lipschitz_constant(self, layers: int) -> float | None:
        """What the paper takes for the critic's: k_SN^n for n normalized layers, or k_GP."""
        return self.k_gp if self.k_sn is None else self.k_sn**layers


@dataclass(frozen=True)
class Study:
    """A part of the paper.

    Attributes:
        at: its place there; empty for what is ours.
        settings: of its arms.
        data: presets of the images on which the paper shows it.
        label_lost: whether it is one of ``data``, and the text that was read does not say which.
    """

    at: str
    settings: Sequence[Setting]
    data: Sequence[str] = DATA
    label_lost: bool = False

    def cells(self) -> list[tuple[str, Setting]]:
        """The paper's cells: images (several names where the label is lost) and setting."""
        places = ["|".join(self.data)] if self.label_lost else self.data
        return list(product(places, self.settings))


def _grid(losses: Iterable[str], **values: Iterable[float]) -> list[Setting]:
    points = [dict(zip(values, point, strict=True)) for point in product(*values.values())]
    return [Setting(loss, **point) for loss, point in product(losses, points)]


_SCALED = ("NS", "LS", "LS#", "COS", "EXP")
_DRAWN = ("NS", "LS", "WGAN")
STUDIES: Mapping[str, Study] = {
    # Neither the loss nor k_SN of Fig. 1 is stated; k_SN = 5 shows where alpha = 1 begins to fail, too.
    "fig1": Study("Fig. 1", _grid(["NS"], k_sn=(1.0, 5.0), alpha=(1e-10, 1.0, 1e10)), [PLANE]),
    "table2": Study("Table 2", _grid(("NS", "LS"), k_sn=(5.0, 1.0, 0.5, 0.25)), ["celeba"]),
    "table3": Study("Table 3", _grid(("NS", "LS", "WGAN", "COS", "EXP"), k_sn=_K)),
    "table4a": Study("Table 4 (a)", _grid(_SCALED, k_sn=[50.0], alpha=_SMALL_ALPHA), label_lost=True),
    "table4b": Study("Table 4 (b)", _grid(_SCALED, k_sn=[1.0], alpha=_LARGE_ALPHA), label_lost=True),
    "table5": Study(
        "Table 5", [Setting("WGAN", k_sn=50.0), *_grid(("NS", "LS#", "COS", "EXP"), k_sn=[50.0], alpha=[LIMIT])]
    ),
    # The constants stand in the picture only: those of Table 3.
    "fig4": Study("Fig. 4", [*_grid(_DRAWN, k_gp=_K), *_grid(_DRAWN, k_sn=_K)], ["celeba"]),
    # (a) is NS; (b) one of the others, and the caption does not say which.
    "fig5": Study("Fig. 5", _grid(("NS", "LS", "COS", "EXP"), k_sn=[50.0], alpha=[1e-1]), ["mnist"]),
    "srn": Study("", _grid(_DRAWN, k_sn=[1.0], rank_ratio=(0.3, 0.5, 0.7, 0.9))),
}
OF_IMAGES = {name: study for name, study in STUDIES.items() if name != "fig1"}
ALL = list(dict.fromkeys(setting for study in OF_IMAGES.values() for setting in study.settings))
QUICK = [
    setting for setting in STUDIES["table3"].settings if setting.loss in ("NS", "WGAN") and setting.k_sn in (1.0, 50.0)
]
