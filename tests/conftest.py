"""Isolates the tests from the network and from the user's caches, before anything imports the Hub client."""

import os
import signal
import tempfile
from contextlib import nullcontext

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="licfg-hf-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "1"

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; processes of the tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
from another_processor import AnotherProcessor

torch.set_num_threads(1)  # small networks; two threads on a busy core are many times slower


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--another_processor", action="store_true", help="round matrix products by memory address and by size"
    )


@pytest.fixture(autouse=True)
def processor(request: pytest.FixtureRequest):
    """This processor, or with ``--another_processor`` one that rounds as it pleases."""
    with AnotherProcessor() if request.config.getoption("another_processor") else nullcontext():
        yield


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps its state in the process; a second Accelerator with other settings would be refused."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
