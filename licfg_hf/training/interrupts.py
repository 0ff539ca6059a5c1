"""SIGTERM, SIGHUP, Ctrl-C and the end of the launcher as a wish to stop after a checkpoint."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import psutil
import torch
from accelerate import Accelerator

from ..signals import SignalHandler

_NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SAME_WISH = 2.0  # seconds in which terminals, launchers and schedulers repeat a signal
_BETWEEN_LOOKS = 1.0  # seconds
_BETWEEN_AGREEMENTS = 2.0  # seconds
_LAUNCHERS = ("accelerate", "accelerate-launch", "torchrun")


class StopRequested(BaseException):
    """A signal ends what is done at the moment; no Exception, so that nothing on the way takes it for a failure."""


class StopSignals(SignalHandler):
    """Context in which a signal only sets ``received``; one that comes seconds later ends the process at once.

    The end of a launcher that does not pass signals on, such as ``accelerate launch``, counts as SIGTERM.
    """

    def __init__(self) -> None:
        super().__init__(_NUMBERS, self._receive)
        self.received: int | None = None
        self._received_at, self._at_once = 0.0, False
        self._ended = threading.Event()

    def __enter__(self) -> "StopSignals":
        super().__enter__()
        launcher = os.getppid()
        if signal.SIGTERM in self.handled and _is_launcher(launcher):
            threading.Thread(target=self._wait_for_the_end_of, args=(launcher,), daemon=True).start()
        return self

    def _wait_for_the_end_of(self, launcher: int) -> None:
        while not self._ended.wait(_BETWEEN_LOOKS):
            if os.getppid() != launcher:
                if self.received is None:
                    os.kill(os.getpid(), signal.SIGTERM)
                return

    def _receive(self, number: int) -> None:
        if self.received is None:
            self.received, self._received_at = number, time.monotonic()
            if self._at_once:
                raise StopRequested
        elif time.monotonic() - self._received_at > _SAME_WISH:
            self.restore()
            signal.raise_signal(number)

    def until_stopped(self, action: Callable[[], None]) -> None:
        """Does what a signal ends at once: it can be done again, and must not keep the process from stopping."""
        try:
            try:
                self._at_once = True
                if self.received is None:
                    action()
            finally:
                self._at_once = False
        except StopRequested:
            pass

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """What processes do together, which a signal must not tear: within ``until_stopped`` it acts at the end."""
        at_once, self._at_once = self._at_once, False
        try:
            yield
        finally:
            self._at_once = at_once
        if at_once and self.received is not None:
            raise StopRequested

    def restore(self) -> None:
        """Handles the signals as before, and waits no longer for the end of a launcher."""
        self._ended.set()
        super().restore()


class SharedStop:
    """Tells all processes, every few seconds, of signals that any of them received."""

    def __init__(self, signals: StopSignals, accelerator: Accelerator, step: int):
        self.signals, self.accelerator = signals, accelerator
        self._looked, self._looked_at, self._interval = step, time.monotonic(), 1

    def is_due(self, step: int) -> bool:
        """True if the processes ask each other after this step, as they agreed the last time."""
        if self.accelerator.num_processes == 1:
            return self.signals.received is not None
        return step >= self._looked + self._interval

    def agreed(self, step: int) -> int:
        """The largest signal that any process received, or 0; every process must call it after the same step."""
        own = self.signals.received or 0
        if self.accelerator.num_processes == 1:
            return own
        per_step = (time.monotonic() - self._looked_at) / max(1, step - self._looked)
        numbers = torch.tensor([[own, per_step]], device=self.accelerator.device)
        gathered = cast(torch.Tensor, self.accelerator.gather(numbers))
        received, per_step = gathered.amax(dim=0).tolist()
        fitting = int(_BETWEEN_AGREEMENTS / max(per_step, 1e-6))
        self._interval = max(1, min(fitting, 2 * self._interval))
        self._looked, self._looked_at = step, time.monotonic()
        return int(received)


def _is_launcher(process: int) -> bool:
    try:
        words = psutil.Process(process).cmdline()[:3]
    except psutil.Error:
        return False
    return any(Path(word).name in _LAUNCHERS or word.endswith("accelerate/commands/launch.py") for word in words)
