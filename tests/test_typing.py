"""What editors and type checkers see of the public names, and how many errors pyright finds."""

import ast
import json
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import licfg_hf

PACKAGE = Path(licfg_hf.__file__).parent
# Errors that each part may still have; a part that is not named has none. Lower a number when you have mended some.
MOST: dict[str, int] = {}


def pyright(*arguments: str | Path) -> list[dict]:
    """Its errors."""
    pytest.importorskip("pyright", reason="pip install 'licfg_hf[dev]'")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    result = subprocess.run([*command, *arguments], cwd=PACKAGE.parent, capture_output=True, text=True)
    found = json.loads(result.stdout)["generalDiagnostics"]
    return [one for one in found if one["severity"] == "error"]


def test_type_checkers_see_the_names_that_are_imported_on_first_use():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert sorted(seen) == licfg_hf.__all__
    for name, module in seen.items():
        assert getattr(licfg_hf, name) is getattr(import_module(f"licfg_hf.{module}"), name)
    assert all(alias.name == alias.asname for node in imports for alias in node.names)  # else it is private to them
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.slow
def test_a_misspelt_argument_is_an_error(tmp_path):
    lines = [
        "import licfg_hf",
        "from licfg_hf import EpsCenteredGradientPenalty",
        "EpsCenteredGradientPenalty(weight=1.0)",
        "EpsCenteredGradientPenalty(weight=1.0, sacle=1)",
        "EpsCenteredGradientPenalty(wieght=1)",
        "licfg_hf.r3_penalty",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    errors = pyright(tmp_path / "mine.py")
    assert {error["range"]["start"]["line"] for error in errors} == {3, 4, 5}
    assert 'No parameter named "wieght"' in {error["message"] for error in errors}


@pytest.mark.slow
def test_pyright_finds_no_more_errors_than_before():
    parts = [Path(error["file"]).relative_to(PACKAGE).parts[0] for error in pyright()]
    found = Counter(part.removesuffix(".py") for part in parts)
    more = {part: count for part, count in found.items() if count > MOST.get(part, 0)}
    assert not more, f"more than {MOST}"
