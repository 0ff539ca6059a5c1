"""The options of ``licfg-hf bench``; without PyTorch, so that ``--help`` comes at once."""

import argparse
import sys
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files import require_writable
from ..ranges import MANY, require_whole
from .catalogue import DEFAULT, MODELS, STEPS, TECHNIQUES, parse

if TYPE_CHECKING:
    from .measure import Measurement

_FEWEST_FOR_AN_INTERVAL = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to the command's parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Time, memory and arithmetic of training steps with each technique, relative to none."
    models = "\n".join(f"  {name:12} {model.words}" for name, model in MODELS.items())
    techniques = (
        f"{', '.join(TECHNIQUES)}; TECHNIQUE:lazyN for a term at every N-th discriminator step; A+B for both at once",
        f"default: {', '.join(DEFAULT)}",
    )
    listed = "\n".join(fill(line, 100, initial_indent="  ", subsequent_indent="    ") for line in techniques)
    parser.epilog = f"models:\n{models}\n\ntechniques:\n{listed}"
    parser.add_argument("--model", default="ddgan-small", help="networks, see below (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=16, help="images per step (default: %(default)s)")
    parser.add_argument(
        "--techniques", default="default", help="comma-separated, see below; `all`, or `default` (the default)"
    )
    parser.add_argument(
        "--steps", default=",".join(STEPS), help="comma-separated, of %(default)s, which is the default"
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="timed rounds, at least 6 for intervals (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: cuda where there is one, else cpu")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32", help="(default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="measure every technique compiled, too; takes minutes")
    parser.add_argument(
        "--trainer",
        action="store_true",
        help="measure the Trainer's own overhead instead, on the digits: of `quickstart`, and of --model",
    )
    parser.add_argument(
        "--steps_of_trainer",
        type=int,
        default=1000,
        help="with --trainer: steps of `quickstart`; --model takes a tenth of them (default: %(default)s)",
    )
    parser.add_argument("--output", help="folder for bench.json, bench.md, bench.png (default: output/bench-MODEL)")


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf bench`` is asked for.

    Raises:
        InputError: an option is wrong, or the steps cannot be run here.
        KeyboardInterrupt: Ctrl-C; the message says where the rounds are that were finished.
    """
    _require_usable(arguments)
    folder = Path(arguments.output or f"output/bench-{arguments.model}").expanduser()
    require_writable(folder, "--output", folder=True)
    if arguments.trainer:
        from .overhead import run_from

        run_from(arguments, folder)
    else:
        _measure(arguments, folder)


def _require_usable(arguments: argparse.Namespace) -> None:
    if arguments.model not in MODELS:
        raise InputError(f"no model {arguments.model!r}; there are: {', '.join(MODELS)}")
    for name, most in (("batch_size", 10**6), ("rounds", 10**6), ("steps_of_trainer", MANY)):
        require_whole(1, most, **{f"--{name}": getattr(arguments, name)})
    arguments.techniques = parse(arguments.techniques)
    arguments.steps = [step.strip() for step in arguments.steps.split(",") if step.strip()]
    unknown = sorted(set(arguments.steps) - set(STEPS))
    if unknown or not arguments.steps:
        raise InputError(f"--steps are among {', '.join(STEPS)}, not {', '.join(unknown) or 'none'}")
    if arguments.trainer and (arguments.compile or arguments.dtype != "float32"):
        raise InputError("--trainer measures in float32 and without --compile")


def _measure(arguments: argparse.Namespace, folder: Path) -> None:
    from ..training.progress import duration
    from .cases import Arena, setting_from
    from .measure import Measurement

    setting = setting_from(arguments)
    measurement = Measurement(Arena(setting), arguments.techniques, arguments.steps, arguments.compile)
    per_round = measurement.prepare()
    if arguments.rounds < _FEWEST_FOR_AN_INTERVAL:
        print(f"NOTE: {arguments.rounds} round(s) give no interval; {_FEWEST_FOR_AN_INTERVAL} do", file=sys.stderr)
    expected = duration(per_round * (arguments.rounds + 1))
    print(f"{arguments.rounds} rounds, about {expected}; Ctrl-C keeps those that are done", file=sys.stderr)
    try:
        measurement.run(arguments.rounds)
    except BaseException as stop:  # SIGTERM, too: what was measured is kept
        if measurement.rounds:
            _write(measurement, arguments, folder)
        if isinstance(stop, KeyboardInterrupt):
            kept = f"{measurement.rounds} of {arguments.rounds} rounds are in {folder}"
            kept = kept if measurement.rounds else "nothing was measured"
            raise KeyboardInterrupt(f"stopped by Ctrl-C; {kept}") from None
        raise
    print(_write(measurement, arguments, folder))


def _write(measurement: "Measurement", arguments: argparse.Namespace, folder: Path) -> str:
    from .report import content, markdown, write

    result = content(measurement, arguments.model, measurement.arena.setting, arguments.rounds)
    remarks = write(result, folder)
    return "\n".join([markdown(result), *remarks, f"in {folder}"])
