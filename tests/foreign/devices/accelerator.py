"""An accelerator for machines that have none: ``accelerator.load()`` gives a device that is as strict as CUDA.

Its operators compute on the CPU, so values are real. It refuses what CUDA refuses, within ``like_mps`` also what
Apple's MPS refuses, and ``Waits`` names the lines at which a program would wait for a GPU. The device stays in its
process for good and PyTorch takes it for the machine's own, so its tests run in a process of their own.
"""

import os
import shutil
import sys
import sysconfig
import threading
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

import torch
from torch.utils import cpp_extension

NAME = "strict"
_SOURCE = Path(__file__).with_name("accelerator.cpp")


def why_not() -> str | None:
    """What this machine lacks to build the device; None if nothing."""
    compiler = os.environ.get("CXX", "c++")
    lacking = {
        f"a C++ compiler ({compiler})": shutil.which(compiler) is None,
        "ninja": not cpp_extension.is_ninja_available(),
        "Python's headers": not Path(sysconfig.get_paths()["include"], "Python.h").is_file(),
    }
    missing = [name for name, is_missing in lacking.items() if is_missing]
    return f"the device of these tests is compiled, which needs {' and '.join(missing)}" if missing else None


@cache
def _compiled() -> types.ModuleType:
    os.environ.setdefault("MAX_JOBS", "1")
    name = f"licfg_hf_{NAME}_{torch.__version__}".replace(".", "_").replace("+", "_")
    return cpp_extension.load(name, [str(_SOURCE)], extra_cflags=["-O0", "-w"])


@cache
def load() -> torch.device:
    """The device, built at the first call on a machine and registered in this process."""
    extension = _compiled()
    module = types.ModuleType(f"torch.{NAME}")
    module.__dict__.update(
        is_available=lambda: True,
        is_initialized=lambda: True,
        is_bf16_supported=lambda *_, **__: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        set_device=lambda device: None,
        synchronize=lambda device=None: None,
        _is_in_bad_fork=lambda: False,
        manual_seed=lambda seed: extension.seed(seed % 2**64),
        manual_seed_all=lambda seed: extension.seed(seed % 2**64),
        get_rng_state=lambda device=None: extension.random_state(),
        set_rng_state=lambda state, device=None: extension.set_random_state(state),
        get_amp_supported_dtype=lambda: [torch.bfloat16, torch.float16],
    )
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, module)
    torch.utils.generate_methods_for_privateuse1_backend()
    # On CUDA a module that moves keeps its parameters, on other devices only so: optimizers made before train them.
    torch.__future__.set_swap_module_params_on_conversion(True)
    return torch.device(NAME, 0)


@contextmanager
def like_mps() -> Iterator[None]:
    """Within it the device has no float64."""
    load()
    _compiled().without_float64(True)
    try:
        yield
    finally:
        _compiled().without_float64(False)


@contextmanager
def in_accelerate() -> Iterator[None]:
    """Within it a new ``Accelerator``, and so a new ``Trainer``, works on the device."""
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    device, on_cpu = load(), os.environ.pop("ACCELERATE_USE_CPU", None)
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState(cpu=True)
    PartialState._shared_state["device"] = device
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        if on_cpu is not None:
            os.environ["ACCELERATE_USE_CPU"] = on_cpu


class Waits:
    """Counts what a program waits for while this is entered, as (what, where) -> times.

    Waits are reads of a value (``item``, ``if tensor``), blocking copies between host and device, and operators whose
    result has a size that depends on values. A GPU does not wait for copies that do not block, if the memory of the
    host is pinned; they are counted in ``unblocking``. ``where`` is the innermost line of this project.
    """

    def __init__(self) -> None:
        self.found: Counter[tuple[str, str]] = Counter()
        self.unblocking: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> "Waits":
        load()
        _compiled().listen(self._heard)
        return self

    def __exit__(self, *error: object) -> None:
        _compiled().listen(None)

    def __str__(self) -> str:
        return "\n".join(f"{times} x {what} at {where}" for (what, where), times in self.found.most_common())

    def _heard(self, what: str) -> None:
        (self.unblocking if what.startswith("asynchronous") else self.found)[what, _place(sys._getframe(1))] += 1


def _place(frame: FrameType | None) -> str:
    """The innermost line of the package, and what it called, where that waited."""
    if threading.current_thread() is not threading.main_thread():
        return "a backward pass"  # which autograd runs in a thread of its own
    frames = []
    while frame is not None:
        if Path(frame.f_code.co_filename) != Path(__file__):
            path = Path(frame.f_code.co_filename)
            frames.append(f"{path.parent.name}/{path.name}:{frame.f_lineno} ({frame.f_code.co_name})")
            if "licfg_hf" in path.parts and "tests" not in path.parts:
                break
        frame = frame.f_back
    return frames[-1] if len(frames) == 1 or frame is None else f"{frames[-1]}, which called {frames[0]}"
