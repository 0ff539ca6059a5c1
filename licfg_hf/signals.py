"""The reaction of a process to signals that ask it to end."""

import signal
import threading
from collections.abc import Callable, Collection
from typing import Any


class Terminated(BaseException):
    """SIGTERM came; no Exception, so that nothing on the way out takes it for a failure."""


def terminate(number: int) -> None:
    """Raises ``Terminated``, as Ctrl-C raises KeyboardInterrupt, so that unfinished files are removed."""
    raise Terminated


class SignalHandler:
    """Context in which a function receives the numbers of signals; afterwards each is handled as before.

    A signal that the parent had ignored, as ``nohup`` does with SIGHUP, stays ignored. Only the main thread can
    handle signals: in another one nothing changes.
    """

    def __init__(self, numbers: Collection[int], receive: Callable[[int], None]):
        self.numbers, self.receive = numbers, receive
        self.handled: dict[int, Any] = {}  # what handled them before

    def __enter__(self) -> "SignalHandler":
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.handled[number] = signal.signal(number, lambda number, frame: self.receive(number))
        return self

    def end_at_once(self) -> None:
        """From here on, a signal ends the process as if nothing handled it."""
        for number in self.handled:
            signal.signal(number, signal.SIG_DFL)

    def restore(self) -> None:
        """Handles the signals as before the context."""
        for number, handler in self.handled.items():
            signal.signal(number, handler)
        self.handled.clear()

    def __exit__(self, *failure: object) -> None:
        self.restore()
