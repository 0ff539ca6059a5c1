"""The files of a finished model that are published, and their published content."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import InputError
from ..evaluation.result import RESULT_FILES
from ..evaluation.samples import settings_hash, weights_hash, weights_of
from ..pipelines.model_index import COMPONENT_CODE, PIPELINE_CODE, part_class, plain
from ..staging import finish_update
from .card import BENCHMARK_FILE, benchmark_file, card_of_a_folder, mapping, published_card, with_results
from .checks import parse, read, read_object, require_finished, require_flow, require_loadable, shapes_in, weight_files
from .cleaning import Cleaner, dump, require_no_secrets, settings_in

if TYPE_CHECKING:
    from .publish import Destination

Files = dict[str, bytes | Path]

# Nothing else of a folder leaves the machine: no checkpoints, logs, pickles, code or what lies there by chance.
_WEIGHTS = r"diffusion_pytorch_model[\w.-]*\.(safetensors|json)"
_NETWORK = rf"(config\.json|model\.safetensors|{_WEIGHTS})"
_FROM_A_FOLDER = re.compile(
    rf"""(model_index|config|eval|training)\.json | config\.yaml | README\.md | report\.html | samples(_moved)?\.png
    | {_WEIGHTS}
    | (model|unet|discriminator|flow/discriminator-\d+)/{_NETWORK}
    | scheduler/scheduler_config\.json
    | flow/(flow|eval)\.json""",
    re.VERBOSE,
)
_MADE_HERE = re.compile(
    rf"{re.escape(BENCHMARK_FILE)}|{PIPELINE_CODE}\.py|(model|unet|scheduler)/{COMPONENT_CODE}\.py"
)
_SELECTION_FILE = "selection.json"  # beside the best generator of a run; it says why, and stays here
_IDENTITY = {"step": "step", "config_hash": "settings", "training_seed": "training seed"}  # fields of a protocol

# For people who have not imported this library: DiffusionPipeline.from_pretrained(..., trust_remote_code=True).
_PIPELINE = """\
# For DiffusionPipeline.from_pretrained(..., trust_remote_code=True): the pipeline of the installed licfg_hf.
from licfg_hf import {name}  # noqa: F401
"""
# One content for every part of every model. diffusers copies each of these files to the same place before it imports
# it, and Python takes two files of one size and one second for the same: names in it would get mixed up.
_COMPONENT = b"""\
# For DiffusionPipeline.from_pretrained(..., trust_remote_code=True): the networks and schedulers of licfg_hf.
from licfg_hf.models import *  # noqa: F403
from licfg_hf.schedulers import *  # noqa: F403
"""


def could_be_ours(path: str) -> bool:
    """True if a file of a repository is called as one that ``collect`` gives."""
    return bool(_FROM_A_FOLDER.fullmatch(path) or _MADE_HERE.fullmatch(path))


def collect(folder: Path, to: "Destination") -> Files:
    """The published files of a folder: path in the repository -> content, or the file if it is unchanged.

    InputError where no finished model lies there, a file is damaged, of another model or none of the folder's, or it
    has not what an option needs.
    """
    finish_update(folder)
    pipeline, parts = require_finished(folder)
    paths = {path.relative_to(folder).as_posix(): path for path in _chosen(folder, parts)}
    _require_sound(paths)
    contents = {
        name: read_object(path, name) if name in ("training.json", *RESULT_FILES) else parse(name, read(path))
        for name, path in paths.items()
        if path.suffix in (".json", ".yaml")
    }
    if "README.md" in paths:  # from any editor: without a byte order mark, and with the line ends of patterns
        card = read(paths["README.md"], encoding="utf-8-sig").replace("\r\n", "\n")
    else:
        selection = folder / _SELECTION_FILE
        best = read_object(selection, _SELECTION_FILE) if selection.is_file() else {}
        card = card_of_a_folder(to.repo_id, pipeline, contents, best)
    cleaner = Cleaner(folder, [*contents.values(), *settings_in(card)])
    published = {name: cleaner.value(content) for name, content in contents.items()}
    _require_results_of_this_model(folder, contents, published)
    files: Files = dict(paths)
    if "model_index.json" in published:  # it may come from a repository that names Python files
        published["model_index.json"] = plain(published["model_index.json"])
    if to.remote_code:
        published["model_index.json"], code = _with_remote_code(published.get("model_index.json"))
        files |= code
    files |= {name: dump(name, content).encode() for name, content in published.items() if content != contents[name]}
    if to.benchmarks:
        files[BENCHMARK_FILE] = benchmark_file(to.benchmarks, published.get(RESULT_FILES[0]))
    if "report.html" in paths:
        files["report.html"] = cleaner.text(read(paths["report.html"])).encode()
    results = [published[name] for name in RESULT_FILES if name in published]
    card = published_card(to.repo_id, None if to.create_pr else to.revision, cleaner.card(card))
    files["README.md"] = with_results(card, results).encode()
    return dict(sorted(files.items()))


def left_out(folder: Path, files: Files, inside: str = "") -> list[str]:
    """Lists the unpublished part of a folder: files, and folders of which nothing is published."""
    names = []
    for path in sorted((folder / inside).iterdir()):
        name = inside + path.name
        if path.is_dir() and any(file.startswith(f"{name}/") for file in files):
            names += left_out(folder, files, f"{name}/")
        elif name not in files:
            names.append(f"{name}/" if path.is_dir() else name)
    return names


def _with_remote_code(index: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A ``model_index.json`` that names classes by Python files, and these files; each only imports this library."""
    if index is None:
        raise InputError("--remote_code needs a pipeline: there is no model_index.json")
    code = {f"{PIPELINE_CODE}.py": _PIPELINE.format(name=index["_class_name"]).encode()}
    named = {**index, "_class_name": [PIPELINE_CODE, index["_class_name"]]}
    for name, value in index.items():
        library, called = value if isinstance(value, list) and len(value) == 2 else (None, None)
        known = part_class(called)
        if known is not None and library == known.__module__ and known.__module__.startswith("licfg_hf."):
            named[name] = [COMPONENT_CODE, called]
            code[f"{name}/{COMPONENT_CODE}.py"] = _COMPONENT
        elif library not in (None, "diffusers", "transformers"):  # diffusers finds those of its own without help
            raise InputError(
                f"--remote_code needs networks of licfg_hf or diffusers, and {name!r} is {library}.{called}"
            )
    return named, code


def _chosen(folder: Path, parts: Sequence[str]) -> list[Path]:
    """The files that are published as they are, or after cleaning; InputError where one of them lies elsewhere."""
    places = [folder / name for name in (*parts, "discriminator", "flow")]
    places += sorted(folder.glob("flow/discriminator-*"))
    found = [path for place in (folder, *places) if place.is_dir() for path in sorted(place.iterdir())]
    used = {path for place in (places if parts else [folder, *places]) for path in _network(place)}
    chosen = [
        path
        for path in found
        if _FROM_A_FOLDER.fullmatch(path.relative_to(folder).as_posix()) and path.is_file()
        if path in used or not re.fullmatch(_NETWORK, path.name)
    ]
    # Of a snapshot in the Hub's cache, files lie in the cache's blobs.
    home = folder.resolve()
    snapshots = [place for place in (home, *home.parents) if place.parent.name == "snapshots"]
    homes = [home, *(place.parent.parent / "blobs" for place in snapshots)]
    for path in chosen:
        if not any(path.resolve().is_relative_to(home) for home in homes):
            raise InputError(
                f"{path} is a link to a file outside the folder, {path.resolve()}: put the file itself there, or "
                "remove the link"
            )
    return chosen


def _network(place: Path) -> list[Path]:
    """The files of a network's folder that ``from_pretrained`` reads: no shards that no index names."""
    weights = [path for files in weight_files(place).values() for path in files] if place.is_dir() else []
    return [place / "config.json", place / "model.safetensors", *weights]


def _require_sound(paths: Mapping[str, Path]) -> None:
    """Weights are whole and have their config, pictures are pictures, and no text holds a secret; else InputError."""
    for name, path in paths.items():
        place = PurePosixPath(name)
        if place.suffix not in (".png", ".safetensors"):
            require_no_secrets(path, read(path))
        if place.name == "config.json" and str(place.with_name("model.safetensors")) not in paths:
            require_loadable(path.parent)
        elif place.name == "flow.json":
            require_flow(path.parent)
        elif place.name == "model.safetensors":
            shapes_in(path)
        elif place.suffix == ".safetensors" and str(place.with_name("config.json")) not in paths:
            raise InputError(f"{path} has no config.json beside it, so nobody could load these weights")
        elif place.suffix == ".png":
            try:
                with Image.open(path, formats=["PNG"]) as picture:
                    picture.verify()
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                if isinstance(error, OSError) and error.strerror:
                    raise
                raise InputError(f"{path} is not a complete PNG picture: remove it, or write it again") from error


# Results of this model and of no other


def _require_results_of_this_model(folder: Path, contents: Mapping[str, Any], published: dict[str, Any]) -> None:
    """Results are of these weights by their hash, where it is known, and of the training's step, settings and seed.

    Where the identity of the run named a folder of this machine, ``published`` gets the hash that it had: it keeps the
    model's results its own.
    """
    training, known = contents.get("training.json"), {}  # field of a protocol -> the values that are right
    if training is not None:
        if training.get("step") is None:
            raise InputError("training.json has no step: let the run finish, then push")
        hashes = [training.get("config_hash"), _hash_of(training), _hash_of(published["training.json"])]
        seed = mapping(training.get("settings")).get("seed")
        known = {"step": [training["step"]], "config_hash": hashes, "training_seed": [seed]}
        before = hashes[0] or hashes[1]
        if before not in (None, hashes[2]):
            published["training.json"] = {**published["training.json"], "config_hash": before}
    weights, exported = weights_of(folder), mapping(training).get("weights")
    strange = [one for one, digest in weights.items() if isinstance(exported, dict) and exported.get(one) != digest]
    if strange:
        raise InputError(f"{strange[0]} is not what the training exported: give its command again, or train elsewhere")
    for name in (name for name in RESULT_FILES if name in contents):
        measured = mapping(contents[name].get("facts")).get("weights")
        if measured is not None and measured != weights_hash(weights, flow=name != RESULT_FILES[0]):
            raise InputError(f"{name} was measured on other weights: evaluate it again, or remove {name}")
        _require_of_this_model(known, name, mapping(contents[name].get("protocol")))


def _hash_of(training: Mapping[str, Any]) -> str | None:
    try:
        return settings_hash(training["identity"])
    except (KeyError, TypeError, AttributeError):
        return None


def _require_of_this_model(model: Mapping[str, Sequence[Any]], name: str, protocol: Mapping[str, Any]) -> None:
    """A result from before the last export, or of other samples, does not describe these weights."""
    again = f"evaluate it again, or remove {name}"
    for field, called in _IDENTITY.items():
        known = [value for value in model.get(field, ()) if value is not None]
        measured = protocol.get(field)
        if known and measured is not None and measured not in known:
            raise InputError(f"{name} is of {called} {measured} and the model of {called} {known[0]}: {again}")
    moved = protocol.get("flow")
    if isinstance(moved, bool) and moved != (name != RESULT_FILES[0]):
        made = "moved by the flow" if moved else "of the generator alone"
        raise InputError(f"{name} is of samples {made}, which belong into {RESULT_FILES[moved]}: {again}")
