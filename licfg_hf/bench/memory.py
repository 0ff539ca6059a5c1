"""The most memory that one step holds, over what is there between steps."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from .timing import synchronize

# What a peak is, by the kind of device; it goes with every number.
MEANING = {
    "cuda": "peak of the memory that PyTorch's CUDA allocator has given out (torch.cuda.max_memory_allocated)",
    "cpu": "peak of the bytes that PyTorch's CPU allocator has given out and not taken back (torch.profiler)",
}


def peak_bytes(step: Callable[[], Any], device: torch.device) -> int | None:
    """The most bytes that a step holds at once beyond what was allocated before it; None where nothing can tell.

    The step runs once, much slower than it would otherwise: not to be timed. What it releases of what was there
    before makes room on an accelerator, and goes unseen on the CPU: drop old gradients first.
    """
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return max(accumulate(_cpu_allocations(step), initial=0)) if device.type == "cpu" else None


def _cpu_allocations(step: Callable[[], Any]) -> list[int]:
    """Bytes of each allocation, and of each release as a negative number, in their order."""
    with _without_profiler_chatter(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()
    moments = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return [count for _, count in sorted(moments, key=lambda moment: moment[0])]


@contextmanager
def _without_profiler_chatter() -> Iterator[None]:
    """The profiler's library writes lines to the process's stderr that no setting turns off."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def resident_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors, each storage counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
