"""timm for the tests: the installed one, or the one in .cache/timm (see .ci/run), whose torchvision has no operators.

There is no torchvision for the CPU build of torch that the tests use. timm needs it only to be imported, so two
operators that it expects are declared. Only tests of timm networks call ``require_timm``, when they run: other
libraries take an importable torchvision for a working one.
"""

import importlib
import sys
from pathlib import Path

import pytest
import torch

_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "timm"


def _declare_operators() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def import_timm() -> str | None:
    """Imports timm, or says why it is not to be had."""
    importlib.import_module("licfg_hf.training")  # diffusers, datasets and accelerate decide now what is installed
    if _CACHE.is_dir():
        sys.path.insert(0, str(_CACHE))
    try:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            _declare_operators()
        importlib.import_module("timm")
    except ImportError as error:
        return f"timm is not installed, nor in {_CACHE.parent.name}/{_CACHE.name}: {error}"
    finally:
        if _CACHE.is_dir():
            sys.path.remove(str(_CACHE))
    return None


def require_timm() -> None:
    """Skips the test, with the reason, where there is no timm."""
    reason = import_timm()
    if reason is not None:
        pytest.skip(reason)
