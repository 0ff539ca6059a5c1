"""The progress of a training: a bar on a terminal, plain lines in a log file."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tqdm.auto import tqdm

_SECONDS_TO_FIRST_LINE, _SECONDS_BETWEEN_LINES = 3.0, 10.0
_MARKS, _SECONDS_BETWEEN_MARKS = 30, 1.0  # the speed is that since the oldest mark: of half a minute, or of 30 steps


def duration(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``12 min``, ``7.5 h``, ``3.2 days``."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 86400:.1f} days"


class Progress:
    """Shows steps done of ``first`` to ``last``, recent speed, time left and the newest losses, or nothing."""

    def __init__(self, first: int, last: int, visible: bool):
        self.last, self.visible = last, visible
        self._marks = deque([(time.monotonic(), first)], maxlen=_MARKS)
        self._next_line, self._text = time.monotonic() + _SECONDS_TO_FIRST_LINE, ""
        terminal = visible and sys.stderr.isatty()
        self.bar = tqdm(total=last, initial=first, unit="step", dynamic_ncols=True) if terminal else None

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Reports that ``step`` steps are done; ``numbers`` are the newest means."""
        self._text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self.bar is not None:
            self.bar.set_postfix_str(self._text, refresh=False)
        self.advance(step, now=step == self.last)

    def advance(self, step: int, now: bool = False) -> None:
        """Reports that ``step`` steps are done; a log file gets a line when it is time for one, or ``now``."""
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            return
        clock = time.monotonic()
        if self.visible and (now or clock >= self._next_line):
            self._next_line = clock + _SECONDS_BETWEEN_LINES
            print(self._line(step, clock), file=sys.stderr, flush=True)
        if clock - self._marks[-1][0] >= _SECONDS_BETWEEN_MARKS:
            self._marks.append((clock, step))

    def _line(self, step: int, clock: float) -> str:
        began, first = self._marks[0]
        rate = (step - first) / max(clock - began, 1e-9)
        speed = f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s/step"
        left = f"{duration((self.last - step) / rate) if rate else '?'} left" if step < self.last else "trained"
        return f"step {step}/{self.last}  {speed}  {left}  {self._text}".rstrip()

    @contextmanager
    def pause(self, line: str) -> Iterator[None]:
        """Says what is done now, besides training; the time that it takes does not count for the speed."""
        self.say(line)
        began = time.monotonic()
        try:
            yield
        finally:
            away = time.monotonic() - began
            self._marks = deque([(moment + away, step) for moment, step in self._marks], maxlen=_MARKS)

    def say(self, line: str) -> None:
        """Prints a line without tearing the bar."""
        if self.visible:
            tqdm.write(line, file=sys.stderr) if self.bar is not None else print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
