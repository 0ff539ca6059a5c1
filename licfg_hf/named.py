"""Classes and functions by name: those of this package, and a user's own by path or from an imported module."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .command_line import replaced
from .errors import InputError
from .files import user_path
from .text import first_line

IMPORTED: list[ModuleType] = []  # what ``--import`` named, in order
IMPORT_HELP = (
    "a module or FILE.py of your own, imported first: what it defines or registers can be named; can be given again"
)


def import_first(name: str) -> ModuleType:
    """A user's own module, by name or as a .py file; what it defines can be named without its path from then on.

    The current folder is searched, too.
    """
    path = user_path(name) if name.endswith(".py") else None
    if os.getcwd() not in sys.path:  # as for a script: an installed command does not look here by itself
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(name) if path is None else _from_file(path)
    except Exception as error:  # whatever the user's code raises
        known = " (a file is named with its ending: FILE.py)" if isinstance(error, ModuleNotFoundError) else ""
        raise InputError(f"--import {name}: {type(error).__name__}: {first_line(error)}{known}") from error
    if module not in IMPORTED:
        IMPORTED.append(module)
    return module


def imports_in(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into the modules that ``--import`` names and the other words."""
    names: list[str] = []

    def take(name: str | None) -> list[str]:
        if name is None:
            raise InputError("--import needs a module or a FILE.py")
        names.append(name)
        return []

    others = replaced(words, "import", take)
    return names, others


def _from_file(path: Path) -> ModuleType:
    known = sys.modules.get(path.stem)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == path.resolve():
            return known
        raise ImportError(f"another module is called {path.stem}: rename the file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def named(path: str, what: str) -> Any:
    """The class or function at a path such as ``my_module.MyPenalty``; ``what`` it is, for the message.

    A bare name is one of ``licfg_hf`` or of a module that ``--import`` named.
    """
    home, _, name = path.rpartition(".")
    homes = [importlib.import_module(__name__.partition(".")[0]), *IMPORTED]
    try:
        homes = [importlib.import_module(home)] if home else homes
    except Exception as error:  # whatever a user's module raises
        raise InputError(f"{what} {path}: {type(error).__name__}: {first_line(error)}") from error
    found = next((module for module in homes if hasattr(module, name)), None)
    if found is None:
        hint = f"{home} has none" if home else "write MODULE.NAME, or --import the module that has it"
        raise InputError(f"there is no {what} {path}: {hint}")
    return getattr(found, name)
