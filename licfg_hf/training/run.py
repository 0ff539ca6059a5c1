"""A run: its output folder, who it is, and the state of all its parts, in checkpoints and back."""

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..errors import FolderInUse, InputError, TrainingInterrupted, is_lack_of_memory
from ..files import user_path
from .checkpoint import DESCRIPTION_FILE, checkpoints, load_description, load_state, save_checkpoint, step_of
from .config import TrainingConfig
from .optimizers import load_optimizer
from .run_folder import claim_folder, folder_lock, is_lost, other_circumstances, place_of

_Result = TypeVar("_Result")
Json = dict[str, Any]


class Stateful(Protocol):
    """A part with a state for checkpoints: tensors, numbers, strings and nested dictionaries and lists of them."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


Parts = Mapping[str, "Stateful | Parts | None"]


def on_the_main_process(
    accelerator: Accelerator, action: Callable[[], _Result], help: Callable[[Any], None] | None = None
) -> _Result:
    """The main process does something and tells the others what came of it, also where it is an error.

    Meanwhile the others ``help`` with whatever it sends by ``ask_for_help``.
    """
    if accelerator.is_main_process:
        try:
            result = action()
        except Exception as error:
            broadcast_object_list([("failed", sendable(error, 0))])
            raise
        broadcast_object_list([("done", result)])
        return result
    while True:
        told: list[Any] = broadcast_object_list([None])
        kind, content = told[0]
        if kind == "failed":
            raise content
        if kind == "done":
            return content
        cast(Any, help)(content)


def ask_for_help(request: Any) -> None:
    """Sends a request to the other processes, which wait in ``on_the_main_process``."""
    broadcast_object_list([("help", request)])


def sendable(error: Exception, process: int) -> Exception:
    """An error of a process as others can raise it; of one that no user causes, with the lines of code."""
    if isinstance(error, (InputError, OSError)):
        return error
    if is_lack_of_memory(error):
        return MemoryError(f"process {process}: {error}")
    return RuntimeError(f"process {process} failed:\n{''.join(traceback.format_exception(error))}")


class Run:
    """The output folder of a training, and what is saved in it.

    The ``parts`` are asked for their state, one by one, and get it back by their names. A folder or checkpoint of
    another ``identity`` is refused, on every process; ``facts`` are what else a checkpoint and the card say.

    Attributes:
        resume_from: the checkpoint that the run goes on from; None at a beginning.
    """

    def __init__(self, config: TrainingConfig, identity: Json, facts: Json, accelerator: Accelerator):
        self.config, self.identity, self.facts, self.accelerator = config, identity, facts, accelerator
        self.folder = user_path(config.output_dir)
        self.parts: Parts = {}
        self._began, self._device_seconds_before = time.monotonic(), 0.0
        self._finished: dict[str, Any] = {}  # what training.json says of the model that lies in the folder
        self.resume_from = on_the_main_process(accelerator, lambda: claim_folder(self.folder, config, identity, facts))

    @property
    def checkpoint_folder(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def first_step(self) -> int:
        return 0 if self.resume_from is None else step_of(self.resume_from)

    def hold(self, stack: ExitStack) -> None:
        """Keeps other processes out of the folder while the stack is open; FolderInUse where one has been in it."""
        stack.enter_context(folder_lock(self.folder))
        self._home = os.open(self.folder, os.O_RDONLY)
        stack.callback(os.close, self._home)
        newest = checkpoints(self.checkpoint_folder)[-1:]
        if self.config.resume == "auto" and newest not in ([], [self.resume_from]):
            raise FolderInUse(f"another process has trained in {self.folder} meanwhile: give the command again")
        self._began = time.monotonic()

    def device_seconds(self, step: int) -> float | None:
        """The cost of the run so far: seconds on the clock times processes, evaluations and writing included.

        A resumed run counts on from its checkpoint, and the export of a finished run costs nothing. None where the
        checkpoint does not say.
        """
        if self._finished.get("step") == step and "device_seconds" in self._finished:
            return self._finished["device_seconds"]
        known, here = self._device_seconds_before, time.monotonic() - self._began
        return None if known is None else known + here * self.accelerator.num_processes

    def last_checkpoint(self) -> str:
        known = checkpoints(self.checkpoint_folder)
        return f"the last good checkpoint is {known[-1]}" if known else "no checkpoint was written yet"

    def save(self, step: int) -> None:
        """Writes a checkpoint of all parts; OSError where the disk did not take it."""
        description = {"identity": self.identity, **self.facts, "device_seconds": self.device_seconds(step)}
        state = _state_of(self.parts)
        save_checkpoint(self.checkpoint_folder, step, state, description, self.config.keep_checkpoints)

    def load(self, source: Path) -> int:
        """Gives every part its state back; returns the step. InputError where it is not the state of this run."""
        description, state = load_description(source), load_state(source)
        self._device_seconds_before = description.get("device_seconds")
        self._finished = json.loads((self.folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        try:
            _give_back(self.parts, state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_lack_of_memory(error):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(
                f"{source} does not hold the state of this run ({reason}): remove it, and the run continues from "
                "an earlier one"
            ) from error
        other = other_circumstances(description, self.facts)
        if other:
            self.accelerator.print(
                f"NOTE: {source} was not written as this process would ({'; '.join(other)}): the run continues, but "
                "its weights will not be bit for bit those of an undisturbed run"
            )
        return description["step"]

    def require_home(self, step: int, save: Callable[[], bool]) -> None:
        """Ends a run whose output folder was renamed or removed, with a last checkpoint wherever it is now.

        ``save`` says whether that went well. Nothing is written to where the folder was.
        """
        if not is_lost(self.folder, self._home):
            return
        was, place = self.folder, place_of(self._home)
        if place is None:
            raise TrainingInterrupted(f"stopped at step {step}: output_dir {was} was removed during the run", 1)
        self.folder = place
        where = f"a checkpoint is in {place}" if save() else self.last_checkpoint()
        raise TrainingInterrupted(
            f"stopped at step {step}: output_dir {was} was renamed during the run; {where}: rename it back, or "
            f"pass --output_dir {place}",
            1,
        )


def _state_of(part: "Stateful | Parts | None") -> Any:
    if isinstance(part, Mapping):
        return {name: _state_of(inner) for name, inner in part.items()}
    return None if part is None else part.state_dict()


def _give_back(part: "Stateful | Parts | None", state: Any) -> None:
    if isinstance(part, Mapping):
        for name, inner in part.items():
            _give_back(inner, state[name])
    elif isinstance(part, torch.optim.Optimizer):
        load_optimizer(part, state)
    elif part is not None:
        part.load_state_dict(state)
