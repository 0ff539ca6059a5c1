"""Runs ``licfg-hf`` in a forked child that can be killed at a chosen moment. Unix only."""

import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from licfg_hf.cli import main

SMALL = """
    --preset quickstart --batch_size 16 --discriminator_steps 1 --standing_batches 1 --evaluate_samples 10
    --sample_count 4 --checkpoint_every 4 --sample_every 4 --log_every 1
"""


def command(
    log: Path,
    arguments: list,
    hook: Callable[[], None] = lambda: None,
    until: Callable[[int], bool] = lambda pid: False,
    limit: float = 150,
) -> tuple[int, str]:
    """Exit status (-9: killed) and words of a command.

    Args:
        log: file for its words.
        hook: is called in the child first.
        until: is asked all the time with the child's number; the child is killed once it says so, or after ``limit``
            seconds.
    """
    pid = os.fork()
    if pid == 0:
        _child(log, [str(argument) for argument in arguments], hook)
    began = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
        if until(pid) or time.monotonic() - began > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -signal.SIGKILL, log.read_text(errors="replace")
        time.sleep(0.0005)


def _child(log: Path, arguments: list[str], hook: Callable[[], None]) -> None:
    status = 99
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1), os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        hook()
        main(arguments)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def train(folder: Path, steps: int, *more, **how) -> tuple[int, str]:
    """A small GAN, trained to a step."""
    options = ["train", "biggan_eps_cifar", *SMALL.split(), "--max_steps", steps, "--output_dir", folder, *more]
    return command(folder.with_name(folder.name + ".log"), options, **how)


def weights(folder: Path) -> str:
    """Of the generator of a finished run."""
    return hashlib.sha256((folder / "model" / "diffusion_pytorch_model.safetensors").read_bytes()).hexdigest()


def steps_in(folder: Path) -> int:
    """How many lines the log of a run has."""
    path = folder / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0
