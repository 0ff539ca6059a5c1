"""The machine that the process runs on: its processors, its devices and the software on it."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def usable_cores() -> int:
    """Processor cores that this process may use, which may be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """The processor's model, or its architecture where the system does not tell."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def best_device() -> "torch.device":
    """The machine's accelerator, else the CPU; the CPU also where ACCELERATE_USE_CPU=1, as in trainings."""
    import torch
    from accelerate.utils import parse_flag_from_env

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if accelerator is None or parse_flag_from_env("ACCELERATE_USE_CPU") else accelerator


def device_name(device: "torch.device") -> str:
    """The device's name, as a person calls it."""
    if device.type != "cuda":
        return f"{device.type} ({platform.machine()})"
    from torch.cuda import get_device_name

    return get_device_name(device)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python and of installed packages, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
