"""Presets as data: ``RECIPE/PRESET.yaml``, a line for each option, called as on the command line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .option_files import read_options

PRESETS = Path(__file__).with_name("presets")
RECIPE_FILE = "recipe.yaml"
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class PresetFolder(Mapping[str, Mapping[str, Any]]):
    """The presets of a recipe, each read when it is asked for.

    A preset may stand on another one: ``extends: PRESET`` for one beside it, ``extends: RECIPE/PRESET`` for one of the
    folder beside it or of this package. What it stands on stands on nothing else.

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
            raise InputError(
                f"{self.folder} holds no preset {', '.join(missing) or 'at all'}: a preset is a NAME.yaml"
            )
        self._names = [*first, *(name for name in found if name not in first)]

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        if name not in self._names:
            raise KeyError(name)
        own, base = _read(self.folder / f"{name}.yaml")
        if base is None:
            return own
        inherited, further = _read(self._path_of(base, name))
        if further is not None:
            raise InputError(f"preset {name} extends {base}, which extends {further}: a preset may build on one other")
        return {**inherited, **own}

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


def _read(path: Path) -> tuple[dict[str, Any], Any]:
    """The option values of a file, and what it extends."""
    content = read_options(path, f"the preset {path}")
    return content, content.pop("extends", None)
