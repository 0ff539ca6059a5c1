"""Many training runs of one recipe as one resumable study: arms x seeds, each in a folder of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..errors import InputError, TrainingDiverged
from ..training.checkpoint import write_json
from .recipe import Recipe, is_main_process

RESULT_FILE = "result.json"
# What does not make an arm another arm.
_INDIFFERENT = ("output_dir", "resume", "config", "preset")


@dataclass(frozen=True)
class Arm:
    """One setting of a study.

    Attributes:
        name: part of the folder's name.
        options: option values of the recipe that make the arm, dotted for nested ones.
    """

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What came of one arm with one seed.

    Attributes:
        arm: the arm.
        seed: of the run.
        diverged: why the run diverged; None if it finished.
        step: the last step.
        metrics: numbers measured at the end; empty where it diverged.
        logits: (step, smallest, largest) along the run, over real and generated images.
    """

    arm: Arm
    seed: int
    diverged: str | None
    step: int
    metrics: Mapping[str, float]
    logits: Sequence[tuple[int, float, float]]


def run_sweep(
    recipe: Recipe, arms: Sequence[Arm], seeds: Sequence[int], folder: Path, rest: list[str]
) -> list[Result]:
    """Trains every arm with every seed that is not finished yet; a run that was interrupted goes on.

    An arm that diverges is recorded so, and the study goes on.

    Args:
        recipe: what the arms are settings of.
        folder: the arms lie in ``folder/arms/NAME-seedN/``, all results in ``folder/results.jsonl``.
        rest: command-line options that all arms share.

    Raises:
        InputError: an option is wrong, or a finished arm was run with other options.
        TrainingInterrupted: SIGTERM or Ctrl-C; a checkpoint was written, and the same call goes on.
    """
    jobs = [(arm, seed) for arm in arms for seed in seeds]
    results = []
    for number, (arm, seed) in enumerate(jobs, start=1):
        say(f"== {number} of {len(jobs)}: {arm.name}, seed {seed}")
        results.append(_run_arm(recipe, arm, seed, folder, rest))
        if is_main_process():
            _write_lines(results, folder / "results.jsonl")
    return results


def say(line: str) -> None:
    """Prints a line, once over all processes."""
    if is_main_process():
        print(line, flush=True)


def arm_arguments(recipe: Recipe, arm: Arm, seed: int, folder: Path, rest: list[str]) -> list[str]:
    """The command line that one arm is."""
    own = [word for name, value in arm.options.items() for word in (f"--{name}", json.dumps(value).strip('"'))]
    return [*rest, *own, "--seed", str(seed), "--output_dir", str(_arm_folder(folder, arm, seed))]


def _arm_folder(folder: Path, arm: Arm, seed: int) -> Path:
    return folder / "arms" / f"{arm.name}-seed{seed}"


def _run_arm(recipe: Recipe, arm: Arm, seed: int, folder: Path, rest: list[str]) -> Result:
    _, options = recipe.parse(arm_arguments(recipe, arm, seed, folder, rest))
    described = json.loads(
        json.dumps({k: v for k, v in options.as_dict().items() if k not in _INDIFFERENT}, default=str)
    )
    place = _arm_folder(folder, arm, seed)
    known = _read_result(place)
    if known is None:
        known = {"options": described, "seed": seed, **_train(recipe, options, place)}
        if is_main_process():
            write_json(place / RESULT_FILE, known)
        PartialState().wait_for_everyone()
    elif known["options"] != described:
        changed = sorted(name for name in described if described[name] != known["options"].get(name))
        raise InputError(f"{place} was run with other options ({', '.join(changed)}): choose another --output_dir")
    return Result(arm, seed, known["diverged"], known["step"], known["metrics"], _logits(place))


def _train(recipe: Recipe, options: Any, place: Path) -> dict[str, Any]:
    trainer = recipe.trainer(options)
    try:
        trainer.train()
    except TrainingDiverged as error:
        say(f"   diverged: {error}")
        return {"diverged": str(error), "step": trainer.step, "metrics": {}}
    facts = json.loads((place / "training.json").read_text(encoding="utf-8")) if is_main_process() else {}
    return {"diverged": None, "step": trainer.step, "metrics": facts.get("results") or {}}


def _read_result(place: Path) -> dict[str, Any] | None:
    path = place / RESULT_FILE
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: remove it, and the arm is trained again") from error


def _logits(place: Path) -> list[tuple[int, float, float]]:
    path = place / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    return [(record["step"], record["logit_min"], record["logit_max"]) for record in records if "logit_min" in record]


def _write_lines(results: Sequence[Result], path: Path) -> None:
    lines = [
        json.dumps(
            {
                "arm": result.arm.name,
                "options": dict(result.arm.options),
                "seed": result.seed,
                "step": result.step,
                "diverged": result.diverged,
                "metrics": dict(result.metrics),
                "omega": result.logits[-1][1:] if result.logits else None,
            }
        )
        for result in results
    ]
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)
