"""Tests on an accelerator of host memory, see ``accelerator.py``. Run by name: ``pytest tests/foreign/devices``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import accelerator

_REASON = accelerator.why_not()
if _REASON is None:
    accelerator.load()  # now, because autograd counts the devices once, at the first backward pass


@pytest.fixture(scope="session")
def device():
    """The strict device, or a skip that says what this machine lacks."""
    if _REASON is not None:
        pytest.skip(_REASON)
    return accelerator.load()
