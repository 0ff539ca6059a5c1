"""Many training runs of one recipe as one resumable study: arms x seeds, each in a folder of its own."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from licfg_hf.command_line import is_main_process
from licfg_hf.data import ImageSet
from licfg_hf.errors import FolderInUse, InputError, SamplesNotFinite, TrainingDiverged
from licfg_hf.evaluation.evaluate import processes
from licfg_hf.evaluation.result import RESULT_FILES, stored_result
from licfg_hf.files import write_json, write_text
from licfg_hf.ranges import require_whole
from licfg_hf.recipes import Recipe
from licfg_hf.training import Trainer, TrainingConfig
from licfg_hf.training.announce import seconds_per_step
from licfg_hf.training.checks import make_accelerator
from licfg_hf.training.prepare import make_context, set_arithmetic
from licfg_hf.training.progress import duration
from licfg_hf.training.run_folder import folder_lock, refused_leaves_nothing

RESULT_FILE = "result.json"
# What does not make an arm another arm: options that leave its numbers as they are.
_DECISIVE = {
    *("max_steps", "standing_batches"),
    *("evaluate_every", "evaluate_samples", "evaluate_metrics", "evaluate_features"),
}
_DECIDED = {"seed", "output_dir", "push_to_hub", "repo_id", "differences"}  # by a study, beside what its arms decide
_INDIFFERENT = {"config", "preset", *TrainingConfig.RESUMABLE} - _DECISIVE


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
        history: what was measured along the run, each with its ``step``; see ``evaluate_every``.
        measured: what the study itself measured of the finished run, as JSON content.
        device_minutes: that the run took, see ``Run.device_seconds``; None where that is not known.
    """

    arm: Arm
    seed: int
    diverged: str | None
    step: int
    metrics: Mapping[str, float]
    logits: Sequence[tuple[int, float, float]]
    history: Sequence[Mapping[str, float]] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)
    device_minutes: float | None = None


Measure = Callable[[Path], Mapping[str, Any]]  # of the folder of a finished run


def require_valid(known: Sequence[Arm], seeds: Sequence[int], rest: list[str]) -> None:
    """Checks what a study was asked for, before anything is trained.

    Args:
        known: every arm of the study, chosen or not.
        seeds: of the runs.
        rest: command-line options that all arms share.

    Raises:
        InputError: a seed is negative or named twice, or ``rest`` holds an option that arms or the study decide, or a
            file of options.
    """
    for seed in seeds:
        require_whole(0, 2**63 - 1, seeds=seed)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"name each seed once, not {' '.join(map(str, seeds))}")
    decided = _DECIDED | {name for arm in known for name in arm.options}
    if any(word.partition("=")[0] == "--config" for word in rest):
        raise InputError(
            "--config cannot be used in a study: the file could set an option that distinguishes the arms"
        )
    for word in rest:
        given = word.removeprefix("--").partition("=")[0]
        # The parser of the runs takes an option's first letters, too.
        if word.startswith("--") and any(name.startswith(given) for name in decided):
            raise InputError(f"--{given} is not for the runs of a study, whose arms and seeds decide it (see --help)")


def run_sweep(
    recipe: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    rest: list[str],
    known: Callable[[], Sequence[Arm]],
    images: ImageSet | None = None,
    measure: Measure | None = None,
) -> list[Result]:
    """Trains every arm with every seed that is not finished yet; a run that was interrupted goes on.

    An arm that diverges is recorded so, and the study goes on. Several processes may share a folder: none trains a run
    that another one trains.

    Args:
        recipe: what the arms are settings of.
        arms: those to train.
        seeds: of the runs of each arm.
        folder: the arms lie in ``folder/arms/NAME-seedN/``, all results in ``folder/results.jsonl``.
        rest: command-line options that all arms share.
        known: gives every arm of the study, chosen or not, another process's too.
        images: those that the runs train on, where they are open already.
        measure: what a study measures of a finished run, kept with its numbers; on the main process.

    Returns:
        What is finished in the folder, by this call or an earlier one, in the order of ``known`` and of the seeds.

    Raises:
        InputError: an option is wrong, a finished arm was run with other options, or its files are damaged.
        TrainingInterrupted: SIGTERM or Ctrl-C; a checkpoint was written, and the same call goes on.
    """
    require_valid(known(), seeds, rest)
    results = collect(folder, known())
    for result in results:
        _require_same_options(recipe, result, folder, rest)
    jobs = [(arm, seed) for arm in arms for seed in seeds]
    for number, (arm, seed) in enumerate(jobs, start=1):
        say(f"== {number} of {len(jobs)}: {arm.name}, seed {seed}")
        place = arm_folder(folder, arm, seed)
        with refused_leaves_nothing(place), ExitStack() as stack:
            if (place / RESULT_FILE).is_file():
                continue
            if not _claimed(place, stack):
                say("   another process trains it")
            elif not (place / RESULT_FILE).is_file():  # nor finished it meanwhile
                images = _run_arm(recipe, arm, seed, folder, rest, images, measure)
        _keep_results(folder, known)
    return _keep_results(folder, known)


def _claimed(place: Path, stack: ExitStack) -> bool:
    """Whether no other process trains a run, which then is this one's until the stack is closed."""
    claimed, state = [True], processes()
    if state.is_main_process:
        place.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(folder_lock(place, ".study.lock"))
        except FolderInUse:
            claimed = [False]
    if state.num_processes > 1:
        torch.distributed.broadcast_object_list(claimed)
    return claimed[0]


def _keep_results(folder: Path, known: Callable[[], Sequence[Arm]]) -> list[Result]:
    """Writes ``results.jsonl`` of all that is finished, and again if another process finished a run meanwhile."""
    results, written = collect(folder, known()), ""
    while is_main_process() and (text := _lines(results)) != written:
        write_text(folder / "results.jsonl", text)
        results, written = collect(folder, known()), text
    return results


def collect(folder: Path, known: Sequence[Arm]) -> list[Result]:
    """The finished runs that lie in the folder of a study, in the order of the arms and of the seeds.

    Args:
        folder: of the study.
        known: every arm of the study.

    Raises:
        InputError: a file is damaged; the message names it.
    """
    results = []
    for arm in known:
        for seed in _finished_seeds(folder, arm):
            place = arm_folder(folder, arm, seed)
            facts, log = _read_result(place / RESULT_FILE), _log(place)
            logits = [(line["step"], line["logit_min"], line["logit_max"]) for line in log if "logit_min" in line]
            history = [line for line in log if "fid" in line]
            came = (facts["diverged"], facts["step"], facts["metrics"])
            own = (facts.get("measured", {}), facts.get("device_minutes"))
            results.append(Result(arm, seed, *came, logits, history, *own))
    return results


def _finished_seeds(folder: Path, arm: Arm) -> list[int]:
    ends = [path.parent.name.rpartition("-seed")[2] for path in folder.glob(f"arms/{arm.name}-seed*/{RESULT_FILE}")]
    return sorted(int(end) for end in ends if end.isdigit())  # a copy of an arm may have any name


def say(line: str) -> None:
    """Prints a line, once over all processes."""
    if is_main_process():
        print(line, flush=True)


def arm_arguments(recipe: Recipe, arm: Arm, seed: int, folder: Path, rest: list[str]) -> list[str]:
    """The command line that one arm is."""
    own = [word for name, value in arm.options.items() for word in (f"--{name}", json.dumps(value).strip('"'))]
    return [*rest, *own, "--seed", str(seed), "--output_dir", str(arm_folder(folder, arm, seed))]


def list_arms(
    recipe: Recipe, arms: Sequence[Arm], seeds: Sequence[int], rest: list[str], probe: Arm | None = None
) -> None:
    """Prints the arms and how long all of them will take here.

    Args:
        recipe: what the arms are settings of.
        arms: those chosen.
        seeds: of the runs of each arm.
        rest: command-line options that all arms share.
        probe: the arm whose steps are timed; None takes steps without normalizer and penalty.
    """
    for arm in arms:
        say(arm.name)
    _, options = recipe.parse(rest if probe is None else arm_arguments(recipe, probe, seeds[0], Path("output"), rest))
    parts = recipe.parts(options)
    accelerator = make_accelerator(parts.training, Path("output"))
    set_arithmetic(parts.training, accelerator.device)
    networks = (parts.generator, parts.discriminator)
    for network in networks:
        network.to(accelerator.device, memory_format=torch.channels_last)
    played = (parts.training, parts.task, parts.loss, parts.penalties, *networks)
    context = make_context(accelerator, *played, {"generator": None, "discriminator": None})  # nothing is learned
    per_step = seconds_per_step(context, parts.images.shape, parts.generator_step.cost_per_step(parts.training))
    steps = parts.training.max_steps
    total = per_step * steps * len(arms) * len(seeds)
    of = "without normalizer and penalty" if probe is None else f"of {probe.name}, evaluations not counted"
    say(
        f"{len(arms)} arms x {len(seeds)} seed(s) x {steps} steps: about {duration(total)} here, estimated "
        f"from a probe of {per_step:.2g} s per step {of}"
    )


def arm_folder(folder: Path, arm: Arm, seed: int) -> Path:
    """Where the run of an arm with a seed lies."""
    return folder / "arms" / f"{arm.name}-seed{seed}"


def _require_same_options(recipe: Recipe, result: Result, folder: Path, rest: list[str]) -> None:
    place = arm_folder(folder, result.arm, result.seed)
    _, options = recipe.parse(arm_arguments(recipe, result.arm, result.seed, folder, rest))
    now, then = _decisive(_described(options)), _decisive(_read_result(place / RESULT_FILE)["options"])
    changed = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    if changed:
        raise InputError(f"{place} was run with other options ({', '.join(changed)}): choose another --output_dir")


def _described(options: Any) -> dict[str, Any]:
    """Parsed options as JSON content."""
    return json.loads(json.dumps(options.as_dict(), default=str))


def _decisive(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in options.items() if name not in _INDIFFERENT}
    # A file of features counts by its name, so that a study can be moved; its content stands in each eval.json.
    return found | {"evaluate_features": Path(found["evaluate_features"] or "pixels").name}


def _run_arm(
    recipe: Recipe,
    arm: Arm,
    seed: int,
    folder: Path,
    rest: list[str],
    images: ImageSet | None,
    measure: Measure | None,
) -> ImageSet:
    """Returns the images that it trained on."""
    place = arm_folder(folder, arm, seed)
    parser, options = recipe.parse(arm_arguments(recipe, arm, seed, folder, rest))
    summary = f"{recipe.card.get('summary', 'A run of a study.')} Arm `{arm.name}`, seed {seed}."
    trainer = replace(recipe, card={**recipe.card, "summary": summary}).trainer(options, images)
    if is_main_process():
        write_text(place / "config.yaml", parser.dump(options, skip_unset=False))
    came = _train(trainer)
    if is_main_process():
        measured = {} if measure is None or came["diverged"] else {"measured": dict(measure(place))}
        write_json(place / RESULT_FILE, {"options": _described(options), "seed": seed, **came, **measured})
    PartialState().wait_for_everyone()
    return trainer.images


def _train(trainer: Trainer) -> dict[str, Any]:
    diverged = None
    try:
        trainer.train()
    except (TrainingDiverged, SamplesNotFinite) as error:
        say(f"   diverged: {error}")
        diverged = str(error)
    metrics = _metrics(trainer.folder) if diverged is None and is_main_process() else {}
    seconds = trainer.run.device_seconds(trainer.step)
    minutes = None if seconds is None else round(seconds / 60, 3)
    return {"diverged": diverged, "step": trainer.step, "metrics": metrics, "device_minutes": minutes}


def _metrics(place: Path) -> dict[str, float]:
    result = stored_result(place / RESULT_FILES[0])
    return {} if result is None else {name: numbers["value"] for name, numbers in result["metrics"].items()}


def _read_result(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: remove it, and the arm is trained again") from error


def _log(place: Path) -> list[dict[str, float]]:
    """The lines of a run's log."""
    path = place / "metrics.jsonl"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    # What follows the last line break is empty, or a line that was cut off.
    lines = text.split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise InputError(f"{path} is damaged: remove the arm's folder, and it is trained again") from error


def _lines(results: Sequence[Result]) -> str:
    """The content of ``results.jsonl``."""
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
                "measured": dict(result.measured),
                "history": list(result.history),
                "device_minutes": result.device_minutes,
            }
        )
        for result in results
    ]
    return "\n".join(lines) + "\n"
