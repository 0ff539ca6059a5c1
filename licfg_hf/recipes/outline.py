"""The options of a class, without importing it: its signature and docstring, read from the source.

Importing a network imports PyTorch and diffusers, which takes seconds; ``--help`` and the refusal of a wrong option
should not.
"""

import ast
import importlib
from copy import copy
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from ..named import named

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = f"{__name__.partition('.')[0]}."


def outline(component: str | type) -> type:
    """A class with the name, docstring and arguments of another one; that is all it has.

    A class of this package is given by its path, such as ``licfg_hf.models.SNGANGenerator``, and is not imported. Any
    other class, or the path of one, stands for itself.
    """
    if isinstance(component, type):
        return component
    module, _, name = component.rpartition(".")
    if component.startswith(_PACKAGE):
        try:
            return _value(module, name)
        except (OSError, KeyError):  # no source, or written in a way that this cannot follow: only importing helps
            pass
    return named(component, "class")


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """Every name at the top of a module of this package -> the statement that makes it."""
    path = _ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    top = ast.parse(file.read_text(encoding="utf-8")).body
    # What is imported for type checkers alone is imported on first use elsewhere.
    found: dict[str, ast.stmt] = {}
    for node in top + [inner for block in top if isinstance(block, ast.If) for inner in block.body]:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


@cache
def _value(module: str, name: str) -> Any:
    """What a name of a module stands for; of a class, the outline. A KeyError where its source does not say."""
    node = _definitions(module)[name]
    if isinstance(node, ast.ClassDef):
        return _class(module, node)
    if isinstance(node, ast.Import):
        return importlib.import_module(name)
    if isinstance(node, ast.ImportFrom):
        original = next(alias.name for alias in node.names if name in (alias.asname, alias.name))
        package = module if _ROOT.joinpath(*module.split(".")).is_dir() else module.rpartition(".")[0]
        home = resolve_name("." * node.level + (node.module or ""), package)
        return _value(home, original) if node.level else getattr(importlib.import_module(home), original)
    if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
        return eval(compile(ast.Expression(node.value), module, "eval"), _namespace(module, node.value))
    raise KeyError(name)


def _namespace(module: str, *nodes: ast.AST) -> dict[str, Any]:
    """The values of the names that stand in code of a module."""
    names = {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}
    return {name: _value(module, name) for name in names if name in _definitions(module)}


def _class(module: str, node: ast.ClassDef) -> type:
    fields = [decorator for decorator in node.decorator_list if "dataclass" in ast.dump(decorator)]
    kept: list[ast.stmt] = [item for item in node.body if isinstance(item, ast.Expr) and item is node.body[0]]
    if fields:
        kept += [item for item in node.body if isinstance(item, (ast.Assign, ast.AnnAssign))]
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            init = copy(item)
            init.decorator_list, init.body = [], [ast.Pass()]
            kept.append(init)
    bare = copy(node)
    bare.bases, bare.keywords, bare.decorator_list, bare.body = [], [], fields, kept or [ast.Pass()]
    # jsonargparse imports the module that a class names, and each of the packages around it.
    namespace = {"__name__": "builtins", **_namespace(module, bare)}
    tree = ast.fix_missing_locations(ast.Module([bare], []))
    exec(compile(tree, module, "exec"), namespace)
    return namespace[node.name]
