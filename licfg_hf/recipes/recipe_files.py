"""A recipe as a file: ``recipe.yaml`` beside its presets."""

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from .option_files import read_options
from .presets import RECIPE_FILE, PresetFolder
from .recipe import Recipe

_GIVEN = {item.name for item in fields(Recipe)} - {"name", "folder"}
_CARD = {"tags", "summary", "methods", "training", "papers", "notes"}


def read_recipe(folder: Path, clone: str | None = None) -> Recipe:
    """The recipe that a folder describes; it is called as the folder is.

    ``recipe.yaml`` holds the attributes of ``Recipe``: ``title``, ``components``, ``build`` and ``generator_step`` by
    their paths, ``presets`` as the order of those beside it, and ``card`` with ``tags``, ``summary``, ``papers`` and
    ``notes``, each a text or the name of one of this package's ``texts.yaml``.

    Args:
        folder: of the files.
        clone: folder of a clone in which a script of the same name runs it.

    Raises:
        InputError: a file is missing, or holds something else.
    """
    path = folder / RECIPE_FILE
    content = read_options(path, f"the recipe {path}")
    card = content.get("card", {})
    unknown = [*(content.keys() - _GIVEN), *(f"card.{name}" for name in card.keys() - _CARD)]
    missing = {"title", "components", "build"} - content.keys()
    if unknown or missing:
        problem = f"knows no {unknown[0]!r}" if unknown else f"needs {', '.join(sorted(missing))}"
        raise InputError(f"the recipe {path} {problem}: it has {', '.join(sorted(_GIVEN))}")
    content["presets"] = PresetFolder(folder, content.get("presets", ()))
    return Recipe(name=folder.name, folder=clone, **{**content, "card": _card(card)})


def _card(written: dict[str, Any]) -> dict[str, Any]:
    """Variables of the model card's template; names of texts are replaced by the texts."""
    texts = _texts()
    card = {name: written[name] for name in ("tags", "summary") if name in written}
    card["methods"] = {**texts["methods"], **texts.get(written.get("methods", ""), {})}
    if "training" in written:
        card["training"] = texts["training"].get(written["training"], written["training"])
    if "papers" in written:
        card["citation"] = "\n".join(texts["papers"].get(paper, paper) for paper in written["papers"])
    if "notes" in written:
        card["notes"] = [texts["notes"].get(note, note) for note in written["notes"]]
    return card


@cache
def _texts() -> dict[str, Any]:
    return read_options(Path(__file__).with_name("texts.yaml"), "the texts of the recipes")
