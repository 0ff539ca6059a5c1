"""Callbacks, which watch a training or write for it: progress, trackers, pictures, health, and your own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..diagnostics.health import HealthMonitor
from ..images import save_image
from ..text import numbered

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass(frozen=True)
class FinishedModel:
    """A model that is about to become the content of the output folder.

    Attributes:
        place: folder where it lies until then; what a callback writes there comes with it, all or nothing.
        facts: content of ``training.json``: settings, identity, versions, device, step, weights.
        results: contents of its ``eval.json`` files, that of the model as it loads first.
        pipeline: class of the pipeline that draws from it; None where there is none.
        class_names: names of the classes, where they have some.
        measured: how, and what came of it, where that is by a known protocol: sentences.
    """

    place: Path
    facts: dict[str, Any]
    results: Sequence[dict[str, Any]]
    pipeline: str | None
    class_names: Sequence[str] | None
    measured: Sequence[str] = ()


class Callback(Protocol):
    """Events of a training; a class of one's own derives from this one and writes those that it needs.

    ``trainer.step`` is the number of steps that are done. A state comes back on resume, under the name of the class.
    """

    def train_begin(self, trainer: "Trainer") -> None:
        """Before the first step, on every process; a run that goes on has its state by now."""

    def step_end(self, trainer: "Trainer") -> None:
        """After every step, on every process, before a checkpoint of it is written."""

    def log(self, trainer: "Trainer", numbers: Mapping[str, float]) -> None:
        """Every ``log_every`` steps, on every process, with the means of the loss terms since the last time."""

    def save(self, trainer: "Trainer") -> None:
        """After a checkpoint was written, on the main process."""

    def is_due(self, trainer: "Trainer") -> bool:
        """True if ``look`` is wanted after this step; every process must say the same."""
        return False

    def look(self, trainer: "Trainer") -> None:
        """Looks at the generator and writes what it sees, after the checkpoint, on the main process.

        A signal may end it, and a full disk or a lack of memory is only reported.
        """

    def was_missed(self, trainer: "Trainer") -> bool:
        """True if a run that was killed after its checkpoint did not ``look`` any more, and should now."""
        return False

    def evaluate(self, trainer: "Trainer", result: dict[str, Any]) -> None:
        """After an evaluation, on the main process, with the content of an ``eval.json``."""

    def export(self, trainer: "Trainer", model: FinishedModel) -> None:
        """While the finished model is written, on the main process."""

    def train_end(self, trainer: "Trainer") -> None:
        """After the finished model is in its folder, on every process."""

    def state_dict(self) -> dict[str, Any]:
        """Its state for a checkpoint; only that of the main process is saved."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what ``state_dict`` gave."""


class CallbackStates:
    """The states of all callbacks as one part of a checkpoint.

    A run may go on with other callbacks than before: one that is new begins without a state.
    """

    def __init__(self, callbacks: Sequence[Any]):
        stateful = [callback for callback in callbacks if hasattr(callback, "state_dict")]
        names = numbered(type(callback).__name__ for callback in stateful)
        self._named = dict(zip(names, stateful, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The state of each, by the name of its class; a second one of a class is numbered."""
        return {name: callback.state_dict() for name, callback in self._named.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Gives each its own back."""
        for name, callback in self._named.items():
            if name in state:
                callback.load_state_dict(state[name])


def is_every(step: int, last: int, every: int | None) -> bool:
    """True if something that is done ``every`` so many steps, and at the last one, is due; None is never."""
    return every is not None and (step == last or step % every == 0)


class ProgressLine(Callback):
    """Steps done, speed, time left and the newest losses, on the terminal."""

    def log(self, trainer: "Trainer", numbers: Mapping[str, float]) -> None:
        trainer.progress.update(trainer.step, numbers)

    def step_end(self, trainer: "Trainer") -> None:
        if not is_every(trainer.step, trainer.config.max_steps, trainer.config.log_every):  # else the log does so
            trainer.progress.advance(trainer.step)


class TrackerLog(Callback):
    """The numbers for Accelerate's trackers."""

    def log(self, trainer: "Trainer", numbers: Mapping[str, float]) -> None:
        rates = {
            f"{name}_learning_rate": optimizer.param_groups[0]["lr"] for name, optimizer in trainer.optimizers.items()
        }
        trainer.accelerator.log({**numbers, **rates}, step=trainer.step)


class SamplePictures(Callback):
    """A grid of samples in ``samples/step-N.png``."""

    def _picture(self, trainer: "Trainer") -> Path:
        return trainer.folder / "samples" / f"step-{trainer.step:06d}.png"

    def is_due(self, trainer: "Trainer") -> bool:
        return is_every(trainer.step, trainer.config.max_steps, trainer.config.sample_every)

    def look(self, trainer: "Trainer") -> None:
        save_image(trainer.sampler.grid(), self._picture(trainer))

    def was_missed(self, trainer: "Trainer") -> bool:
        return self.is_due(trainer) and not self._picture(trainer).exists()


class HealthWatch(Callback):
    """Says, once, that a training fails in a known way, and what to change; the ``warm_up`` is not judged."""

    def __init__(self, monitor: HealthMonitor, warm_up: int = 200):
        self.monitor, self.warm_up = monitor, warm_up

    def log(self, trainer: "Trainer", numbers: Mapping[str, float]) -> None:
        names = ("logit_min", "logit_max", "logit_real", "logit_fake")
        warnings = self.monitor.observe_weights(numbers)
        if trainer.step > self.warm_up and numbers.keys() >= set(names):
            warnings += self.monitor.observe(*(numbers[name] for name in names))
        for warning in warnings:
            trainer.progress.say(f"NOTE: step {trainer.step}: {warning}")

    def state_dict(self) -> dict[str, Any]:
        return self.monitor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.monitor.load_state_dict(state)
