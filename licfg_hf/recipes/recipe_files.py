"""A recipe as files: ``recipe.yaml``, and beside it its presets, ``PRESET.yaml``, a line for each option."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from .option_files import read_options
from .recipe import Recipe

PRESETS = Path(__file__).with_name("presets")
RECIPE_FILE = "recipe.yaml"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_GIVEN = {item.name for item in fields(Recipe)} - {"name", "folder"}
_NO_OPTIONS = {"extends", "row", "differs"}  # of a preset
_CARD = {"tags", "summary", "methods", "training", "papers", "notes"}


class PresetFolder(Mapping[str, Mapping[str, Any]]):
    """The presets of a recipe, each read when it is asked for.

    A preset may stand on another one: ``extends: PRESET`` for one beside it, ``extends: RECIPE/PRESET`` for one of the
    folder beside it or of this package. What it stands on stands on nothing else.

    ``row: ROW`` names the line of a published table that it stands for, see ``published``, and ``differs`` says why it
    takes something else: name of the setting -> the reason, or the name of one of this package's ``texts.yaml``. The
    reasons of the preset that it stands on hold for it, too; ``null`` takes one back.

    Args:
        folder: of the files ``PRESET.yaml``.
        first: names in the order of ``--help``, the default first; all others follow by the alphabet.

    Raises:
        InputError: the folder holds no preset, or not one of ``first``.
    """

    def __init__(self, folder: Path | str, first: Sequence[str] = ()):
        self.folder = Path(folder)
        found = sorted(path.stem for path in self.folder.glob("*.yaml") if path.name != RECIPE_FILE)
        missing = [name for name in first if name not in found]
        if missing or not found:
            what = ", ".join(missing) or "at all"
            raise InputError(f"{self.folder} holds no preset {what}: a preset is a NAME.yaml")
        self._names = list(dict.fromkeys([*first, *found]))

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        if name not in self._names:
            raise KeyError(name)
        inherited, own = self._read(name)
        return {key: value for key, value in (inherited | own).items() if key not in _NO_OPTIONS}

    def row(self, name: str) -> str | None:
        """The published row that a preset stands for."""
        return self._read(name)[1].get("row")

    def reasons(self, name: str, inherited: bool = True) -> dict[str, str]:
        """Setting -> why a preset takes another one than its row."""
        base, own = (part.get("differs", {}) for part in self._read(name))
        texts = _texts()["differences"]
        reasons = {**base, **own} if inherited else own
        return {key: texts.get(why, why) for key, why in reasons.items() if why is not None}

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the files hold of the preset that it stands on, and of itself."""
        own = _read_preset(self.folder / f"{name}.yaml")
        base = own.get("extends")
        if base is None:
            return {}, own
        inherited = _read_preset(self._path_of(base, name))
        if (further := inherited.get("extends")) is not None:
            raise InputError(f"preset {name} extends {base}, which extends {further}: a preset may build on one other")
        return inherited, own

    def _path_of(self, base: Any, name: str) -> Path:
        if not isinstance(base, str) or not _NAME.fullmatch(base):
            raise InputError(f"preset {name} extends {base!r}: write PRESET or RECIPE/PRESET")
        places = [self.folder.parent, PRESETS] if "/" in base else [self.folder]
        path = next((place / f"{base}.yaml" for place in places if (place / f"{base}.yaml").is_file()), None)
        if path is None:
            raise InputError(f"preset {name} extends {base}, which does not exist")
        return path

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _read_preset(path: Path) -> dict[str, Any]:
    return read_options(path, f"the preset {path}")


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
    presets = PresetFolder(folder, content.get("presets", ()))
    return Recipe(name=folder.name, folder=clone, **{**content, "presets": presets, "card": _card(card)})


def _card(written: dict[str, Any]) -> dict[str, Any]:
    """Variables of the model card's template; names of texts are replaced by the texts."""
    texts = _texts()
    card = {name: written[name] for name in ("tags", "summary") if name in written}
    card["methods"] = texts["methods"] | texts.get(written.get("methods", ""), {})
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
