"""One evaluation: samples and reference images through one extractor, metrics, and the protocol beside the numbers.

Launched on several processes, each takes its share of the chunks; the sums are merged, the numbers are the same.
"""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from ..data import DataConfig, ImageSet, open_images
from ..data.config import EMBEDDED, names_of
from ..data.image_sets import subset
from ..errors import InputError
from ..files import require_writable, user_path, write_json
from ..machine import best_device, device_name, versions
from .extractors import Extractor, open_extractor
from .metrics import Measured, Plan, chosen_metrics, require_metrics
from .metrics.neural_divergence import JUDGED
from .options import EvaluationConfig
from .passes import Share, passed, reference_of, take_share
from .protocol import FORMAT, PRESETS, EvaluationProtocol, label
from .report import remove_report, write_pictures
from .result import RESULT_FILE, RESULT_FILES, stored_result
from .samples import ImageSamples, ModelSamples, SampleSource, is_grey, open_samples

_PACKAGES = ("licfg_hf", "torch", "diffusers", "numpy")


def evaluate(config: EvaluationConfig) -> dict[str, Any]:
    """Evaluates a model or a set of images and returns the content of eval.json (on the main process; else {}).

    Raises InputError where what is asked for cannot be had, before long work begins where that can be known.
    """
    began, state = time.monotonic(), processes()
    device = best_device() if state.num_processes == 1 else state.device or torch.device("cpu")
    config, source, reference = _both_sides(config, device)
    extractor = open_extractor(config.features, source.shape, device)
    held_out = _held_out(config)
    require_metrics(Plan(config, source.count, source.classes, reference, extractor, held_out))
    output = output_file(config)
    require_writable(output, "--output", folder=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    with state.main_process_first():  # it computes what the cache lacks, the others then find it there
        real = reference_of(reference, config.data, extractor, config.batch_size)
    share = partial(take_share, source, extractor, config)
    if not state.is_main_process:
        _shares_of_all(state, share)
        return {}
    with passed(source, extractor, config, real, partial(_shares_of_all, state, share), held_out) as measured:
        protocol = protocol_of(config, source, reference, extractor, held_out)
        result = {
            "format": FORMAT,
            "name": config.model,
            "protocol": protocol.as_dict(),
            **numbers_of(measured, source.class_names or getattr(reference, "class_names", None)),
            "facts": {
                **({"weights": source.weights} if isinstance(source, ModelSamples) else {}),
                "device": device_name(device),
                "processes": state.num_processes,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - began, 1),
                "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            },
            "notes": _deviations(config, protocol, source.shape[1]),
        }
        return _write(output, result, source, reference, measured)


def _shares_of_all(state: PartialState, share: Callable[..., Share], path: Path | None = None) -> list[Share]:
    """The shares of all processes; the main one knows the ``path`` of the file for feature vectors."""
    known = broadcast_object_list([path])
    return gather_object([share(known[0], state.process_index, state.num_processes)])


def processes() -> PartialState:
    """The processes of this launch; without an accelerator they talk to each other on the CPU."""
    return PartialState(cpu=best_device().type == "cpu")


def _both_sides(config: EvaluationConfig, device: torch.device) -> tuple[EvaluationConfig, SampleSource, ImageSet]:
    """Samples and reference images of one shape, and the options with what was found about it."""
    source, reference = open_samples(config, device), _open_reference(config, config.reference_split)
    coloured = {(1, 3): reference, (3, 1): getattr(source, "images", None)}.get((source.shape[0], reference.shape[0]))
    if config.image_channels is None and coloured is not None and is_grey(coloured):  # grey pictures stored as RGB
        config = replace(config, image_channels=1)
        if coloured is reference:
            reference = _open_reference(config, config.reference_split)
        else:
            source = open_samples(config, device)
    if config.reference_limit is not None and config.reference_limit > len(reference):
        raise InputError(f"{config.data} has {len(reference)} images, fewer than {config.reference_limit}")
    _require_alike(source, reference)
    return config, source, subset(reference, config.reference_limit)


def _open_reference(config: EvaluationConfig, split: str) -> ImageSet:
    names = ("data_config", "image_column", "image_size", "resize_filter", "image_channels")
    given: dict[str, Any] = {name: getattr(config, name) for name in names}
    given["split"] = None if config.data in EMBEDDED else split
    return open_images(DataConfig(config.data, **given), progress=processes().is_main_process)


def _held_out(config: EvaluationConfig) -> ImageSet | None:
    """The images that no generator was trained on, where a metric needs them."""
    metric = next((metric for metric in chosen_metrics(config.metrics) if metric.held_out), None)
    if metric is None:
        return None
    if config.data in EMBEDDED:
        needed = "images that no generator was trained on"
        raise InputError(f"{metric.option} needs {needed}, and {config.data} has no such split")
    return subset(_open_reference(config, config.held_out_split), JUDGED)


def _require_alike(source: SampleSource, reference: ImageSet) -> None:
    if tuple(source.shape) == tuple(reference.shape):
        return
    (channels, *size), (of_reference, *_) = source.shape, reference.shape
    model = not isinstance(source, ImageSamples)
    if channels != of_reference:
        wanted = channels if model else "1 (grey) or 3 (RGB)"
        cure = f"pass --image_channels {wanted}" + (", to which the reference is converted" if model else "")
    elif model and size[0] == size[1]:
        cure = f"pass --image_size {size[0]}, to which the reference is resized, or another --data"
    else:
        cure = "pass --image_size, to which both are resized, or another --data"
    shapes = f"samples are {tuple(source.shape)} and reference images {tuple(reference.shape)}"
    raise InputError(f"{shapes} (channels, height, width): {cure}")


def numbers_of(measured: Measured, names: Sequence[str] | None) -> dict[str, Any]:
    """``metrics`` of a result and, where a metric asks for them, ``classes``.

    Of each class its name, the ``share`` of all samples that the classifier takes for it, and its ``accuracy`` where
    samples were asked for by class.
    """
    chosen = chosen_metrics(measured.config.metrics)
    found = {metric.name: metric.compute(measured) for metric in chosen}
    metrics = {name: numbers for name, numbers in found.items() if numbers is not None}
    if not any(metric.by_class for metric in chosen):
        return {"metrics": metrics}
    count, total = len(measured.predicted), measured.samples.moments.count
    names = names if names is not None and len(names) == count else [str(label) for label in range(count)]
    rows = zip(names, measured.predicted.tolist(), measured.hits.tolist(), measured.asked.tolist(), strict=True)
    classes = [
        {"name": name, "share": predicted / total} | ({"accuracy": hits / asked} if asked else {})
        for name, predicted, hits, asked in rows
    ]
    return {"metrics": metrics, "classes": classes}


def protocol_of(
    config: EvaluationConfig,
    source: SampleSource,
    reference: ImageSet,
    extractor: Extractor,
    held_out: ImageSet | None = None,
) -> EvaluationProtocol:
    """The protocol of a measurement; facts of the source take precedence."""
    same = ("reference_split", "seed", "jpeg", "neighbours", "kid_subsets", "is_splits")
    own: dict[str, Any] = dict(
        {name: getattr(config, name) for name in same},
        extractor=extractor.name,
        extractor_hash=extractor.digest,
        preprocessing=extractor.preprocessing,
        reference=config.data,
        reference_fingerprint=reference.fingerprint,
        reference_count=len(reference),
        held_out=None if held_out is None else f"{held_out.fingerprint} {config.held_out_split} {len(held_out)}",
        samples=source.count,
        kid_subset_size=source.count if config.kid_subsets == 1 else config.kid_subset_size,
        versions=versions(_PACKAGES),
        further={name: value for metric in chosen_metrics(config.metrics) for name, value in metric.added.items()},
    )
    return EvaluationProtocol(**own | source.facts)


def _deviations(config: EvaluationConfig, protocol: EvaluationProtocol, size: int) -> list[str]:
    """In what a measurement is not that of the protocol that was asked for."""
    if config.protocol is None:
        return []
    known = PRESETS[config.protocol].on(names_of(config.data), size)
    return known.deviations(config.protocol, protocol, config.batch_statistics)


def output_file(config: EvaluationConfig) -> Path:
    """The file for the result."""
    if config.output is not None:
        return user_path(config.output)
    folder = pipeline_folder(config)
    return Path(RESULT_FILE) if folder is None else folder / RESULT_FILES[config.flow]


def pipeline_folder(config: EvaluationConfig) -> Path | None:
    """The local folder of the model that is evaluated; None for a repository of the Hub, and for images."""
    folder = user_path(config.model)
    return folder if (folder / "model_index.json").is_file() else None


def _write(
    output: Path, result: dict[str, Any], source: SampleSource, reference: ImageSet, measured: Measured
) -> dict[str, Any]:
    """Writes a result and its report, and returns it with what an earlier one of the same protocol measured."""
    known = stored_result(output)  # what an earlier evaluation by the same protocol wrote of the same model
    if known is not None and all(known[name] == result[name] for name in ("protocol", "name")):
        result["metrics"] = {**known["metrics"], **result["metrics"]}
        if "classes" in known:
            result.setdefault("classes", known["classes"])
    write_json(output, result)  # before the pictures, which are the smaller loss
    if output.name == RESULT_FILE:
        remove_report(output.parent)  # of an earlier result
    if measured.config.report:
        result |= write_pictures(output.parent, result, source, measured, reference)
        write_json(output, result)
    return result


def main(config: EvaluationConfig) -> Path | None:
    """Evaluates, prints the numbers, and returns the file that the main process wrote; None on the others."""
    result = evaluate(config)
    if not result:
        return None
    protocol, place = result["protocol"], output_file(config)
    print(
        f"{result['name']}: {protocol['samples']:,} samples against {protocol['reference_count']:,} images of "
        f"{protocol['reference']} ({protocol['reference_split']}), features of {protocol['extractor']}"
    )
    for name, entry in result["metrics"].items():
        spread = f" ± {entry['std']:.3g}" if entry.get("std") else ""
        spread += f" [{entry['low']:.4g}, {entry['high']:.4g}]" if "low" in entry else ""
        print(f"  {label(name, protocol['extractor']):<28} {entry['value']:.6g}{spread}")
    for line in result["notes"]:
        print(f"  NOTE: {line}")
    print(f"  {result['facts']['seconds']} s; written to {place}")
    return place
