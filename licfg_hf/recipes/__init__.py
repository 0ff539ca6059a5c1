"""Recipes: published settings as presets, run by name from ``recipes/NAME.py`` or ``licfg-hf train NAME``."""

from importlib import import_module

from ..errors import InputError
from .recipe import Recipe, run

NAMES = ("ddgan_eps_cifar",)

__all__ = ["NAMES", "Recipe", "get_recipe", "main", "run"]


def get_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        InputError: there is no such recipe; the message lists those there are.
    """
    if name not in NAMES:
        raise InputError(f"no recipe {name!r}; there are: {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}").RECIPE


def main(name: str, arguments: list[str] | None = None) -> None:
    """Runs a recipe with command-line arguments (those of the process by default)."""
    run(get_recipe(name), arguments)
