"""Terms of the discriminator's loss by the path of their class, with their arguments as data."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ..errors import InputError
from ..named import named
from ..objective import penalties
from ..objective.strength_control import StrengthControlledPenalty
from ..ranges import MANY, require_number, require_whole
from ..text import first_line
from ..training import LazyPenalty
from .arguments import in_words


@dataclass(frozen=True)
class ShortName:
    """The penalty that ``--penalty NAME`` stands for."""

    make: Callable[..., Any]
    options: tuple[str, ...] = ("weight", "points", "method")  # arguments that --penalty_ARGUMENT gives it
    fixed: Mapping[str, Any] = field(default_factory=dict)  # arguments that belong to the name


_AT_POINTS = ("weight", "method")
_AROUND = ("weight", "center", "points", "method")
SHORT_NAMES = {
    "eps_centered": ShortName(
        penalties.EpsCenteredGradientPenalty, ("weight", "scale", "direction", "points", "method")
    ),
    "zero_centered": ShortName(penalties.GradientPenalty),
    "one_centered": ShortName(penalties.GradientPenalty, _AROUND, {"center": 1.0}),
    "one_sided": ShortName(penalties.GradientPenalty, _AROUND, {"center": 1.0, "one_sided": True}),
    "max": ShortName(penalties.MaxGradientPenalty),
    "dragan": ShortName(penalties.dragan, _AT_POINTS),
    "r1": ShortName(penalties.GradientPenalty, _AT_POINTS, {"points": "real"}),
    "r2": ShortName(penalties.GradientPenalty, _AT_POINTS, {"points": "fake"}),
    "adversarial": ShortName(penalties.AdversarialLipschitzPenalty, ("weight",)),
}


@dataclass(frozen=True)
class TermConfig:
    """One term.

    Args:
        class_path: of its class, such as ``my_module.MyPenalty``, or a short name.
        init_args: arguments of the class; of arguments that are objects, again ``{class_path: ..., init_args: ...}``.
        interval: discriminator updates from one call to the next.
        multiply_by_interval: multiply it by the interval, as StyleGAN2 does.
        target: strength rho to hold, which its weight then follows, see ``StrengthControlledPenalty``; None keeps the
            weight.
    """

    class_path: str
    init_args: dict[str, Any] = field(default_factory=dict)
    interval: int = 1
    multiply_by_interval: bool = False
    target: float | None = None

    @classmethod
    def of(cls, entry: Any) -> "TermConfig":
        """The term that an entry of a list describes."""
        known = [item.name for item in fields(cls)]
        entry = entry if isinstance(entry, dict) else {entry: None}
        unknown = [name for name in entry if name not in known]
        if unknown or not isinstance(entry.get("class_path"), str):
            problem = f"{unknown[0]!r} is not one of them" if unknown else "class_path is missing"
            raise InputError(f"each of --penalties has {', '.join(known)}: {problem}")
        term = cls(**entry)
        require_whole(1, MANY, interval=term.interval)
        require_number(0, 1, target=term.target)
        if not isinstance(term.init_args, dict):
            raise InputError(f"init_args of {term.class_path} are names with values, not {term.init_args!r}")
        return term

    def build(self) -> LazyPenalty:
        """The term; the class and its arguments are checked here."""
        term = _made(self.class_path, self.init_args)
        held = term if self.target is None else StrengthControlledPenalty(term, self.target)
        return LazyPenalty(held, self.interval, self.multiply_by_interval)


def _made(path: str, arguments: Mapping[str, Any]) -> Any:
    """What a class path with arguments stands for: something that can be called."""
    short = SHORT_NAMES.get(path)
    make = named(path, "penalty") if short is None else short.make
    # Whoever wrote the file: classes of another kind, and functions of other modules, are not to be called.
    is_callable = isinstance(make, type) and any("__call__" in vars(base) for base in make.__mro__)
    if not (is_callable or getattr(make, "__module__", None) == penalties.__name__):
        raise InputError(f"{path} is not a penalty: its instances cannot be called")
    given = {**(short.fixed if short else {}), **arguments}
    try:
        return make(**_checked(path, make, given))
    except TypeError as error:
        raise InputError(f"{path}: {first_line(error)}") from error


def _checked(path: str, make: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as their types want them, objects among them made."""
    parameters = inspect.signature(make).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for name in given.keys() - parameters.keys():
            near = difflib.get_close_matches(name, parameters, n=1)
            meant = f"is {near[0]} meant?" if near else f"it has {', '.join(parameters)}"
            raise InputError(f"{path} has no argument {name}: {meant}")
    nested = {name: value for name, value in given.items() if isinstance(value, (dict, Namespace))}
    parts = {name: value for name, value in nested.items() if "class_path" in value}
    hints = get_type_hints(make.__init__ if isinstance(make, type) else make)
    parser = ArgumentParser(exit_on_error=False)
    for name in given.keys() - parts.keys():
        parser.add_argument(f"--{name}", type=hints.get(name, Any))
    try:
        values = parser.parse_object({name: value for name, value in given.items() if name not in parts})
    except (ArgumentError, ValueError) as error:
        raise InputError(f"{path}: {in_words(str(error))}") from error
    objects = {name: _made(part["class_path"], dict(part.get("init_args") or {})) for name, part in parts.items()}
    return {**values.as_dict(), **objects}
