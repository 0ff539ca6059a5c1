"""Networks and techniques that can be measured, by name; without PyTorch, so that ``--help`` comes at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError

BASELINE = "none"
STEPS = ("discriminator", "generator", "iteration")
_KNOWN = yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Model:
    """Networks and how they are trained.

    The fields stand in ``catalogue.yaml`` with their meanings.
    """

    words: str
    family: str
    learning_rates: tuple[float, float]
    size: int = 32
    channels: int = 3
    classes: int | None = None
    generator: Mapping[str, Any] = field(default_factory=dict)
    discriminator: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "non_saturating"
    betas: tuple[float, float] = (0.0, 0.9)
    ema_decay: float = 0.9999
    discriminator_steps: int = 1
    generator_batches: int = 1


MODELS = {name: Model(**values) for name, values in _KNOWN["models"].items()}
# Name -> (kind, public name of the term or kind of the normalizer, its arguments).
TECHNIQUES: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    name: (kind, what, arguments) for name, (kind, what, arguments) in _KNOWN["techniques"].items()
}
DEFAULT: tuple[str, ...] = tuple(_KNOWN["default"])
CONDITIONS: dict[str, str] = _KNOWN["conditions"]
MEMORY: dict[str, str] = _KNOWN["memory"]


def parts(technique: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """What stands in the catalogue for each part of A+B; nothing for the baseline."""
    return [] if technique == BASELINE else [TECHNIQUES[part] for part in technique.split("+")]


def parse(text: str) -> list[str]:
    """Techniques from ``a,b+c``, checked, with the baseline first.

    Raises:
        InputError: a name is not known, missing or repeated, or techniques are combined that exclude each other.
    """
    shorthand = {"all": tuple(TECHNIQUES), "default": DEFAULT}
    names = [name for word in listed(text, "--techniques") for name in shorthand.get(word, (word,))]
    for name in names:
        unknown = [] if name == BASELINE else [part for part in name.split("+") if part not in TECHNIQUES]
        if unknown:
            known = ", ".join((BASELINE, *TECHNIQUES))
            raise InputError(f"no technique {unknown[0]!r}; there are: {known}, and A+B for both at once")
        kinds = [kind for kind, _, _ in parts(name)]
        if len(set(kinds)) < len(kinds):
            raise InputError(f"{name} names two techniques of one kind: {', '.join(kinds)}")
    return list(dict.fromkeys((BASELINE, *names)))


def listed(text: str, option: str) -> list[str]:
    """The words of a comma-separated option.

    Raises:
        InputError: a word is empty or stands twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise InputError(f"{option} has an empty name in {text!r}: write a,b")
    twice = {word for word in words if words.count(word) > 1}
    if twice:
        raise InputError(f"{option} names {', '.join(sorted(twice))} twice: name it once")
    return words
