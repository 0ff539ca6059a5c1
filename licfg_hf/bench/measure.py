"""Runs the cases: first what is not timed, then timed rounds."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm.auto import tqdm

from ..errors import InputError
from .arithmetic import count_flops
from .cases import Arena, Case
from .catalogue import BASELINE, STEPS, Technique
from .memory import peak_bytes, resident_bytes
from .timing import interleaved, seconds

_LEAST_SECONDS = 0.05  # of a timed run: a step that takes less is repeated
_LONGEST_REASON = 200  # characters


@dataclass
class Measured:
    """What is known of one step of one technique.

    Attributes:
        technique: its name.
        compiled: whether the step was compiled.
        step: ``discriminator``, ``generator`` or ``iteration``.
        problem: why it cannot be run; then nothing else is known.
        compile_seconds: by how much the first run took longer than the second, of compiled steps.
        flops: of the uncompiled step.
        peak_bytes: the most that it held at once beyond what stays between steps.
        repeats: how often the step is run in a timed round; more than once where it is short.
        seconds: of one step, in each timed round.
    """

    technique: str
    compiled: bool
    step: str
    problem: str | None = None
    compile_seconds: float | None = None
    flops: int | None = None
    peak_bytes: int | None = None
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, bool, str]:
        return self.technique, self.compiled, self.step


class Measurement:
    """Measures techniques on one setting.

    Args:
        arena: networks and batch.
        techniques: as ``catalogue.parse`` returns them.
        steps: which ones.
        compiled: measure every technique compiled, too.
    """

    def __init__(self, arena: Arena, techniques: Sequence[Technique], steps: Sequence[str], compiled: bool):
        self.arena, self.techniques = arena, list(techniques)
        self.steps = [step for step in STEPS if step in steps]
        self.modes = (False, True) if compiled else (False,)
        self.measured: list[Measured] = []
        self.resident: int | None = None
        self.rounds = 0
        self._runs: dict[tuple[str, bool, str], Callable[[], Any]] = {}
        self._expected = 0.0

    def prepare(self) -> float:
        """Builds and tries every case, counts its operations and its memory.

        Returns:
            Expected seconds of a round.

        Raises:
            InputError: the baseline itself cannot be run.
        """
        wanted = [(one, mode) for mode in self.modes for one in self.techniques if one.lazy is None]
        with self._room(), tqdm(wanted, "preparing", disable=None, leave=False) as bar:
            for technique, compiled in bar:
                bar.set_postfix_str(_shown(technique.name, compiled))
                self.measured += self._prepared(technique, compiled)
        return self._expected

    def _prepared(self, technique: Technique, compiled: bool) -> list[Measured]:
        found = [Measured(technique.name, compiled, step) for step in self.steps]
        problem = None
        try:
            case = Case(self.arena, technique, compiled)
        except Exception as error:  # whatever it is, the others can still be measured
            case, problem = None, _reason(error)
        for one in found:
            if problem is None or (case is not None and one.step == "generator"):
                one.problem = self._try(case, one)
                problem = problem or one.problem
            else:
                one.problem = problem
        if technique.name == BASELINE and not compiled:
            if problem is not None:
                raise InputError(f"the steps cannot be run at all: {problem}")
            self.resident = resident_bytes(case.resident())
        return found

    def _try(self, case: Case, one: Measured) -> str | None:
        step, device = case.steps[one.step], self.arena.device
        try:
            first, second = seconds(step, device), seconds(step, device)
            case.forget_gradients()
            if case.compiled:
                one.compile_seconds = max(first - second, 0.0)
            else:
                one.flops = count_flops(step)
                case.forget_gradients()
            one.peak_bytes = peak_bytes(step, device)
        except Exception as error:
            return _reason(error)
        self._runs[one.key] = step
        one.repeats = max(1, math.ceil(_LEAST_SECONDS / max(second, 1e-6)))
        self._expected += second * one.repeats
        return None

    def _room(self) -> AbstractContextManager[None]:
        return _room_for_compiled_steps(len(self.techniques) if True in self.modes else 0)

    def run(self, rounds: int) -> None:
        """Times every step once per round; what whole rounds have found stays when it is interrupted."""
        of = {one.key: one for one in self.measured}
        repeats = {key: of[key].repeats for key in self._runs}
        with self._room(), tqdm(total=rounds, disable=None, leave=False) as bar:
            bar.set_description("timing")
            for times in interleaved(self._runs, rounds, self.arena.device, repeats=repeats):
                for key, value in times.items():
                    of[key].seconds.append(value)
                self.rounds += 1
                bar.update()


def _shown(technique: str, compiled: bool) -> str:
    return f"{technique}, compiled" if compiled else technique


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON]} ..."


@contextmanager
def _room_for_compiled_steps(cases: int) -> Iterator[None]:
    """All techniques compile the same function, which PyTorch allows only a few times.

    Args:
        cases: that are compiled.
    """
    if not cases:
        yield
        return
    with torch._dynamo.config.patch(recompile_limit=8 * (cases + 1), accumulated_recompile_limit=64 * (cases + 1)):
        yield
