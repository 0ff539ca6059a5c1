"""Trackers for the numbers of a run: accelerate's own, and lines of JSON in a file."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from ..errors import InputError

# Tracker -> the module it needs; jsonl needs none.
_MODULES = {"tensorboard": "tensorboard", "trackio": "trackio"}


class JSONLTracker(GeneralTracker):
    """Appends one JSON object per call to ``metrics.jsonl``.

    Args:
        folder: where the file lies.
    """

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
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def drop_lines_after(path: Path, step: int) -> None:
    """Drops what a run that was killed had logged after the checkpoint of ``step``."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step), encoding="utf-8")


def names_at(path: Path, step: int) -> set[str]:
    """Names of the numbers that were logged at a step."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name for line in map(json.loads, lines) if line["step"] == step for name in line}


def make_trackers(names: tuple[str, ...], folder: Path) -> list[str | GeneralTracker]:
    """What ``Accelerator(log_with=...)`` takes.

    Raises:
        InputError: the package of a tracker is not installed.
    """
    for name in names:
        if name in _MODULES and importlib.util.find_spec(_MODULES[name]) is None:
            raise InputError(f"tracker {name} needs a package that is not installed: pip install 'licfg_hf[tracking]'")
    return [JSONLTracker(folder) if name == "jsonl" else name for name in names]
