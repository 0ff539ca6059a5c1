"""The options of ``licfg-hf bench``; without PyTorch, so that ``--help`` comes at once."""

import argparse
from textwrap import fill
from typing import Any

from ..errors import InputError, TrainingInterrupted
from ..files import require_writable, user_path, write_json, write_text
from ..ranges import MANY, require_whole
from ..text import filled
from .catalogue import CONDITIONS, DEFAULT, MODELS, STEPS, TECHNIQUES, listed, techniques_in

_TRAINER_STEPS = 1000
_QUICKSTART_BATCH = 64
# Options of the steps' measurement, which --trainer has no use for, and their defaults.
_OF_STEPS = {"techniques": "default", "steps": ",".join(STEPS), "rounds": 15, "dtype": "float32", "compile": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to the command's parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Time, memory and arithmetic of training steps with each technique, relative to none."
    techniques = (f"{', '.join(TECHNIQUES)}; A+B for both at once", f"default: {', '.join(DEFAULT)}")
    shown = "\n".join(fill(line, 100, initial_indent="  ", subsequent_indent="    ") for line in techniques)
    models = "\n".join(f"  {name:12} {model.words}" for name, model in MODELS.items())
    parser.epilog = f"models:\n{models}\n\ntechniques:\n{shown}"
    add = parser.add_argument
    add("--model", default="ddgan-small", help="networks, see below (default: %(default)s)")
    add("--batch_size", type=int, default=16, help="images per step (default: %(default)s)")
    add("--techniques", help="comma-separated, see below; `all`, or `default` (the default)")
    add("--steps", help=f"comma-separated, of {_OF_STEPS['steps']}, which is the default")
    add("--rounds", type=int, help=f"timed rounds (default: {_OF_STEPS['rounds']})")
    add("--device", choices=("cpu", "cuda", "mps"), help="default: cuda if there is one, else cpu")
    add("--dtype", choices=("float32", "bf16"), help="(default: float32)")
    add("--compile", action="store_true", default=None, help="also measure every technique compiled; takes minutes")
    add("--trainer", action="store_true", help="measure the Trainer's own overhead: of `quickstart`, and of --model")
    of_trainer = f"with --trainer: steps of `quickstart`; --model takes a tenth of them (default: {_TRAINER_STEPS})"
    add("--steps_of_trainer", type=int, help=of_trainer)
    add("--output", help="folder for bench.json and bench.md, or overhead.* (default: output/bench-MODEL)")


def run(arguments: argparse.Namespace) -> None:
    """Does what ``licfg-hf bench`` is asked for."""
    _require_usable(arguments)
    folder = user_path(arguments.output or f"output/bench-{arguments.model}")
    require_writable(folder, "--output", folder=True)
    rows, about = (_trainer if arguments.trainer else _steps)(arguments)
    text = filled("licfg_hf.bench", "report.md", rows=rows, about=about)
    place = folder / ("overhead" if arguments.trainer else "bench")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(place.with_suffix(".json"), {"protocol": about, "results": rows})
    write_text(place.with_suffix(".md"), text)
    print(f"{text}\nin {folder}")


def _require_usable(arguments: argparse.Namespace) -> None:
    if arguments.model not in MODELS:
        raise InputError(f"no model {arguments.model!r}; there are: {', '.join(MODELS)}")
    if arguments.output == "":
        raise InputError("--output is empty: name a folder")
    for name, default in _OF_STEPS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
        elif arguments.trainer:
            with_trainer = "--trainer, which measures float32 steps with one penalty"
            raise InputError(f"--{name} cannot be combined with {with_trainer}")
    if arguments.steps_of_trainer is not None and not arguments.trainer:
        raise InputError("--steps_of_trainer needs --trainer")
    for name, most in (("batch_size", 10**6), ("rounds", 10**6), ("steps_of_trainer", MANY)):
        require_whole(1, most, **{f"--{name}": getattr(arguments, name)})
    arguments.techniques, given = techniques_in(arguments.techniques), listed(arguments.steps, "--steps")
    if unknown := [step for step in given if step not in STEPS]:
        raise InputError(f"--steps are among {', '.join(STEPS)}, not {', '.join(unknown)}")
    arguments.steps = [step for step in STEPS if step in given]


def _steps(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What was measured of steps, and how."""
    from .measure import measure, protocol
    from .steps import SharedParts, open_device

    model, batch_size = MODELS[arguments.model], arguments.batch_size
    shared = SharedParts(model, batch_size, open_device(arguments.device, arguments.dtype))
    rows = measure(shared, arguments.techniques, arguments.steps, arguments.rounds, arguments.compile)
    about = {"model": arguments.model, "networks": vars(model), "parameters": shared.parameters}
    about |= {"image": list(model.image), "batch_size": batch_size, "dtype": arguments.dtype}
    about |= {"generator_batch_size": shared.options.generator_batch_size, "seed": shared.options.seed}
    return rows, protocol(shared.device, rounds=arguments.rounds, **about, **CONDITIONS)


def _trainer(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What was measured of trainings, and how."""
    from .measure import protocol
    from .overhead import measure
    from .steps import open_device

    device, steps = open_device(arguments.device).device, arguments.steps_of_trainer or _TRAINER_STEPS
    plan = {arguments.model: (arguments.batch_size, -(-steps // 10)), "quickstart": (_QUICKSTART_BATCH, steps)}
    try:
        rows = [measure(name, MODELS[name], batch, count) for name, (batch, count) in plan.items()]
    except TrainingInterrupted as stop:
        raise TrainingInterrupted("stopped before a measurement was finished", stop.exit_code) from None
    return rows, protocol(
        device, dtype="float32", data="the embedded digits, brought to the network's size, in memory"
    )
