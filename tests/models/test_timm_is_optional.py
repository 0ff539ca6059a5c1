"""What happens without timm; these tests need none."""

import subprocess
import sys

import pytest

from licfg_hf import ProjectedDiscriminator


def test_importing_everything_imports_no_timm():
    code = (
        "import sys, licfg_hf, licfg_hf.models, licfg_hf.models.heads, licfg_hf.cli; licfg_hf.ProjectedDiscriminator; "
        "print(sorted({'timm', 'torchvision'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_missing_timm_is_one_line_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'licfg_hf\[timm\]'") as error:
        ProjectedDiscriminator()
    assert "import of timm halted" in str(error.value) and "\n" not in str(error.value)


def test_a_timm_that_fails_for_another_reason_says_so(monkeypatch, tmp_path):
    """A torchvision for another torch raises RuntimeError when timm imports it."""
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"\(operator torchvision::nms does not exist\).*licfg_hf\[timm\]"):
        ProjectedDiscriminator()
