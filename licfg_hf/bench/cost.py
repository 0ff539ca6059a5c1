"""The cost of one step: floating-point operations and bytes."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    """Sums PyTorch's formulas of operations; its own FlopCounterMode has hooks that fail in a double backward."""

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if (formula := flop_registry.get(function._overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=output)
        return output


def count_flops(step: Callable[[], Any]) -> int:
    """Operations of an uncompiled step: its convolutions and matrix products, two for a product and a sum."""
    with _Counter() as counter:
        step()
    return counter.total


def peak_bytes(step: Callable[[], Any], device: torch.device) -> int | None:
    """The most bytes that a step holds at once beyond what was allocated before it; None where nothing can tell.

    The step runs once, much slower than otherwise. Drop old gradients first: on the CPU nobody sees their release.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    profiler: Any = recorded.profiler
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate((event.nbytes() for event in sorted(events, key=lambda one: one.start_ns())), initial=0))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler's library writes lines to the process's stderr that no setting turns off."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def resident_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors, each storage counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
