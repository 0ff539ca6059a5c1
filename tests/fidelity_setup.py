"""torch-fidelity for the tests."""

import sys
from pathlib import Path

import pytest
from timm_setup import require_timm

_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "fidelity"


def require_fidelity():
    """The installed torch-fidelity, or the one in .cache/fidelity (see .ci/run); skips the test where neither is."""
    require_timm()  # torch-fidelity imports torchvision, which comes with it
    if _CACHE.is_dir():
        sys.path.insert(0, str(_CACHE))
    try:
        return pytest.importorskip("torch_fidelity", reason="no torch-fidelity is installed or in .cache/fidelity")
    finally:
        if _CACHE.is_dir():
            sys.path.remove(str(_CACHE))
