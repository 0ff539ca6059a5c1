"""Isolates the tests from the network and from the user's caches, before anything imports the Hub client."""

import os
import tempfile

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="licfg-hf-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "1"

import pytest
import torch

torch.set_num_threads(1)  # small networks; two threads on a busy core are many times slower


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps its state in the process; a second Accelerator with other settings would be refused."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
