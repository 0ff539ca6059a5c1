"""One evaluation: samples and reference images through one extractor, metrics, and the protocol beside the numbers.

Launched on several processes, each takes its share of the chunks; the sums are merged, the numbers are the same.
"""

import json
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from tqdm.auto import tqdm

from ..data import DataConfig, ImageSet, open_images
from ..data.sources import EMBEDDED
from ..data.subset import ImageSubset, subset
from ..errors import InputError
from ..files import require_writable, user_path, write_json
from .cache import FEATURES_FILE, reference_statistics
from .divergence import LARGEST_SIDE, SMALLEST_SET, neural_divergence
from .features import Extractor, open_extractor
from .metrics import gaussian_distance, inception_score, kernel_distance, manifold
from .options import METRICS, EvaluationConfig
from .protocol import FORMAT, PRESETS, Protocol, label
from .report import remove_report
from .result import RESULT_FILE, parse_result
from .samples import CHUNK, ImageSamples, ModelSamples, SampleSource, chunks, is_grey, open_samples, through_jpeg
from .statistics import ClassStatistics, FeatureFile, FeatureSet, GaussianStatistics

_PACKAGES = ("licfg_hf", "torch", "diffusers", "numpy")
_NEED_FEATURES = {"kid", "pr", "dc"}
_SHOWN = 64  # images that a report shows
_JUDGED = 2000  # images of each side that a neural divergence sees
_COVERED = 0.25  # a class counts as covered from this multiple of its fair share on


@dataclass
class Gathered:
    """What the samples gave.

    Attributes:
        moments: of the features.
        classes: for the Inception Score, where it is wanted.
        hits, asked: samples by the class asked for, (classes,), those of that class alone, and all; None without
            class logits.
        predicted: samples by predicted class, (classes,); likewise.
        kept: the first samples, uint8, for pictures and the neural divergence.
    """

    moments: GaussianStatistics
    classes: ClassStatistics | None = None
    hits: torch.Tensor | None = None
    asked: torch.Tensor | None = None
    predicted: torch.Tensor | None = None
    kept: list[torch.Tensor] = field(default_factory=list)


def evaluate(config: EvaluationConfig) -> dict[str, Any]:
    """Evaluates a model or a set of images and returns the content of eval.json (on the main process; else {}).

    Raises:
        InputError: what is asked for cannot be had; said before long work begins where that can be known.
    """
    began, state = time.monotonic(), processes()
    source = open_samples(config, state.device)
    reference = _open_reference(config, config.reference_split)
    coloured = {(1, 3): reference, (3, 1): getattr(source, "images", None)}.get((source.shape[0], reference.shape[0]))
    if config.image_channels is None and coloured is not None and is_grey(coloured):  # grey pictures stored as RGB
        config = replace(config, image_channels=1)
        if coloured is reference:
            reference = _open_reference(config, config.reference_split)
        else:
            source = open_samples(config, state.device)
    if config.reference_limit is not None and config.reference_limit > len(reference):
        raise InputError(f"{config.data} has {len(reference)} images, fewer than {config.reference_limit}")
    reference = subset(reference, config.reference_limit)
    _require_alike(source, reference)
    extractor = open_extractor(config.features, source.shape, state.device)
    _require_possible(config, source, reference, extractor)
    held_out = _held_out(config, source)
    output = output_file(config)
    require_writable(output, "--output", folder=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    real, real_features = _reference(reference, config, extractor, state)
    with _shared_folder(state) as folder:
        features, gathered = _gather(source, extractor, config, folder, state)
        if not state.is_main_process:
            return {}
        metrics = metrics_of(config, gathered, features, real, real_features, extractor)
        if held_out is not None:
            metrics |= _divergence(config, held_out, torch.cat(gathered.kept)[:_JUDGED])
        result = {
            "format": FORMAT,
            "name": config.model,
            "protocol": protocol_of(config, source, reference, extractor, held_out).as_dict(),
            "metrics": metrics,
            **by_class(config, gathered, source.class_names or getattr(reference, "class_names", None)),
            "facts": {
                **({"weights": source.weights} if isinstance(source, ModelSamples) else {}),
                "device": str(state.device) if state.device.type == "cuda" else f"cpu ({platform.machine()})",
                "processes": state.num_processes,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - began, 1),
                "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            },
            "notes": deviations(config, source),
        }
        known = _known(output, result)
        result["metrics"] = {**known.get("metrics", {}), **metrics}
        result |= {"classes": known["classes"]} if "classes" in known and "classes" not in result else {}
        write_json(output, result)  # before the pictures, which are the smaller loss
        if output.name == RESULT_FILE:
            remove_report(output.parent)  # of an earlier result
        if config.report:
            from .pictures import write_pictures

            kept = torch.cat(gathered.kept)
            result |= write_pictures(output.parent, result, source, kept, features, reference, real_features)
            write_json(output, result)
    return result


def processes() -> PartialState:
    """The processes of this launch; without an accelerator they talk to each other on the CPU."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())


def _known(output: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What an earlier evaluation by the same protocol wrote of the same model."""
    try:
        known = json.loads(output.read_text(encoding="utf-8"))
        parse_result(known, str(output))
        same = known["protocol"] == result["protocol"] and known["name"] == result["name"]
        return known if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def output_file(config: EvaluationConfig) -> Path:
    """Where the result is written."""
    if config.output is not None:
        return user_path(config.output)
    folder = pipeline_folder(config)
    if folder is None:
        return Path(RESULT_FILE)
    return folder / "flow" / RESULT_FILE if config.flow else folder / RESULT_FILE


def pipeline_folder(config: EvaluationConfig) -> Path | None:
    """The local folder of the model that is evaluated; None for a repository of the Hub, and for images."""
    folder = user_path(config.model)
    return folder if (folder / "model_index.json").is_file() else None


def _open_reference(config: EvaluationConfig, split: str) -> ImageSet:
    names = ("data_config", "image_column", "image_size", "image_channels")
    given = {name: getattr(config, name) for name in names}
    given |= {"split": None if config.data in EMBEDDED else split}
    return open_images(DataConfig(config.data, **given), progress=processes().is_main_process)


def _require_alike(source: SampleSource, reference: ImageSet) -> None:
    if tuple(source.shape) == tuple(reference.shape):
        return
    (channels, *size), (of_reference, *_) = source.shape, reference.shape
    model = not isinstance(source, ImageSamples)
    if channels != of_reference:
        wanted = channels if model else "1 (grey) or 3 (RGB)"
        cure = f"pass --image_channels {wanted}" + (", which the reference is brought to" if model else "")
    elif model and size[0] == size[1]:
        cure = f"pass --image_size {size[0]}, which the reference is brought to, or another --data"
    else:
        cure = "pass --image_size, which both are brought to, or another --data"
    raise InputError(
        f"samples are {tuple(source.shape)} and reference images {tuple(reference.shape)} (channels, height, width): "
        f"{cure}"
    )


def _require_possible(
    config: EvaluationConfig, source: SampleSource, reference: ImageSet, extractor: Extractor
) -> None:
    for name in ("is", "acc"):
        if name in config.metrics and extractor.classes is None:
            raise InputError(f"{name} needs class logits, which {extractor.name} does not give: choose a classifier")
    if "is" in config.metrics and source.count < config.is_splits:
        raise InputError(f"is over {config.is_splits} splits needs as many samples, not {source.count}")
    smallest = min(source.count, len(reference))
    if smallest < 2:
        raise InputError("metrics need at least two images of each side")
    if "kid" in config.metrics and config.kid_subsets > 1 and config.kid_subset_size > smallest:
        raise InputError(f"kid_subset_size {config.kid_subset_size} is more than the {smallest} images of a side")
    if {"pr", "dc"} & set(config.metrics) and smallest <= config.neighbours:
        raise InputError(f"k = {config.neighbours} neighbours need more images than the {smallest} of a side")
    if "acc" in config.metrics and source.classes not in (None, extractor.classes):
        raise InputError(f"the model has {source.classes} classes and {extractor.name} {extractor.classes}")


# ---- passes over images ---------------------------------------------------------------------------------------------


@contextmanager
def _shared_folder(state: PartialState) -> Iterator[Path]:
    """A temporary folder of the main process that all processes know."""
    path = [tempfile.mkdtemp(prefix="licfg_hf-") if state.is_main_process else None]
    broadcast_object_list(path)
    try:
        yield Path(path[0])
    finally:
        if state.is_main_process:
            shutil.rmtree(path[0], ignore_errors=True)


def _reference(
    images: ImageSet, config: EvaluationConfig, extractor: Extractor, state: PartialState
) -> tuple[GaussianStatistics, FeatureFile]:
    """The main process computes what the cache lacks, the others then find it there."""
    with state.main_process_first():
        return reference_of(images, config.data, extractor, config.batch_size)


def reference_of(
    images: ImageSet, name: str, extractor: Extractor, batch_size: int
) -> tuple[GaussianStatistics, FeatureFile]:
    """Moments and feature vectors of reference images, from the cache or computed now.

    Args:
        name: of the images, for messages.
        batch_size: images per pass.

    Raises:
        InputError: features are not finite.
    """
    count = len(images)
    content = {
        "fingerprint": images.fingerprint,
        "count": count,
        "extractor": extractor.name,
        "digest": extractor.digest,
        "preprocessing": extractor.preprocessing,
        "shape": list(images.shape),
        "choice": "random" if isinstance(images, ImageSubset) else "all",
    }

    def compute(folder: Path) -> GaussianStatistics:
        store = FeatureFile(folder / FEATURES_FILE, (count, extractor.dim))
        moments = GaussianStatistics.empty(extractor.dim)
        for first in tqdm(range(0, count, batch_size), desc=f"features of {name}", disable=None):
            batch = images.fetch(torch.arange(first, min(first + batch_size, count)), seed=0).cpu()
            vectors, _ = extractor(batch)
            store.write(first, vectors)
            moments = moments.merge(GaussianStatistics.of(vectors))
        store.flush()
        return moments

    try:
        return reference_statistics(content, compute)
    except ValueError as error:
        raise InputError(f"{name} with {extractor.name}: {error}") from error


def _gather(
    source: SampleSource, extractor: Extractor, config: EvaluationConfig, folder: Path, state: PartialState
) -> tuple[FeatureSet | None, Gathered]:
    """Passes the samples through the extractor, each process its share of the chunks, and merges."""
    path, wants = folder / "samples.npy", bool(_NEED_FEATURES & set(config.metrics)) or config.report
    with state.main_process_first():
        store = FeatureFile(path, (source.count, extractor.dim)) if wants and state.is_main_process else None
    if wants and store is None:
        store = FeatureFile(path, writable=True)
    own = own_share(source, extractor, config, store, state.process_index, state.num_processes)
    if store is not None:
        store.flush()
    shares = gather_object([own])
    state.wait_for_everyone()
    return (FeatureFile(path) if wants else None), _merged(shares)


def own_share(
    source: SampleSource,
    extractor: Extractor,
    config: EvaluationConfig,
    store: FeatureFile | None,
    process: int,
    processes: int,
    quiet: bool = False,
) -> Gathered:
    """Passes every ``processes``-th chunk of the samples through the extractor, from chunk ``process`` on.

    Args:
        store: takes the feature vectors; None where no metric needs them.
        quiet: no progress bar.

    Raises:
        InputError: features are not finite.
    """
    splits = ClassStatistics.empty(config.is_splits, extractor.classes) if "is" in config.metrics else None
    own = Gathered(GaussianStatistics.empty(extractor.dim), splits)
    if extractor.classes is not None:
        own.hits, own.asked, own.predicted = torch.zeros(3, extractor.classes, dtype=torch.int64)
    numbers = range(process, chunks(source), processes)
    for number in tqdm(numbers, desc=f"samples of {source.name}", disable=True if quiet or process else None):
        images, labels = source.chunk(number)
        images = images if config.jpeg is None else through_jpeg(images, config.jpeg)
        if number * CHUNK < (_JUDGED if "nd" in config.metrics else _SHOWN if config.report else 0):
            own.kept.append(images)
        for part, wanted, first in _parts(images, labels, number * CHUNK, config.batch_size):
            try:
                _add(own, *extractor(part), wanted, first, source.count, store)
            except ValueError as error:
                raise InputError(f"samples {first} to {first + len(part)} of {source.name}: {error}") from error
    return own


def _parts(
    images: torch.Tensor, labels: torch.Tensor | None, first: int, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None, int]]:
    for offset in range(0, len(images), size):
        part = slice(offset, offset + size)
        yield images[part], None if labels is None else labels[part], first + offset


def _add(
    own: Gathered,
    features: torch.Tensor,
    logits: torch.Tensor | None,
    labels: torch.Tensor | None,
    first: int,
    total: int,
    store: FeatureFile | None,
) -> None:
    own.moments = own.moments.merge(GaussianStatistics.of(features))
    if store is not None:
        store.write(first, features)
    if logits is None:
        return
    if own.classes is not None:
        own.classes.update(logits, first, total)
    chosen = logits.argmax(dim=1)
    own.predicted += torch.bincount(chosen, minlength=len(own.predicted))
    if labels is not None and labels.max() < len(own.asked):  # a model of other classes has no metric that wants this
        own.asked += torch.bincount(labels, minlength=len(own.asked))
        own.hits += torch.bincount(labels[chosen.cpu() == labels], minlength=len(own.hits))


def _merged(shares: list[Gathered]) -> Gathered:
    """Shares of the processes as one; chunk ``i`` was drawn by process ``i % processes``."""
    whole, *others = shares
    for other in others:
        whole.moments = whole.moments.merge(other.moments)
        whole.classes = None if whole.classes is None else whole.classes.merge(other.classes)
        for name in ("hits", "asked", "predicted"):
            counts = getattr(whole, name)
            setattr(whole, name, None if counts is None else counts + getattr(other, name))
    longest = max(len(share.kept) for share in shares)
    whole.kept = [share.kept[i] for i in range(longest) for share in shares if i < len(share.kept)]
    return whole


def measure(
    source: SampleSource,
    extractor: Extractor,
    config: EvaluationConfig,
    real: GaussianStatistics,
    real_features: FeatureSet,
    quiet: bool = False,
) -> dict[str, Any]:
    """``metrics`` and ``classes`` of a result, by this process alone; features lie in a temporary file meanwhile.

    Raises:
        InputError: features are not finite.
    """
    with tempfile.TemporaryDirectory(prefix="licfg_hf-") as folder:
        store = FeatureFile(Path(folder) / "samples.npy", (source.count, extractor.dim))
        gathered = own_share(source, extractor, config, store, 0, 1, quiet)
        metrics = metrics_of(config, gathered, store, real, real_features, extractor)
        return {"metrics": metrics, **by_class(config, gathered, source.class_names)}


# ---- numbers --------------------------------------------------------------------------------------------------------


def metrics_of(
    config: EvaluationConfig,
    gathered: Gathered,
    features: FeatureSet | None,
    real: GaussianStatistics,
    real_features: FeatureSet,
    extractor: Extractor,
) -> dict[str, dict[str, float]]:
    """The numbers that are asked for, but for the neural divergence."""
    found: dict[str, dict[str, float]] = {}
    if "fid" in config.metrics:
        found["fid"] = {"value": gaussian_distance(real, gathered.moments)}
    if "kid" in config.metrics:
        size = max(len(real_features), len(features)) if config.kid_subsets == 1 else config.kid_subset_size
        value, deviation = kernel_distance(real_features, features, config.kid_subsets, size, config.seed)
        found["kid"] = {"value": value, "std": deviation}
    if "is" in config.metrics:
        value, deviation = inception_score(gathered.classes)
        found["is"] = {"value": value, "std": deviation}
    if {"pr", "dc"} & set(config.metrics):
        overlap = manifold(real_features, features, config.neighbours)
        wanted = [name for metric in ("pr", "dc") if metric in config.metrics for name in METRICS[metric]]
        found |= {name: {"value": getattr(overlap, name)} for name in wanted}
    if "acc" in config.metrics:
        fair = gathered.moments.count / extractor.classes
        if gathered.asked.any():
            found["class_accuracy"] = {"value": float(gathered.hits.sum() / gathered.asked.sum())}
        found["classes_covered"] = {"value": float((gathered.predicted >= _COVERED * fair).sum())}
    return found


def by_class(config: EvaluationConfig, gathered: Gathered, names: Sequence[str] | None) -> dict[str, Any]:
    """``classes`` of a result where ``acc`` is asked for, {} otherwise: of each its name, the ``share`` of all samples
    that the classifier takes for it, and its ``accuracy`` where samples were asked for by class."""
    if "acc" not in config.metrics:
        return {}
    count, asked = len(gathered.predicted), gathered.asked.tolist()
    names = names if names is not None and len(names) == count else [str(label) for label in range(count)]
    rows = zip(names, gathered.predicted.tolist(), gathered.hits.tolist(), asked, strict=True)
    classes = [
        {"name": name, "share": predicted / gathered.moments.count} | ({"accuracy": hits / wanted} if wanted else {})
        for name, predicted, hits, wanted in rows
    ]
    return {"classes": classes}


def _held_out(config: EvaluationConfig, source: SampleSource) -> ImageSet | None:
    """The images that the neural divergence takes, where it is asked for."""
    if "nd" not in config.metrics:
        return None
    if config.data in EMBEDDED:
        raise InputError(f"nd wants images that no generator was trained on, and {config.data} has no such part")
    images = subset(_open_reference(config, config.held_out_split), _JUDGED)
    if min(len(images), source.count) < SMALLEST_SET or max(source.shape[1:]) > LARGEST_SIDE:
        raise InputError(
            f"nd wants {SMALLEST_SET} images of each side or more, of at most {LARGEST_SIDE} pixels; there are "
            f"{len(images)} held-out images and {source.count} samples of {source.shape[2]}x{source.shape[1]}"
        )
    return images


def _divergence(config: EvaluationConfig, held_out: ImageSet, samples: torch.Tensor) -> dict[str, dict[str, float]]:
    real = held_out.fetch(torch.arange(len(held_out)), seed=0).cpu()
    found = neural_divergence(real, samples, seed=config.seed)
    return {"neural_divergence": {"value": found.value, "low": found.low, "high": found.high}}


def protocol_of(
    config: EvaluationConfig,
    source: SampleSource,
    reference: ImageSet,
    extractor: Extractor,
    held_out: ImageSet | None,
) -> Protocol:
    """How a measurement is made; what the source's facts say counts."""
    whole = config.kid_subsets == 1
    own = dict(
        extractor=extractor.name,
        extractor_hash=extractor.digest,
        preprocessing=extractor.preprocessing,
        reference=config.data,
        reference_fingerprint=reference.fingerprint,
        reference_split=config.reference_split,
        reference_count=len(reference),
        held_out=None if held_out is None else f"{held_out.fingerprint} {config.held_out_split} {len(held_out)}",
        samples=source.count,
        seed=config.seed,
        jpeg=config.jpeg,
        neighbours=config.neighbours,
        kid_subsets=config.kid_subsets,
        kid_subset_size=source.count if whole else config.kid_subset_size,
        is_splits=config.is_splits,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )
    return Protocol(**own | source.facts)


def summary(result: dict[str, Any]) -> str:
    """The numbers as lines for a terminal."""
    protocol = result["protocol"]
    head = (
        f"{result['name']}: {protocol['samples']:,} samples against {protocol['reference_count']:,} images of "
        f"{protocol['reference']} ({protocol['reference_split']}), features of {protocol['extractor']}"
    )
    lines = []
    for name, entry in result["metrics"].items():
        spread = f" ± {entry['std']:.3g}" if entry.get("std") else ""
        spread += f" [{entry['low']:.4g}, {entry['high']:.4g}]" if "low" in entry else ""
        lines.append(f"  {label(name, protocol['extractor']):<28} {entry['value']:.6g}{spread}")
    lines += [f"  NOTE: {line}" for line in result["notes"]]
    return "\n".join([head, *lines])


def deviations(config: EvaluationConfig, source: SampleSource) -> list[str]:
    """In what an evaluation is not that of the protocol that was asked for."""
    if config.protocol is None:
        return []
    wanted = PRESETS[config.protocol].options
    own = {**source.facts, "features": config.features, "samples": source.count, "data_split": config.reference_split}
    own |= {name: getattr(config, name) for name in ("jpeg", "is_splits", "neighbours")}
    return [
        f"{name}: {own[name]}, and {wanted[name]} in the protocol {config.protocol}"
        for name in wanted
        if name in own and own[name] != wanted[name]
    ]


def main(config: EvaluationConfig, say: Callable[[str], None] = print) -> Path | None:
    """Evaluates, and prints the numbers and where they are.

    Returns:
        The file that was written; None on processes other than the main one.
    """
    result = evaluate(config)
    if not result:
        return None
    place = output_file(config)
    say(summary(result))
    say(f"  {result['facts']['seconds']} s; written to {place}")
    return place
