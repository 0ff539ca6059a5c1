"""Recipes: published settings as presets, run by name from ``recipes/NAME.py`` or ``licfg-hf train NAME``."""

from importlib import import_module

from ..command_line import one_line_errors
from ..errors import InputError
from .recipe import Recipe

NAMES = (
    "biggan_eps_cifar",
    "biggan_eps_imagenet",
    "biggan_pgn_cifar",
    "ddgan_eps_celebahq",
    "ddgan_eps_cifar",
    "ddgan_eps_lsun",
    "distill_diffusion",
    "lgan_cifar",
    "licfg_biggan_cifar",
    "licfg_cifar",
    "licfg_ddgan_cifar",
    "licfg_imagenet",
    "licfg_lsun",
    "licfg_mnist",
    "projected_gan_cifar",
    "sngan_pgn_celebahq",
    "sngan_pgn_cifar",
    "sngan_pgn_stl10",
)

__all__ = ["NAMES", "Recipe", "get_recipe", "main"]


def get_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        InputError: there is no such recipe; the message lists those there are.
    """
    if name not in NAMES:
        raise InputError(f"no recipe {name!r}; there are: {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}").RECIPE


def main(recipe: str | Recipe, arguments: list[str] | None = None) -> None:
    """Runs a recipe, by its name or itself, with command-line arguments (those of the process by default).

    Raises:
        SystemExit: it was stopped, or failed in a way that a user can mend; one line on stderr says how.
    """
    with one_line_errors("; the same command goes on from there"):
        (get_recipe(recipe) if isinstance(recipe, str) else recipe).run(arguments)
