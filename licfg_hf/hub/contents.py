"""What of a finished model is published, and how it reads there."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ..errors import InputError
from ..evaluation.result import RESULT_FILES
from ..evaluation.samples import settings_hash, weights_hash, weights_of
from ..pipelines.model_index import COMPONENT_CODE, PIPELINE_CODE, plain
from ..staging import finish_update
from ..text import one_line
from .benchmarks import BENCHMARK_FILE, Benchmark, benchmark_file
from .cleaning import BLOCK, Cleaner, dump, settings_in
from .reading import parse, read, unreadable
from .remote_code import with_remote_code
from .results import read_card, results_section, with_results
from .secrets import require_no_secrets
from .soundness import require_finished, require_flow, require_loadable, shapes_in, weight_files

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

_TAGS = ("gan", "licfg")
_CARD = """\
---
library_name: licfg_hf
pipeline_tag: unconditional-image-generation
---

# {title}

Trained with licfg_hf; `training.json` holds every setting.
"""
_SNIPPET = """
## Use

```python
from licfg_hf import {pipeline}

pipeline = {pipeline}.from_pretrained(".")
images = pipeline(batch_size=4).images
```
"""
_HINT = re.compile(r"^\(Run it in this folder, or put the .* name in place of `\"\.\"`\.\)\n", re.MULTILINE)


def could_be_ours(path: str) -> bool:
    """Whether a file of a repository is called as one that ``collect`` gives."""
    return bool(_FROM_A_FOLDER.fullmatch(path) or _MADE_HERE.fullmatch(path))


def collect(
    folder: Path, repo_id: str, revision: str | None, benchmarks: Sequence[Benchmark], remote_code: bool
) -> Files:
    """What is published of a folder: path in the repository -> content, or the file where it goes as it is.

    Args:
        folder: a pipeline, or one network.
        repo_id: where it goes, for the card.
        revision: branch, for the card; None is the main one.
        benchmarks: metrics for leaderboards of the Hub.
        remote_code: whether Python files for plain diffusers go along.

    Raises:
        InputError: no finished model lies there, a file is damaged, is of another model, or is none of the folder's;
            or it has not what an option needs. The message is one line.
    """
    finish_update(folder)
    pipeline, parts = require_finished(folder)
    files: Files = {path.relative_to(folder).as_posix(): path for path in _chosen(folder, parts)}
    _require_sound(files)
    contents = {name: parse(name, read(path)) for name, path in files.items() if name.endswith((".json", ".yaml"))}
    training = contents.get("training.json")
    card = _read_card(files["README.md"]) if "README.md" in files else _plain_card(folder, repo_id, pipeline, contents)
    cleaner = Cleaner(folder, [*contents.values(), *settings_in(card)])
    published = {name: cleaner.value(content) for name, content in contents.items()}
    if training is not None:
        published["training.json"] |= _hash_that_was(training, published["training.json"])
    known = {} if training is None else _facts_of(training, published["training.json"])
    _require_same_weights(folder, contents)
    for name in RESULT_FILES:
        if name in contents:
            _require_of_this_model(known, name, contents[name])
    index, code = _index_and_code(published.get("model_index.json"), remote_code)
    published |= {} if index is None else {"model_index.json": index}
    files |= code
    for name, content in published.items():
        if content != contents[name]:
            files[name] = dump(name, content).encode()
    if benchmarks:
        files[BENCHMARK_FILE] = benchmark_file(benchmarks, published.get(RESULT_FILES[0]))
    if "report.html" in files:
        files["report.html"] = cleaner.text(read(files["report.html"])).encode()
    card = _card_for(repo_id, revision, cleaner.card(card))
    results = [published[name] for name in RESULT_FILES if name in published]
    files["README.md"] = with_results(card, results).encode()
    return dict(sorted(files.items()))


def left_out(folder: Path, files: Files, inside: str = "") -> list[str]:
    """What of a folder is not among its published files: files, and folders of which nothing is."""
    names = []
    for path in sorted((folder / inside).iterdir()):
        name = inside + path.name
        if path.is_dir() and any(file.startswith(f"{name}/") for file in files):
            names += left_out(folder, files, f"{name}/")
        elif name not in files:
            names.append(f"{name}/" if path.is_dir() else name)
    return names


def size(path: Path) -> int:
    """Bytes of a file.

    Raises:
        InputError: it cannot be read; the message is one line.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error


# The files


def _chosen(folder: Path, parts: Sequence[str]) -> list[Path]:
    """The files that are published as they are, or after cleaning.

    Raises:
        InputError: one of them lies elsewhere; the message is one line.
    """
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
    homes = _homes(folder)
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


def _homes(folder: Path) -> list[Path]:
    """Where the files of a folder may lie: in it, and, of a snapshot in the Hub's cache, in the cache's blobs."""
    home = folder.resolve()
    snapshots = [place for place in (home, *home.parents) if place.parent.name == "snapshots"]
    return [home, *(place.parent.parent / "blobs" for place in snapshots)]


def _require_sound(files: Mapping[str, Path]) -> None:
    """Weights are whole and have their config, pictures are pictures, and no text holds a secret.

    Raises:
        InputError: not so; the message is one line.
    """
    for name, path in files.items():
        place = PurePosixPath(name)
        if place.suffix not in (".png", ".safetensors"):
            require_no_secrets(path, read(path))
        if place.name == "config.json" and str(place.with_name("model.safetensors")) not in files:
            require_loadable(path.parent)
        elif place.name == "flow.json":
            require_flow(path.parent)
        elif place.name == "model.safetensors":
            shapes_in(path)
        elif place.suffix == ".safetensors" and str(place.with_name("config.json")) not in files:
            raise InputError(f"{path} has no config.json beside it, so nobody could load these weights")
        elif place.suffix == ".png":
            _require_picture(path)


def _require_picture(path: Path) -> None:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise unreadable(path, error) from error
        raise InputError(f"{path} is no whole PNG picture: remove it, or write it anew") from error


# Their contents


def _read_card(path: Path) -> str:
    """A README.md from any editor: without a byte order mark, and with the line ends that patterns here look for."""
    return read(path, encoding="utf-8-sig").replace("\r\n", "\n")


def _require_of_this_model(model: Mapping[str, tuple[Any, ...]], name: str, result: dict[str, Any]) -> None:
    """A result from before the last export, or of other weights, does not describe these."""
    protocol = result.get("protocol") if isinstance(result.get("protocol"), dict) else {}
    again = f"evaluate it again, or remove {name}"
    words = {"step": "step", "config_hash": "settings", "training_seed": "training seed"}
    for field, called in words.items():
        known, measured = model.get(field, ()), protocol.get(field)
        if known and measured is not None and measured not in known:
            raise InputError(f"{name} is of {called} {measured} and the model of {called} {known[0]}: {again}")
    moved = protocol.get("flow")
    if isinstance(moved, bool) and moved != (name != RESULT_FILES[0]):
        made = "moved by the flow" if moved else "of the generator alone"
        raise InputError(f"{name} is of samples {made}, which belong into {RESULT_FILES[moved]}: {again}")


def _require_same_weights(folder: Path, contents: Mapping[str, Any]) -> None:
    """training.json and results name the weights that they are of by a hash; older ones do not."""
    try:
        weights = weights_of(folder)
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from error
    exported = (contents.get("training.json") or {}).get("weights")
    known = isinstance(exported, dict)
    strange = [name for name, digest in weights.items() if known and exported.get(name) != digest]
    if strange:
        raise InputError(f"{strange[0]} is not what the training exported: give its command again, or train elsewhere")
    for name in RESULT_FILES:
        facts = contents[name].get("facts") if name in contents else None
        measured = facts.get("weights") if isinstance(facts, dict) else None
        if measured is not None and measured != weights_hash(weights, flow=name != RESULT_FILES[0]):
            raise InputError(f"{name} is of other weights: evaluate it again, or remove {name}")


def _facts_of(training: dict[str, Any], published: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What a protocol may say of a model: field -> the values that are right; none where they are not known.

    Args:
        training: content of training.json.
        published: the same without folders of this machine; the model may have been evaluated as published.

    Raises:
        InputError: the run has not finished, or has gone on since its last export.
    """
    if training.get("step") is None:
        raise InputError("training.json knows no step: the run has not finished; let it, then push")
    settings = training.get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    hashes = (training.get("config_hash"), _hash_of(training), _hash_of(published))
    known = {"step": (training["step"],), "config_hash": hashes, "training_seed": (seed,)}
    return {field: tuple(value for value in values if value is not None) for field, values in known.items()}


def _hash_of(training: dict[str, Any]) -> str | None:
    try:
        return settings_hash(training["identity"])
    except (KeyError, TypeError, AttributeError):
        return None


def _hash_that_was(training: dict[str, Any], published: dict[str, Any]) -> dict[str, str]:
    """What keeps the model's results its own where its identity named a folder of this machine."""
    before = training.get("config_hash") or _hash_of(training)
    return {} if before is None or before == _hash_of(published) else {"config_hash": before}


def _index_and_code(index: dict[str, Any] | None, remote_code: bool) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
    """``model_index.json``, and the Python files that it names; it may come from a repository that has such files."""
    index = None if index is None else plain(index)
    return with_remote_code(index) if remote_code else (index, {})


# The card


def _plain_card(folder: Path, repo_id: str, pipeline: str | None, contents: Mapping[str, Any]) -> str:
    """A card for a folder that has none, such as ``best/`` of a run."""
    parts = [_CARD.format(title=repo_id.partition("/")[2]), _origin(folder, contents.get("training.json"))]
    parts += [] if pipeline is None else [_SNIPPET.format(pipeline=pipeline)]
    if any(name in contents for name in RESULT_FILES):
        parts.append(f"\n## Results\n\n{results_section([])}\n")
    return "".join(parts)


def _origin(folder: Path, training: dict[str, Any] | None) -> str:
    """Which generator of its run it is, where that is known."""
    step = None if training is None else training.get("step")
    when = f" after {step:,} steps" if isinstance(step, int) else ""
    place = folder / _SELECTION_FILE
    selection = parse(_SELECTION_FILE, read(place)) if place.is_file() else None
    by = selection.get("by") if isinstance(selection, dict) else None
    if isinstance(by, str):
        return f"\nIts generator is the best of its run by `{one_line(by)}`{when and ','}{when}.\n"
    return f"\nIts generator is that of its run{when}.\n" if when else ""


def _card_for(repo_id: str, revision: str | None, text: str) -> str:
    """A README.md whose code loads the model from its repository, and whose tags are those it is found by."""
    place = json.dumps(repo_id) + ("" if revision in (None, "main") else f", revision={json.dumps(revision)}")

    def name(block: re.Match) -> str:
        if block[1] != "python":
            return block[0]
        return block[0].replace('from_pretrained("."', f"from_pretrained({place}")

    text = text.replace('load_flow(".")', f"load_flow({place})")
    card = read_card(_HINT.sub("", BLOCK.sub(name, text)))
    known = card.data.tags or []
    card.data.tags = [*known, *(tag for tag in _TAGS if tag not in known)]
    return str(card)
