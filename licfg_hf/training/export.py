"""The finished model: written beside the old one, and put into its place as a whole."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import nn

from ..errors import InputError
from ..evaluation.report import report_files
from ..evaluation.result import RESULT_FILES, stored_result
from ..evaluation.samples import settings_hash, weights_hash, weights_of
from ..files import system_error, write_json
from ..images import save_image
from ..pipelines.saving import save_network
from ..staging import Update, updated
from .callbacks import FinishedModel
from .checkpoint import DESCRIPTION_FILE
from .checks import or_warn
from .run_folder import superseded
from .tasks import Flow

if TYPE_CHECKING:
    from .trainer import Trainer


def export_or_say_why_not(trainer: "Trainer") -> None:
    """Exports the model; InputError where the disk did not take it."""
    try:
        export(trainer)
    except (OSError, SafetensorError) as error:
        reason = getattr(system_error(error), "strerror", None) or error
        raise InputError(
            f"the model could not be written into {trainer.folder}: {reason}; {trainer.run.last_checkpoint()}. "
            "Make room and give the same command again"
        ) from error


def export(trainer: "Trainer") -> None:
    """Writes pipeline, discriminator, samples, results and what callbacks add; on the main process."""
    trainer.progress.say(f"exporting the model of step {trainer.step}")
    with updated(trainer.folder) as update:
        place, flow = update.place, trainer.generator_step.flow()
        trainer.discriminator.eval()
        with trainer.sampler.generator_for_sampling() as network:
            pipeline = write_networks(trainer, network, place)
        or_warn(trainer, lambda: save_image(trainer.sampler.grid(), place / "samples.png"))
        facts = facts_of_model(trainer, place)
        results = [_result(trainer, update, facts["weights"], RESULT_FILES[0], None)]
        if flow is not None:
            or_warn(trainer, lambda: save_image(trainer.sampler.grid(flow), place / "samples_moved.png"))
            results.append(_result(trainer, update, facts["weights"], RESULT_FILES[1], flow))
        facts["device_seconds"] = trainer.run.device_seconds(trainer.step)
        write_json(place / DESCRIPTION_FILE, facts)
        found = [result for result in results if result is not None]
        measured = [] if trainer.evaluation is None else trainer.evaluation.by_the_protocol(trainer)
        trainer.notify("export", FinishedModel(place, facts, found, pipeline, trainer.class_names, measured))
        update.removed += superseded(trainer.folder, place)
    trainer.accelerator.print(f"done: samples in {trainer.folder / 'samples.png'}, the model in {trainer.folder}")


def write_networks(trainer: "Trainer", network: nn.Module, folder: Path) -> str | None:
    """Writes a generator with all that belongs to it; returns the class of the pipeline that draws from it."""
    pipeline = trainer.task.export(network, folder)
    save_network(trainer.discriminator, folder / "discriminator")
    trainer.generator_step.export(folder)
    return pipeline


def facts_of_model(trainer: "Trainer", folder: Path) -> dict[str, Any]:
    """What ``training.json`` says of the model in a folder."""
    run, own = trainer.run, {"step": trainer.step, "weights": weights_of(folder), "exported": trainer.exported}
    return {"identity": run.identity, **run.facts, **own}


def _result(
    trainer: "Trainer", update: Update, weights: dict[str, str], name: str, flow: Flow
) -> dict[str, Any] | None:
    """The result of the finished generator, moved by the flow if there is one, written where it belongs."""
    place, digest = trainer.folder / name, weights_hash(weights, flow is not None)
    known = stored_result(place)
    own = {"step": trainer.step, "training_seed": trainer.config.seed, "flow": flow is not None}
    own["config_hash"] = settings_hash(trainer.run.identity)
    same_weights = known is not None and known.get("facts", {}).get("weights", digest) == digest
    if known is not None and same_weights and own.items() <= known["protocol"].items():
        trainer.accelerator.print(f"{place} is of this model already and stays; remove it to evaluate anew")
        return known
    stale = [place, *report_files(place.parent)]
    update.removed += [path.relative_to(trainer.folder).as_posix() for path in stale]
    evaluation = trainer.evaluation
    if evaluation is None:
        return None
    result = evaluation.result
    if flow is not None or result is None or result["protocol"]["step"] != trainer.step:
        with trainer.sampler.generator_for_sampling() as network:
            result = evaluation.measure(trainer, network, flow)
        trainer.accelerator.print(evaluation.in_one_line(result) + ("" if flow is None else ", moved by the flow"))
    result = {**result, "facts": {**result["facts"], "weights": digest}}
    (update.place / name).parent.mkdir(exist_ok=True)
    write_json(update.place / name, result)
    return result
