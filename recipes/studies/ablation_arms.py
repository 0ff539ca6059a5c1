"""The arms of ``ablate_eps``: penalties, scales, weights, architectures and learning rates, and their names."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep import Arm

SCALES = (0.01, 0.1, 1.0, 10.0)
CONTROL_SCALE = 0.1  # of the published code
FACTORS = (0.25, 1.0, 4.0, 16.0)  # of both learning rates
STUDIES = ("penalties", "learning_rates")


def _centered(direction: str) -> Callable[[float], dict[str, Any]]:
    return lambda scale: {"penalty": "eps_centered", "penalty_scale": scale, "penalty_direction": direction}


# Name of an arm's penalty -> the options of a run, given the squared norm of the centre where it has one.
PENALTIES: dict[str, Callable[[float | None], dict[str, Any]]] = {
    "none": lambda scale: {"penalty": "none"},
    "r1": lambda scale: {"penalty": "r1"},
    "zero": lambda scale: {"penalty": "zero_centered"},
    "one": lambda scale: {"penalty": "one_centered", "penalty_center": 1.0},
    "eps": _centered("ones"),
    "minus": _centered("minus_ones"),
    "random": _centered("random"),
    "norm": lambda scale: {"penalty": "one_centered", "penalty_center": math.sqrt(scale)},
}
_SCALED = ("eps", "minus", "random", "norm")
_NUMBER = r"\d[\d.]*(?:e[-+]?\d+)?"
_NAME = re.compile(
    r"(?:(?P<architecture>[a-z]+)-)?"
    rf"(?P<penalty>{'|'.join(PENALTIES)})(?P<scale>{_NUMBER})?(?:-w(?P<weight>{_NUMBER}))?(?:-lr(?P<factor>{_NUMBER}))?"
)


@dataclass(frozen=True)
class Setting:
    """What an arm is made of.

    Attributes:
        penalty: a key of ``PENALTIES``.
        scale: squared norm of the centre, of ``eps``, ``minus``, ``random`` and ``norm``.
        weight: of the penalty; None for ``none``.
        architecture: of both networks; None is the preset's.
        factor: of both learning rates.
    """

    penalty: str
    scale: float | None = None
    weight: float | None = None
    architecture: str | None = None
    factor: float = 1.0

    @property
    def kind(self) -> str:
        """The penalty with its scale, such as ``eps0.1``."""
        return self.penalty + ("" if self.scale is None else f"{self.scale:g}")

    @property
    def group(self) -> tuple[str, float | None]:
        """Architecture and weight: arms of one group are compared in one curve."""
        return self.architecture or "", self.weight

    @property
    def name(self) -> str:
        """Of the arm."""
        front = "" if self.architecture is None else f"{self.architecture}-"
        weight = "" if self.weight is None else f"-w{self.weight:g}"
        return f"{front}{self.kind}{weight}" + ("" if self.factor == 1 else f"-lr{self.factor:g}")

    @classmethod
    def of(cls, name: str) -> "Setting | None":
        """The setting of an arm's name; None where it is none."""
        found = _NAME.fullmatch(name)
        if found is None or (found["scale"] is None) != (found["penalty"] not in _SCALED):
            return None
        numbers = (found[key] for key in ("scale", "weight", "factor"))
        scale, weight, factor = (None if number is None else float(number) for number in numbers)
        setting = cls(found["penalty"], scale, weight, found["architecture"], 1.0 if factor is None else factor)
        return setting if setting.name == name and (weight is None) == (setting.penalty == "none") else None

    def at_factor(self, factor: float) -> "Setting":
        """The same with another multiple of the learning rates."""
        return replace(self, factor=factor)

    @property
    def order(self) -> tuple[Any, ...]:
        """Arms stand in this order."""
        place = list(PENALTIES).index(self.penalty)
        return self.architecture or "", self.factor != 1, self.weight or 0.0, place, self.scale or 0.0, self.factor

    def arm(self, preset: Mapping[str, Any]) -> Arm:
        """The arm of the sweep; learning rates are multiples of those in the options of the preset."""
        options = PENALTIES[self.penalty](self.scale)
        if self.weight is not None:
            options["penalty_weight"] = self.weight
        if self.architecture is not None:
            options |= {f"{network}.architecture": self.architecture for network in ("generator", "discriminator")}
        if self.factor != 1:
            for network in ("generator", "discriminator"):
                name = f"{network}_optimizer.learning_rate"
                options[name] = preset[name] * self.factor
        return Arm(self.name, options)


def settings(
    studies: Sequence[str],
    weights: Sequence[float],
    scales: Sequence[float] = SCALES,
    controls: Sequence[float] = (CONTROL_SCALE,),
    architectures: Sequence[str | None] = (None,),
    factors: Sequence[float] = FACTORS,
) -> list[Setting]:
    """Every arm of the studies, each once.

    Args:
        studies: ``penalties`` and ``learning_rates``.
        weights: of the penalties.
        scales: of the ε-centred penalty.
        controls: scales of the controls.
        architectures: of the networks; None is the preset's.
        factors: of the learning rates, in ``learning_rates``.
    """
    kinds = [(name, None) for name in PENALTIES if name not in _SCALED]
    kinds += [("eps", scale) for scale in scales]
    kinds += [(name, scale) for name in _SCALED[1:] for scale in controls]
    rated = [("none", None), ("zero", None), ("one", None), ("eps", CONTROL_SCALE)]
    wanted = [(kind, 1.0) for kind in kinds] if "penalties" in studies else []
    wanted += [(kind, factor) for kind in rated for factor in factors] if "learning_rates" in studies else []
    found = {
        Setting(name, _rounded(scale), None if name == "none" else _rounded(weight), architecture, _rounded(factor))
        for (name, scale), factor in wanted
        for weight in weights
        for architecture in architectures
    }
    return sorted(found, key=lambda setting: setting.order)


def _rounded(number: float | None) -> float | None:
    """To the digits that stand in an arm's name."""
    return None if number is None else float(f"{number:g}")


def found_in(folder: Path) -> list[Setting]:
    """The settings whose arms lie in the folder of a study; what has another name is passed over."""
    parts = [path.name.rpartition("-seed") for path in folder.glob("arms/*-seed*")]
    names = sorted({name for name, _, seed in parts if seed.isdigit()})
    return [setting for setting in map(Setting.of, names) if setting is not None]
