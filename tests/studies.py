"""What the tests of several studies share."""

from collections.abc import Callable
from pathlib import Path

import pytest


def refused_run(run: Callable[..., object], folder: Path, capsys: pytest.CaptureFixture, *options: str) -> str:
    """The one line that a study ends with; its folder is not touched."""
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(folder, *options)
    errors = capsys.readouterr().err
    assert stop.value.code == 2 and errors.startswith("error: ") and errors.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return errors
