"""The house: what imports what, and what stands at the top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import licfg_hf

ROOT = Path(__file__).resolve().parents[1]
# Each part may import the parts below it, never above.
ORDER = (
    ("command_line", "errors", "files", "images", "machine", "named", "ranges", "seeds", "signals", "staging", "text"),
    ("objective",),
    ("models", "schedulers"),
    ("convert", "pipelines", "data"),
    ("evaluation", "diagnostics"),
    ("hub",),
    ("training",),
    ("recipes",),
    ("bench",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def test_public_names_exist():
    for name in licfg_hf.__all__:
        assert getattr(licfg_hf, name).__name__ == name
    assert set(licfg_hf.__all__) <= set(dir(licfg_hf))


def test_losses_and_penalties_import_only_torch():
    code = "import sys; from licfg_hf import GradientPenalty, get_loss; print('diffusers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_package_itself_imports_next_to_nothing():
    code = "import sys; before = set(sys.modules); import licfg_hf; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    new = {name.split(".")[0] for name in found.stdout.split()}
    assert not new & {"torch", "email", "zipfile", "logging"}  # importlib.metadata alone took 0.1 s


def test_imports_run_one_way():
    package = ROOT / "licfg_hf"
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = parts[: len(parts) - node.level]
                target = (*base, *(node.module or "").split("."))[0] or parts[0]
                assert LEVEL[target] <= LEVEL[parts[0]], f"{path} imports {target}"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone: nothing says what belongs to it")
def test_top_level_is_what_it_should_be():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {line.split("/")[0] for line in tracked.splitlines()}
    folders = {"licfg_hf", "recipes", "model_cards", "tests"}
    files = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"}
    assert folders | files == {name for name in names if not name.startswith(".")}
