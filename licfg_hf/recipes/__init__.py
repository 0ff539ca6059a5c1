"""Recipes: published settings as presets, run by name from ``recipes/NAME.py`` or ``licfg-hf train NAME``.

A recipe of this package is a folder ``presets/NAME``: ``recipe.yaml`` and a file for each preset. One of your own is
such a folder, or a ``Recipe`` in Python.
"""

from pathlib import Path

from ..command_line import one_line_errors
from ..errors import InputError
from .recipe import Recipe
from .recipe_files import PRESETS, RECIPE_FILE, PresetFolder, read_recipe

NAMES = tuple(sorted(path.parent.name for path in PRESETS.glob(f"*/{RECIPE_FILE}")))
_REGISTERED: dict[str, Recipe] = {}

__all__ = ["NAMES", "PresetFolder", "Recipe", "get_recipe", "main", "read_recipe", "register_recipe"]


def register_recipe(recipe: Recipe) -> Recipe:
    """Makes a recipe of yours known by its name, to ``licfg-hf train NAME --import MODULE``.

    Raises:
        InputError: a recipe of this package has that name.
    """
    if recipe.name in NAMES:
        raise InputError(f"there is a recipe {recipe.name!r} already: give yours another name")
    _REGISTERED[recipe.name] = recipe
    return recipe


def get_recipe(name: str) -> Recipe:
    """A recipe by name, or by the folder of its ``recipe.yaml``.

    Raises:
        InputError: there is no such recipe; the message lists those there are.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name in NAMES:
        return read_recipe(PRESETS / name, "recipes")
    if name and (Path(name) / RECIPE_FILE).is_file():
        return read_recipe(Path(name))
    raise InputError(f"no recipe {name!r}; there are: {', '.join([*NAMES, *_REGISTERED])}")


def main(recipe: str | Recipe, arguments: list[str] | None = None) -> None:
    """Runs a recipe, by its name or itself, with command-line arguments (those of the process by default).

    Raises:
        SystemExit: it was stopped, or failed in a way that a user can mend; one line on stderr says how.
    """
    with one_line_errors("; the same command continues from there"):
        (get_recipe(recipe) if isinstance(recipe, str) else recipe).run(arguments)
