"""The numbers of a run: loss terms, read together and watched for NaN, and the trackers that they go to."""

import json
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers, on_main_process

from ..errors import InputError, TrainingDiverged
from ..files import write_bytes
from ..objective.logits import every_logit, mean_logit
from ..objective.losses import AdversarialLoss
from .context import Terms


class TermLog:
    """Collects loss terms on the device and reads them in one transfer, averaged over the processes."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self._pending: list[tuple[int, Terms]] = []
        self._read: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, step: int, terms: Terms) -> None:
        self._pending.append((step, terms))

    def read(self) -> None:
        """Reads the pending terms; every process must call it at the same step.

        Raises TrainingDiverged, which names term and step, where a term is NaN or infinite on some process.
        """
        names = sorted({name for _, terms in self._pending for name in terms})
        absent = torch.zeros((), device=self.accelerator.device)
        rows = [torch.stack([terms.get(name, absent).float() for name in names]) for _, terms in self._pending]
        gathered = cast(torch.Tensor, self.accelerator.gather(torch.stack(rows)[None])).cpu()
        for (step, terms), values in zip(self._pending, gathered.mean(dim=0).tolist(), strict=True):
            for name, value in zip(names, values, strict=True):
                if name in terms and not math.isfinite(value):
                    raise TrainingDiverged(f"{name} is {value} at step {step}")
                if name in terms:
                    self._read[name].append(value)
        self._pending.clear()

    def means(self) -> dict[str, float]:
        """The mean of each term since the last call, over the steps in which it occurred."""
        means = {name: sum(values) / len(values) for name, values in sorted(self._read.items())}
        self._read.clear()
        return means


@torch.no_grad()
def domain_terms(loss: AdversarialLoss, real_logits: Any, fake_logits: Any) -> Terms:
    """The domain of the loss (Omega of Qin et al., 2020), and the scores of both sides."""
    real, fake = mean_logit(real_logits), mean_logit(fake_logits)
    both = torch.cat([every_logit(real_logits), every_logit(fake_logits)])
    found = {"logit_min": both.min(), "logit_max": both.max(), "logit_real": real.mean(), "logit_fake": fake.mean()}
    if loss.alpha != 1:  # the value may be all L(0) / alpha; this is the part that moves
        excess = loss.excess_over_zero(real_logits, fake_logits)
        found |= {f"{player}_loss_over_zero": value for player, value in excess.items()}
    return found


class JSONLTracker(GeneralTracker):
    """Appends one JSON object per call to ``metrics.jsonl`` in a folder."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, folder: Path):
        super().__init__()
        self.path = folder / "metrics.jsonl"

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """The configuration stands in training.json."""

    @on_main_process
    def log(self, values: dict[str, float], step: int | None = None, **kwargs: Any) -> None:
        rest = (json.dumps({"step": step, **values}) + "\n").encode()
        with open(self.path, "ab", buffering=0) as file:
            end = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:  # a full disk must not leave half a line that the next one is glued to
                file.truncate(end)
                raise


def drop_lines_after(path: Path, step: int) -> int:
    """Drops what a run that was killed had logged after the checkpoint of ``step``, and lines that are no JSON object.

    Where nothing is to be dropped the file is not touched. Returns how many lines could not be read, besides one that
    was cut off by a kill.
    """
    if not path.exists():
        return 0
    lines = path.read_bytes().split(b"\n")
    cut = lines.pop()  # empty where the last line is whole
    known = [(line, _parsed(line)) for line in lines]
    kept = [line for line, content in known if content is not None and not _is_after(content, step)]
    if cut or len(kept) < len(lines):
        write_bytes(path, b"".join(line + b"\n" for line in kept))
    return sum(content is None for _, content in known)


def tidy_log(path: Path, step: int, say: Callable[[str], None]) -> None:
    """Drops what was logged after ``step``, see ``drop_lines_after``, and says what could not be kept or dropped."""
    try:
        unreadable = drop_lines_after(path, step)
    except OSError as error:
        say(f"WARNING: {path.name} keeps lines after step {step}: {error.strerror}")
        return
    if unreadable:
        say(f"WARNING: {unreadable} line(s) of {path.name} were damaged and are dropped")


def names_at(path: Path, step: int) -> set[str]:
    """Names of the numbers that were logged at a step."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    return {name for content in map(_parsed, lines) if content and content.get("step") == step for name in content}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of the log; None where it is none, as a power cut may leave it."""
    try:
        content = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _is_after(content: dict[str, Any], step: int) -> bool:
    return isinstance(content.get("step"), (int, float)) and content["step"] > step


def make_trackers(names: tuple[str, ...], folder: Path) -> list[str | GeneralTracker]:
    """The trackers, as ``Accelerator(log_with=...)`` takes them; InputError where there is no such one here."""
    known = ["jsonl", *LOGGER_TYPE_TO_CLASS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"trackers are among {', '.join(known)}, not {', '.join(unknown)}")
    available = ["jsonl", *map(str, get_available_trackers())]
    for name in names:
        if name not in available:
            raise InputError(f"tracker {name} needs a package that is not installed: pip install {name}")
    return [JSONLTracker(folder) if name == "jsonl" else name for name in names]
