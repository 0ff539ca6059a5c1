"""The options of an evaluation; without PyTorch, so that ``licfg-hf evaluate --help`` comes at once."""

import argparse
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from ..ranges import require_distinct, require_set, require_whole
from .metrics import METRICS, metric_options

if TYPE_CHECKING:
    from .protocol import Preset

TRAINING = "training"  # batches as large as those that the generator was trained on
_LARGEST_BATCH = 256  # samples that every pipeline draws in one pass
_OPTION_OF = {"samples": "limit", "data_split": "reference_split"}  # where a protocol calls it otherwise
# Options that concern some metrics alone -> what these metrics call the setting.
_OF_METRICS = {name: name for name in ("is_splits", "kid_subsets", "kid_subset_size")} | {"held_out_split": "held_out"}


def _option(default: Any, words: str, low: int | None = None, high: int | None = None) -> Any:
    """A field that is also an option of the command: what ``--help`` says of it, its smallest and largest value."""
    return field(default=default, metadata={"help": words, "range": None if low is None else (low, high)})


@dataclass(frozen=True)
class EvaluationConfig:
    """Options of an evaluation; see ``licfg-hf evaluate --help``. InputError where a value is outside its range."""

    model: str
    data: str = _option("cifar10", "reference images: a preset such as cifar10, a Hub id, a local folder, or digits")
    data_config: str | None = _option(None, "configuration of the reference data, if it has several")
    image_column: str | None = _option(None, "column of the reference data with the images, if it has several")
    split: str = _option("train", "split of MODEL_OR_IMAGES to evaluate, if that is a data set (default: train)")
    reference_split: str = _option("train", "split of the reference data (default: train)")
    held_out_split: str = _option(
        "test", "split of the reference data for nd, which no generator was trained on (default: test)"
    )
    image_size: int | None = _option(
        None, "height and width to which images of both sides are resized (default: as they are)", 1, 8192
    )
    resize_filter: Literal["lanczos", "bicubic", "bilinear"] | None = _option(
        None, "lanczos, bicubic or bilinear, by which images of both sides are resized (default: as for training)"
    )
    image_channels: int | None = _option(
        None, "1 (grey) or 3 (RGB), to which images of both sides are converted (default: as they are)"
    )
    limit: int | None = _option(
        None,
        "number of samples; of a data set, a fixed random choice (default: 10000, or all of a data set)",
        1,
        10**8,
    )
    reference_limit: int | None = _option(
        None, "number of reference images, a fixed random choice (default: all)", 1, 10**8
    )
    metrics: tuple[str, ...] = _option(
        ("fid", "kid", "pr", "dc"), "comma-separated, of {metrics} (default: fid,kid,pr,dc)"
    )
    features: str = _option(
        "inception",
        "inception[:WEIGHTS.pth], timm:MODEL[:WEIGHTS], a classifier's .safetensors file, digits or pixels",
    )
    output: str | None = _option(None, "JSON file of the result (default: eval.json in the model's folder, or here)")
    seed: int = _option(0, "seed of the samples and of KID's subsets", 0, 2**63 - 1)
    batch_size: int = _option(100, "images per pass of the extractor; the numbers do not depend on it", 1, 10_000)
    truncation: float | None = _option(None, "truncation of the generator's latents, in (0, 1] (default: none)")
    flow: bool = _option(False, "move the samples by the model's functional-gradient steps")
    batch_statistics: int | Literal["training"] | None = _option(
        None,
        "samples that the generator draws at a time, with BatchNorm's statistics of these, as code does that never "
        "calls eval(); or training: as many as in its updates (default: the statistics stored in the model)",
    )
    jpeg: int | None = _option(
        None, "save samples as JPEG of this quality first, as some protocols do (default: no)", 1, 100
    )
    neighbours: int = _option(3, "k of precision, recall, density and coverage", 1, 10_000)
    kid_subsets: int = _option(100, "random subsets that KID is averaged over; 1 takes the whole sets", 1, 10**6)
    kid_subset_size: int = _option(1000, "images in such a subset", 2, 10**6)
    is_splits: int = _option(10, "parts of the samples that the Inception Score is averaged over", 1, 10**6)
    report: bool = _option(False, "also write report.html, a page with pictures, beside the result")
    protocol: str | None = None
    revision: str | None = _option(None, "branch, tag or commit of a repository on the Hub (default: its main branch)")

    def __post_init__(self) -> None:
        require_distinct(metrics=self.metrics)
        known = metric_options()
        unknown = [name for name in self.metrics if name not in known]
        if unknown or not self.metrics:
            raise InputError(f"metrics are among {', '.join(known)}, not {', '.join(unknown) or 'none'}")
        require_set(self)
        for item in fields(self):
            if item.metadata.get("range"):
                require_whole(*item.metadata["range"], **{item.name: getattr(self, item.name)})
        if self.batch_statistics != TRAINING:
            require_whole(2, _LARGEST_BATCH, batch_statistics=self.batch_statistics)
        if self.output == "":
            raise InputError("output is empty: name a JSON file")
        if self.truncation is not None and not 0 < self.truncation <= 1:
            raise InputError(f"truncation is in (0, 1], not {self.truncation}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a command's parser."""
    from .protocol import PRESETS

    what = "pipeline folder, model repository on the Hub, or a data set: a preset or a local folder"
    parser.add_argument("model", metavar="MODEL_OR_IMAGES", help=what)
    parser.add_argument("--protocol", choices=PRESETS, help="a known protocol; options given beside it override it")
    for item in fields(EvaluationConfig):
        if "help" not in item.metadata:
            continue
        words = item.metadata["help"].replace("{metrics}", ", ".join(metric_options()))
        if isinstance(item.default, bool):
            parser.add_argument(f"--{item.name}", action="store_true", default=None, help=words)
            continue
        shown = "" if item.default is None or "default" in words else f" (default: {item.default})"
        cast = next((one for one in (int, float) if one in getattr(item.type, "__args__", (item.type,))), str)
        cast = _number_or_training if item.name == "batch_statistics" else cast
        parser.add_argument(f"--{item.name}", type=cast, help=words + shown)


def _number_or_training(text: str) -> int | str:
    return text if text == TRAINING else int(text)


def metrics_in(text: str) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(part.strip() for part in text.split(","))


def options_of(protocol: "Preset") -> dict[str, Any]:
    """The values of ``EvaluationConfig`` that a known protocol has."""
    names = {item.name for item in fields(EvaluationConfig)}
    values = {_OPTION_OF.get(name, name): value for name, value in protocol.options.items()}
    values = {name: value for name, value in values.items() if name in names}
    return values | ({"metrics": metrics_in(values["metrics"])} if "metrics" in values else {})


def config_from(arguments: argparse.Namespace) -> EvaluationConfig:
    """The options that were given, on top of a protocol's, on top of the defaults; InputError where one is wrong."""
    from .protocol import PRESETS

    names = {item.name for item in fields(EvaluationConfig)}
    values: dict[str, Any] = {}
    if arguments.protocol is not None:
        from ..data.config import DataConfig, names_of

        data = arguments.data or EvaluationConfig.data
        size = DataConfig(data, image_size=arguments.image_size).resolved().image_size
        values = options_of(PRESETS[arguments.protocol].on(names_of(data), size))
    values |= {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if isinstance(values.get("metrics"), str):
        values["metrics"] = metrics_in(values["metrics"])
    config = EvaluationConfig(**values)
    for name, setting in _OF_METRICS.items():
        owners = [metric.option for metric in METRICS.values() if setting in metric.settings]
        if getattr(arguments, name) is not None and not set(owners) & set(config.metrics):
            raise InputError(f"--{name} belongs to the metric {' or '.join(owners)}, which --metrics does not name")
    return config
