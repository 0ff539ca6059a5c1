"""The code of README.md, block by block: what runs, and why the rest does not. As a program, it runs them in order."""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```(\w+)\n(.*?)```", flags=re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: ``bash`` or ``python``.
        code: what it holds.
        not_run: why it is not run; None where it is.
    """

    language: str
    code: str
    not_run: str | None


def blocks(page: str = "README.md") -> list[Block]:
    """The blocks of a page, in order."""
    found = _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    reasons = [mark.removeprefix("not run: ") if mark.startswith("not run: ") else None for mark, _, _ in found]
    return [Block(language, code, why) for (_, language, code), why in zip(found, reasons, strict=True)]


def run(block: Block) -> None:
    """Runs a block as a user would, here.

    Raises:
        CalledProcessError: it failed.
    """
    print(f"== README, {block.language} ==\n{block.code}", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=f".{block.language}", encoding="utf-8") as file:
        file.write(block.code)
        file.flush()
        program = ["bash", "-euo", "pipefail"] if block.language == "bash" else [sys.executable]
        subprocess.run([*program, file.name], check=True)


if __name__ == "__main__":
    for block in blocks():
        if block.not_run is None:
            run(block)
