"""The work between two steps: it reads losses, writes logs and checkpoints, and obeys a request to stop."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import TrainingInterrupted
from .callbacks import is_every
from .checks import or_warn
from .export import export_or_say_why_not
from .interrupts import SharedStop, StopSignals
from .run import on_the_main_process
from .tracking import TermLog

if TYPE_CHECKING:
    from .trainer import Trainer


class BetweenSteps:
    """Does what is due after a step, in an order in which a kill at any moment loses nothing."""

    def __init__(self, trainer: "Trainer", signals: StopSignals, term_log: TermLog):
        self.trainer, self.signals, self.term_log = trainer, signals, term_log
        self.stop = SharedStop(signals, trainer.accelerator, trainer.step)
        self.checkpoints = self.failed = 0  # checkpoints that were begun, and those of them that could not be written

    def begin(self) -> None:
        """Looks at the step that a run goes on from, where it was killed before it did."""
        trainer = self.trainer
        source = trainer.run.resume_from
        if source is not None and source.parent == trainer.run.checkpoint_folder:
            self._on_the_main_process(lambda: self._look(trainer.callbacks_that("was_missed")))

    def after_step(self) -> None:
        """Does what is due; ends in TrainingDiverged, or TrainingInterrupted after a signal or a moved folder."""
        trainer, step, config = self.trainer, self.trainer.step, self.trainer.config
        save, log = (is_every(step, config.max_steps, every) for every in (config.checkpoint_every, config.log_every))
        due, ask = trainer.callbacks_that("is_due"), self.stop.is_due(step)
        # Reading a loss waits for an accelerator, so there it is done only now and then; on the CPU it costs nothing.
        if not (save or due or log or ask or trainer.device.type == "cpu"):
            return
        stop = self.stop.agreed(step) if ask else 0
        self.term_log.read()
        if trainer.accelerator.is_main_process:
            trainer.run.require_home(step, self._save)
        # The log goes first: a resumed run drops lines past its checkpoint, but cannot make up lost ones.
        if log:
            means = self.term_log.means()
            or_warn(trainer, lambda: trainer.notify("log", means))
        saved = self._save() if save or stop else False
        if due and not stop:  # a resumed run makes up for them
            self._on_the_main_process(lambda: self._look(due))
            stop = self.stop.agreed(step)
            saved = saved or (self._save() if stop else False)
        if stop:
            raise TrainingInterrupted(self._stopped(saved), 128 + stop)

    def end(self) -> None:
        """Exports the finished model, unless a signal ends that."""
        self._on_the_main_process(lambda: self.signals.until_stopped(partial(export_or_say_why_not, self.trainer)))
        if stop := self.stop.agreed(self.trainer.step):
            raise TrainingInterrupted(self._stopped(saved=True), 128 + stop)
        if self.failed:
            self.trainer.progress.say(f"WARNING: {self._failures()}; {self.trainer.run.last_checkpoint()}")

    def _on_the_main_process(self, action: Callable[[], None]) -> None:
        """The others help it to evaluate."""
        evaluation = self.trainer.evaluation
        on_the_main_process(
            self.trainer.accelerator, action, None if evaluation is None else partial(evaluation.help, self.trainer)
        )

    def _failures(self) -> str:
        return f"{self.failed} of {self.checkpoints} checkpoints could not be written"

    def _look(self, callbacks: Sequence[Any]) -> None:
        for callback in callbacks:
            self.signals.until_stopped(partial(or_warn, self.trainer, partial(callback.look, self.trainer)))

    def _save(self) -> bool:
        trainer = self.trainer
        if not trainer.accelerator.is_main_process:
            return True
        self.checkpoints += 1
        try:
            trainer.run.save(trainer.step)
        except OSError as error:
            reason, kept = error.strerror or error, trainer.run.last_checkpoint()
            trainer.progress.say(f"WARNING: no checkpoint at step {trainer.step}: {reason}; {kept}")
            self.failed += 1
            return False
        trainer.notify("save")
        return True

    def _stopped(self, saved: bool) -> str:
        config, run = self.trainer.config, self.trainer.run
        where = f"stopped at step {self.trainer.step} of {config.max_steps}"
        where += f"; {self._failures()}" if self.failed else ""
        if not saved:
            return f"{where}; {run.last_checkpoint()}"
        again = "the same command" if config.resume == "auto" else "the same command with --resume auto"
        return f"{where}; {again} continues from there"
