"""Networks and techniques that can be measured, by name; without PyTorch, so that ``--help`` comes at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from ..errors import InputError
from ..recipes import Recipe, get_recipe

BASELINE = "none"
STEPS = ("discriminator", "generator", "iteration")
_KNOWN = yaml.safe_load(Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Model:
    """Networks and how they are trained: a preset of a recipe. The fields stand in ``catalogue.yaml``."""

    words: str
    recipe: str
    preset: str
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


MODELS = {name: Model(**values) for name, values in _KNOWN["models"].items()}
TECHNIQUES: dict[str, dict[str, Any]] = _KNOWN["techniques"]
DEFAULT: tuple[str, ...] = tuple(_KNOWN["default"])
CONDITIONS: dict[str, str] = _KNOWN["conditions"]
MEMORY: dict[str, str] = _KNOWN["memory"]


def options_of(technique: str) -> dict[str, Any]:
    """The options of a recipe that stand for A+B, and for nothing else."""
    options = dict(_KNOWN["baseline"])
    for part in technique.split("+") if technique != BASELINE else ():
        options |= TECHNIQUES[part]
    return options


def training_of(model: Model, technique: str, batch_size: int, **more: Any) -> tuple[Recipe, Namespace]:
    """The model's recipe, and its options for a training with the technique; ``more`` are further ones.

    The generator's batch grows with ``batch_size`` as the preset has it.
    """
    recipe = get_recipe(model.recipe)
    given = {"preset": model.preset, **model.options, **options_of(technique), **more}
    words = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()]
    _, options = recipe.parse(words)
    batches = (options.generator_batch_size or options.batch_size) // options.batch_size
    options.batch_size, options.generator_batch_size = batch_size, batch_size * batches
    return recipe, options


def techniques_in(text: str) -> list[str]:
    """Techniques from ``a,b+c``, checked, with the baseline first."""
    shorthand = {"all": tuple(TECHNIQUES), "default": DEFAULT}
    names = [name for word in listed(text, "--techniques") for name in shorthand.get(word, (word,))]
    for name in names:
        parts = [] if name == BASELINE else name.split("+")
        if unknown := [part for part in parts if part not in TECHNIQUES]:
            known = ", ".join((BASELINE, *TECHNIQUES))
            raise InputError(f"no technique {unknown[0]!r}; there are: {known}, and A+B for both at once")
        kinds = [next(iter(TECHNIQUES[part])) for part in parts]
        if len(set(kinds)) < len(kinds):
            raise InputError(f"{name} names two techniques of one kind: {', '.join(kinds)}")
    return list(dict.fromkeys((BASELINE, *names)))


def listed(text: str, option: str) -> list[str]:
    """The words of a comma-separated option, of which none is empty or stands twice."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise InputError(f"{option} has an empty name in {text!r}: write a,b")
    if twice := {word for word in words if words.count(word) > 1}:
        raise InputError(f"{option} names {', '.join(sorted(twice))} twice: name it once")
    return words
