"""Checks that ``from_pretrained`` would load a folder. They read the headers of its weights, not the weights."""

import json
import re
import sys
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import yaml
from accelerate import init_empty_weights
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..files import require_readable
from ..models import Discriminator
from ..models.base import REGISTERED
from ..pipelines import pipeline_class
from ..pipelines.base import LOAD_FAILURES
from ..pipelines.flow import CONFIG as FLOW_CONFIG
from ..pipelines.flow import folder_of, read_numbers
from ..pipelines.model_index import plain
from ..text import few, one_line

_NETWORKS = ("model", "unet")
_PARTS = (*_NETWORKS, "scheduler")  # of the pipelines of this library
_STEM = "diffusion_pytorch_model"
_WHOLE = re.compile(rf"{_STEM}(?:\.(?!.*-\d{{5}}-of-)([\w-]+))?\.safetensors")
_INDEX = re.compile(rf"{_STEM}\.safetensors\.index(?:\.([\w-]+))?\.json")


def read(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, with the line ends that it has; InputError where it is no text or no file."""
    require_readable(path)
    try:
        with path.open(encoding=encoding, newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: it is not UTF-8 text") from error


def parse(name: str, text: str) -> Any:
    """JSON or YAML content, by the end of the file's name; InputError where it is damaged."""
    try:
        return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{name} is damaged: {one_line(error)}") from error


def read_object(path: Path, name: str | None = None) -> dict[str, Any]:
    """The JSON object in a file, which messages call ``name`` or by its path; InputError where there is none."""
    content = parse(name or str(path), read(path))
    if not isinstance(content, dict):
        raise InputError(f"{name or path} is damaged: it is not a JSON object")
    return content


def require_finished(folder: Path) -> tuple[str | None, list[str]]:
    """The class of the pipeline, None where the folder holds networks only, and the folders of its parts.

    Raises InputError where no finished model lies there, or not one that would load.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    try:
        if (folder / "model_index.json").is_file():
            return _require_pipeline(folder, plain(read_object(folder / "model_index.json")))
        return None, _require_networks(folder)
    except ValueError as error:
        raise InputError(f"{folder} holds no finished model: {error}") from error


def _require_networks(folder: Path) -> list[str]:
    """The parts of a folder without a pipeline: a network lies there itself, or in folders of their own."""
    # Networks that cannot be opened by from_pretrained are saved as plain weights, without a config.
    networks = [one for one in _NETWORKS if (folder / one / "model.safetensors").is_file() or _is_part(folder / one)]
    if networks:
        return [*networks, "scheduler"]
    if not _is_part(folder):
        raise InputError("it has neither a pipeline (model_index.json) nor a network's config and weights")
    if (folder / "config.json").is_file() and _network_class(folder) is None:
        raise InputError(
            "the class in its config.json is not in licfg_hf or diffusers: if it is your own class, import the module "
            "that has @register_model on it"
        )
    return []


def _is_part(place: Path) -> bool:
    """True if a scheduler lies there, or a network with its config."""
    network = (place / "config.json").is_file() and any(place.glob(f"{_STEM}*.safetensors"))
    return network or (place / "scheduler_config.json").is_file()


def _require_pipeline(folder: Path, index: Mapping[str, Any]) -> tuple[str, list[str]]:
    pipeline = pipeline_class(index.get("_class_name"))
    parts = {part: value for part, value in index.items() if isinstance(value, list) and value[:1] not in ([], [None])}
    for part in {**signature(pipeline).parameters, **parts}:
        if part not in parts or part not in _PARTS or not _is_part(folder / part):
            raise InputError(
                f"its pipeline's part {part!r} is missing, has no config.json or no weights, or is not in licfg_hf"
            )
        require_loadable(folder / part, _class_of(part, parts[part]))
    return pipeline.__name__, list(parts)


def _class_of(part: str, entry: list[Any]) -> type:
    """The class that a pipeline's index names, where it is imported: nothing is imported because a file says so."""
    library, called = map(str, (*entry, None)[:2])
    kind = _class_in(sys.modules.get(library), called)
    if kind is None or issubclass(kind, Discriminator):
        raise InputError(
            f"its pipeline's part {part!r} is a {library}.{called}: the code in the card could not load it. Use a "
            "generator or scheduler of licfg_hf or diffusers; to push a class of your own, import its module first"
        )
    return kind


def _class_in(home: Any, called: Any) -> type | None:
    """The network or scheduler of that name in a module."""
    kind = getattr(home, called, None) if isinstance(called, str) else None
    return kind if isinstance(kind, type) and issubclass(kind, (ModelMixin, SchedulerMixin)) else None


def _network_class(place: Path) -> type | None:
    called = read_object(place / "config.json").get("_class_name")
    registered = REGISTERED.get(called) if isinstance(called, str) else None
    return registered or _class_in(diffusers, called)


def require_flow(place: Path) -> None:
    """Raises InputError where a folder's functional-gradient steps are damaged, or lack a discriminator."""
    try:
        steps = read_numbers(place / FLOW_CONFIG)["steps"]
    except ValueError as error:
        raise InputError(str(error)) from error
    for index in range(steps):
        if not _is_part(place / folder_of(index)) and not (place / folder_of(index) / "model.safetensors").is_file():
            raise InputError(f"{place / FLOW_CONFIG} tells of {steps} steps, and {folder_of(index)} is not whole")


def require_loadable(place: Path, kind: Any = None) -> None:
    """Raises InputError where ``kind.from_pretrained(place)`` would fail, or leave weights at random.

    Without ``kind`` the class is that of its config, or any where that is not known here.
    """
    try:
        kind = kind or _network_class(place)
        if kind is not None and SchedulerMixin in kind.__mro__:
            kind.from_config(kind.load_config(place))
            return
        weights = weight_files(place)
        if "" not in weights:
            others = f"only weights of the variant {', '.join(weights)}" if weights else "no whole weights"
            raise InputError(f"it has {others}, and the card loads {_STEM}.safetensors")
        with init_empty_weights():  # needs no memory for them
            wanted = {} if kind is None else kind.from_config(kind.load_config(place)).state_dict()
        for files in weights.values():
            shards = [shapes_in(path) for path in files if path.suffix == ".safetensors"]
            found = {name: shape for shard in shards for name, shape in shard.items()}
            if missing := [name for name in wanted if name not in found]:
                raise InputError(f"its weights lack {few(missing)}, which its config asks for")
            for name, value in wanted.items():
                shape = tuple(value.shape)
                if found[name] != shape:
                    raise InputError(f"its weights are not those of its config: {name} is {found[name]}, not {shape}")
    except LOAD_FAILURES as error:
        raise InputError(f"{place} cannot be loaded: {one_line(error)}") from error


def weight_files(place: Path) -> dict[str, list[Path]]:
    """The weights in a network's folder as diffusers finds them, by variant ("" for none); InputError where an index
    is damaged.

    The first file of a variant may be an index, which comes before a whole file.
    """
    found = {}
    for path in sorted(place.iterdir()):
        if name := _WHOLE.fullmatch(path.name):
            found.setdefault(name[1] or "", [path])
        elif name := _INDEX.fullmatch(path.name):
            found[name[1] or ""] = [path, *_shards(path)]
    return found


def _shards(index: Path) -> list[Path]:
    content = read_object(index)
    names = content.get("weight_map")
    names = set(names.values()) if isinstance(names, dict) and isinstance(content.get("metadata"), dict) else {""}
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise InputError(f"{index} is damaged: it needs metadata, and a weight_map to files beside it")
    missing = sorted(name for name in names if not index.with_name(name).is_file())
    if missing:
        raise InputError(f"{index.name} names {few(missing)}, which is not there")
    return [index.with_name(name) for name in sorted(names)]


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file; one that is cut short does not fit its header: InputError."""
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}") from error
