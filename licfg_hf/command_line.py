"""The manners of every command: options are written out in full, and what a user can mend ends in one line."""

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .errors import InputError, TrainingDiverged, TrainingInterrupted, is_lack_of_memory
from .signals import Terminated
from .text import first_line, printable


class OptionParser(argparse.ArgumentParser):
    """A parser whose refusals are an ``InputError``; ``--max-steps`` is ``--max_steps``, ``--max_st`` is neither."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, allow_abbrev=False, **options)

    def error(self, message: str) -> None:
        """Works as in argparse, but raises, and without the usage."""
        raise InputError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Works as in argparse."""
        words = sys.argv[1:] if args is None else args
        if any("\0" in word for word in words):
            raise InputError("the options contain a zero byte")
        return super().parse_known_args(as_spelled(words, self._option_string_actions), namespace)


def as_spelled(words: Sequence[str], options: Collection[str]) -> list[str]:
    """The words with the options spelled as they are known: some people write hyphens, some underscores."""

    def spell(word: str) -> str:
        name, equals, value = word.partition("=")
        ways = (name, name.replace("-", "_").replace("__", "--", 1), name.replace("_", "-"))
        known = next((way for way in ways if way in options), name)
        return known + equals + value

    return [spell(word) if word.startswith("--") else word for word in words]


def replaced(words: Sequence[str], option: str, change: Callable[[str | None], list[str]]) -> list[str]:
    """The words, where ``change`` makes others of each ``--option VALUE`` and ``--option=VALUE``; None is no value."""
    found, left = [], list(words)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if name[:2] != "--" or name[2:].replace("-", "_") != option:
            found.append(name + equals + value)
        else:
            found += change(value if equals else left.pop(0) if left else None)
    return found


def require_no_more(words: Sequence[str], options: Collection[str]) -> None:
    """Refuses the first of the words that no option took, and names the one of the options that was probably meant."""
    for word in words:
        name = word.partition("=")[0]
        if not name.startswith("-"):
            raise InputError(f"{word!r} belongs to no option: an option takes one value; write a list as '[a, b]'")
        near = difflib.get_close_matches(name, options, n=1)
        raise InputError(f"there is no option {name}" + (f"; is {near[0]} meant?" if near else " (see --help)"))


@contextmanager
def one_line_errors(then: str = "") -> Iterator[None]:
    """Ends the process with one line on stderr where a user can mend the failure; a bug keeps its traceback.

    Exit codes: 2 for a wrong option or input, 1 for a run that diverged, a disk or a memory that is full, 128 + signal
    for an interrupted command. ``then`` says how to go on after a failure of the disk or Ctrl-C.
    """
    try:
        yield
    except InputError as error:
        _exit(f"error: {error}", 2)
    except TrainingDiverged as error:
        _exit(f"error: training diverged: {error}", 1)
    except TrainingInterrupted as error:
        _exit(str(error), error.exit_code)
    except OSError as error:
        _exit(f"error: {error.filename or 'disk'}: {error.strerror or error}{then}", 1)
    except KeyboardInterrupt as interrupt:
        _exit((str(interrupt) or "stopped by Ctrl-C") + then, 128 + signal.SIGINT)
    except Terminated:
        _exit("stopped by SIGTERM", 128 + signal.SIGTERM)
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        advice = getattr(error, "__notes__", ["take a smaller batch or smaller networks"])[0]
        _exit(f"error: there is not enough memory: {advice} ({first_line(error)})", 1)


def is_main_process() -> bool:
    """True if this process is the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def note(text: str) -> None:
    """Says in one line what a user may not have meant, once per launch."""
    if is_main_process():
        print(f"note: {printable(text)}", file=sys.stderr, flush=True)


def _exit(line: str, code: int) -> None:
    if is_main_process():
        print(printable(line), file=sys.stderr, flush=True)
    sys.exit(code)
