"""What can be measured, by name: networks and techniques. Without PyTorch, so that ``--help`` comes at once."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError

BASELINE = "none"
STEPS = ("discriminator", "generator", "iteration")


@dataclass(frozen=True)
class Model:
    """Networks and how they are trained.

    Attributes:
        words: what it is, for ``--help``.
        family: ``DDGAN``, ``BigGAN``, ``SNGAN`` or ``DCGAN``: the class names of this library without the ending.
        learning_rates: of generator and discriminator.
        size: height and width of the images.
        channels: colour channels of the images.
        classes: of a class-conditional GAN; None for others.
        generator, discriminator: arguments of the networks.
        loss: name of the adversarial loss.
        betas: of both Adams.
        ema_decay: of the averaged generator.
        discriminator_steps: discriminator updates in an iteration.
        generator_batches: images of a generator's update, in units of a discriminator's.
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


_DDGAN = {"family": "DDGAN", "learning_rates": (1.6e-4, 1.25e-4), "betas": (0.5, 0.9)}
_SMALL = {"base_channels": 32}

# Networks, optimizers and numbers of steps are those of the recipes for CIFAR-10; dcgan is there for laptops.
MODELS = {
    "ddgan": Model("DDGAN for CIFAR-10 (48.4 and 12.7 million parameters)", **_DDGAN),
    "ddgan-small": Model(
        "the same, narrow",
        **_DDGAN,
        generator=_SMALL,
        discriminator={"base_channels": 16},
        ema_decay=0.999,
    ),
    "biggan": Model(
        "class-conditional BigGAN for CIFAR-10, 4 discriminator steps",
        "BigGAN",
        (2e-4, 2e-4),
        classes=10,
        discriminator={"normalizers": ()},  # the techniques say what normalizes it
        loss="hinge",
        betas=(0.0, 0.999),
        discriminator_steps=4,
    ),
    "sngan": Model(
        "SNGAN's ResNet for 32 px, 128 channels in its discriminator, 5 discriminator steps",
        "SNGAN",
        (2e-4, 4e-4),
        loss="hinge",
        discriminator_steps=5,
        generator_batches=2,
    ),
    "dcgan": Model(
        "DCGAN for 32 px with 32 channels as the unit, no BatchNorm in its discriminator",
        "DCGAN",
        (2e-4, 2e-4),
        generator=_SMALL,
        discriminator={**_SMALL, "batch_norm": False},
        betas=(0.5, 0.999),
        ema_decay=0.999,
    ),
    "quickstart": Model(
        "the BigGAN of `biggan_eps_cifar --preset quickstart`, 8 px, 2 discriminator steps",
        "BigGAN",
        (1e-3, 1e-3),
        size=8,
        channels=1,
        classes=10,
        generator={"base_channels": 32, "channel_multipliers": (2, 1), "latent_dim": 32},
        discriminator={"base_channels": 32, "channel_multipliers": (1, 2), "normalizers": ()},
        loss="hinge",
        ema_decay=0.99,
        discriminator_steps=2,
    ),
}

# Name -> options of an objective, as in the recipes, on top of "no penalty".
_PENALTIES_ON_GRADIENTS = {
    "eps": {"penalty": "eps_centered", "penalty_weight": 0.01},
    "zero": {"penalty": "zero_centered", "penalty_weight": 0.01},
    "wgan_gp": {"penalty": "one_centered", "penalty_weight": 10.0},
    "max": {"penalty": "max", "penalty_weight": 0.1},
    "r1": {"penalty": "r1", "penalty_weight": 0.01},
}
_METHODS = ("tangent", "finite_difference")
TECHNIQUES: dict[str, dict[str, Any]] = {
    BASELINE: {},
    **_PENALTIES_ON_GRADIENTS,
    **{
        f"{name}:{method}": {**options, "penalty_method": method}
        for name, options in _PENALTIES_ON_GRADIENTS.items()
        for method in _METHODS
    },
    "alp": {"penalty": "adversarial", "penalty_weight": 10.0},
    "cr": {"consistency": "real"},
    "bcr": {"consistency": "both"},
    "spectral": {"normalizer": "spectral"},
    "stable_rank": {"normalizer": "stable_rank"},
    "gn": {"normalizer": "gradient"},
    "pgn": {"normalizer": "penalty_gradient"},
}
_LAZY = ("r1:lazy16", "eps:lazy15")  # StyleGAN2's interval, and DDGAN's
ALL = (*TECHNIQUES, *_LAZY)
# The centre of a penalty and the maximum change its cost little, so one penalty on interpolates stands for all.
DEFAULT = (
    BASELINE, "eps", "eps:tangent", "eps:finite_difference", "eps:lazy15", "wgan_gp", "r1", "r1:tangent", "r1:lazy16",
    "alp", "cr", "bcr", "spectral", "stable_rank", "gn", "pgn",
)  # fmt: skip


@dataclass(frozen=True)
class Technique:
    """One technique, or several at once.

    Attributes:
        name: as asked for.
        options: of the objective.
        lazy: None where every step does the same; else (technique of the steps where the penalty is due, technique
            of the others, interval): such a technique is not run, its cost is the average of theirs.
    """

    name: str
    options: Mapping[str, Any]
    lazy: tuple[str, str, int] | None = None


def parse(text: str) -> list[Technique]:
    """Techniques from ``a,b+c,d:lazy16``, with the baseline first and those that lazy ones are averages of.

    Raises:
        InputError: a name is not known, or techniques are combined that exclude each other.
    """
    shorthand = {"all": ALL, "default": DEFAULT}
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError("--techniques names none; `default` takes the usual ones")
    names = [name for word in words for name in shorthand.get(word, (word,))]
    found: dict[str, Technique] = {}
    for name in (BASELINE, *names):
        technique = _technique(name)
        needed = [] if technique.lazy is None else [_technique(part) for part in technique.lazy[:2]]
        found |= {one.name: one for one in (*needed, technique) if one.name not in found}
    return list(found.values())


def _technique(name: str) -> Technique:
    parts = name.split("+")
    lazy = [part for part in parts if re.search(r":lazy\d+$", part)]
    if lazy:
        return _lazy_technique(name, parts, lazy)
    options: dict[str, Any] = {}
    for part in parts:
        if part not in TECHNIQUES:
            raise InputError(
                f"no technique {part!r}; there are: {', '.join(ALL)}, PENALTY:lazyN, and A+B for both at once"
            )
        twice = set(options) & set(TECHNIQUES[part])
        if twice:
            raise InputError(f"{name} asks for two of a kind: {', '.join(sorted(twice))}")
        options |= TECHNIQUES[part]
    return Technique(name, options)


def _lazy_technique(name: str, parts: Sequence[str], lazy: Sequence[str]) -> Technique:
    stem, interval = re.fullmatch(r"(.*):lazy(\d+)", lazy[0]).groups()
    due = _technique("+".join(stem if part == lazy[0] else part for part in parts))
    if len(lazy) > 1 or not {"penalty", "consistency"} & set(TECHNIQUES[stem]):
        raise InputError(f"{name}: one penalty or consistency term can be lazy, and nothing else")
    if int(interval) < 1:
        raise InputError(f"{name}: the interval is at least 1")
    others = "+".join(part for part in parts if part != lazy[0]) or BASELINE
    return Technique(name, due.options, (due.name, others, int(interval)))
