"""What a person sees while training runs: a bar on a terminal, plain lines in a log file."""

import sys
import time
from collections.abc import Mapping

from tqdm.auto import tqdm

_SECONDS_BETWEEN_LINES = 10.0


def duration(seconds: float) -> str:
    """Seconds as people say them: ``45 s``, ``12 min``, ``7.5 h``, ``3.2 days``."""
    for limit, unit, name in ((90, 1, "s"), (90 * 60, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 86400:.1f} days"


class Progress:
    """Shows steps done, speed, time left and the newest losses.

    Args:
        first: step the run begins at.
        last: step it ends at.
        visible: False shows nothing (all processes but one).
    """

    def __init__(self, first: int, last: int, visible: bool):
        self.first, self.last, self.visible = first, last, visible
        self.began = self.shown = time.monotonic()
        terminal = visible and sys.stderr.isatty()
        self.bar = tqdm(total=last, initial=first, unit="step", dynamic_ncols=True) if terminal else None

    def update(self, step: int, numbers: Mapping[str, float]) -> None:
        """Reports that ``step`` steps are done; ``numbers`` are the newest means."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if not self.visible or (now - self.shown < _SECONDS_BETWEEN_LINES and step < self.last):
            return
        self.shown = now
        rate = (step - self.first) / max(now - self.began, 1e-9)
        left = duration((self.last - step) / rate) if rate else "?"
        speed = f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s/step"
        print(f"step {step}/{self.last}  {speed}  {left} left  {text}", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Prints a line without tearing the bar."""
        if self.visible:
            tqdm.write(line, file=sys.stderr) if self.bar is not None else print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
