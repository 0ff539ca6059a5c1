"""The rows of a data set by name: a local folder of pictures or of files that `datasets` reads, or one on the Hub."""

import glob
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import datasets
import datasets.data_files
import datasets.exceptions
import yaml
from datasets.config import DOWNLOADED_DATASETS_PATH, HF_DATASETS_CACHE
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import OfflineModeIsEnabled

from ..errors import InputError
from ..files import user_path
from ..text import few, first_line
from .folders import Found, look_into, picture_rows, spans

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
# How `datasets` calls what reads these files.
_READERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
# Where `datasets` keeps the files that rows of data sets on the Hub name.
_CACHES = (str(HF_DATASETS_CACHE), str(DOWNLOADED_DATASETS_PATH), HF_HUB_CACHE)

# Rows, and the folders that a row which is a mere path must not lead out of; () where every path is our own.
Rows = tuple[datasets.Dataset, tuple[str, ...]]


def open_rows(name: str, config: str | None, split: str) -> Rows:
    """Opens a split of a data set, a local folder or an id on the Hub; ``config`` is one of its configurations."""
    path = _local(name)
    if path is None:
        return _load(name, name, config, split), _CACHES
    if any(os.path.isfile(os.path.join(path, file)) for file in ("dataset_dict.json", "state.json")):
        return _saved_rows(path, split), (path,)
    found = look_into(path)
    if config is not None and not _has_configurations(path):
        raise InputError(f"{name} has no configurations, which --data_config chooses among")
    if found.pictures or found.foreign:
        return picture_rows(found, split), ()
    return _container_rows(found, config, split), (path, *_CACHES)


def _local(name: str) -> str | None:
    """The absolute path of the folder that a name means; None where it means a data set on the Hub."""
    path = name if os.path.lexists(name) else str(user_path(name))
    if os.path.isdir(path):
        return os.path.abspath(path)
    if os.path.lexists(path):
        raise InputError(f"{name} is not a folder: name the folder that holds the images")
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise InputError(f"no folder {name}; name another, a Hub data set such as uoft-cs/cifar10, or digits")
    return None


def _saved_rows(path: str, split: str) -> datasets.Dataset:
    """What ``save_to_disk`` left."""
    try:
        saved = datasets.load_from_disk(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot open {path}, which save_to_disk wrote: {first_line(error)}") from error
    parts = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
    chosen = spans(split, {str(name): len(rows) for name, rows in parts.items()}, path)
    return datasets.concatenate_datasets([parts[name].select(range(first, last)) for name, first, last in chosen])


def _has_configurations(path: str) -> bool:
    """True if the folder's card says which files make up which configuration."""
    card = Path(path) / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return bool(re.match(r"---\n(.*\n)?configs:", text.partition("\n---")[0], re.DOTALL))


def _container_rows(found: Found, config: str | None, split: str) -> datasets.Dataset:
    """The rows of parquet files, archives and the like."""
    path = found.folder
    kinds = {os.path.splitext(file)[1].lower() for file in found.containers}
    if not kinds:
        raise InputError(f"no images or parquet files in {path}: it holds {found.left_out() or 'nothing'}")
    if not kinds & set(_READERS):
        raise InputError(f"{path} holds archives ({few(found.containers)}): unpack them, and name the folder")
    if len(kinds) > 1:
        raise InputError(
            f"{path} holds {', '.join(sorted(kinds))} files, but the data can be of one kind only: move the others out"
        )
    if "::" in path or (_has_configurations(path) and glob.has_magic(path)):
        raise InputError(f"the name of {path} has a special meaning for `datasets`: rename the folder")
    if _has_configurations(path):
        return _load(path, path, config, split)
    files = {name: list(map(glob.escape, paths)) for name, paths in _files_by_split(found).items()}
    return _load(path, _READERS[kinds.pop()], None, split, data_files=files)


def _files_by_split(found: Found) -> dict[str, list[str]]:
    """How `datasets` splits the files by their names; none may be left out."""
    every, base = [os.path.join(found.folder, file) for file in found.containers], glob.escape(found.folder)
    try:
        patterns = datasets.data_files.get_data_patterns(base)
    except FileNotFoundError:  # they lie behind links
        return {"train": every}
    except ValueError as error:
        raise InputError(f"cannot split the files of {found.folder} by their names: {first_line(error)}") from error
    if list(patterns.values()) == [["**"]]:  # no name says anything
        return {"train": every}
    resolved = datasets.data_files.DataFilesDict.from_patterns(patterns, base_path=base)
    known = set(every)
    files = {str(name): [path for path in paths if path in known] for name, paths in resolved.items()}
    if missing := sorted(known.difference(*files.values())):
        raise InputError(
            f"by their names, {len(missing)} of the {len(every)} files of {found.folder} are in none of the splits "
            f"{', '.join(files)}: rename or move out {few([os.path.relpath(path, found.folder) for path in missing])}"
        )
    return {name: paths for name, paths in files.items() if paths}


def _load(name: str, source: str, config: str | None, split: str, **options: Any) -> datasets.Dataset:
    try:
        return datasets.load_dataset(source, config, split=split, **options)
    except datasets.exceptions.DatasetNotFoundError as error:
        if "is a gated dataset" in str(error):  # the client's own error is not kept as the cause
            raise InputError(
                f"{name} is gated, and there is no token, or it has no access: accept its terms on its page on the "
                "Hub, then log in with `hf auth login` or set HF_TOKEN"
            ) from error
        raise InputError(f"no data set {name} on the Hub, or it is private: {first_line(error)}") from error
    except (ConnectionError, OfflineModeIsEnabled) as error:
        raise InputError(
            f"the Hub cannot be reached for {name}, and it is not in the cache; offline, pass --data digits or a "
            f"local folder of images or parquet files ({first_line(error)})"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"no images or parquet files in {name}: {first_line(error)}") from error
    except (ValueError, OSError, tarfile.TarError, yaml.YAMLError, datasets.exceptions.DatasetsError) as error:
        if "Config name is missing" in str(error):
            known = ", ".join(datasets.get_dataset_config_names(source))
            raise InputError(f"{name} has several configurations: choose one of {known} with --data_config") from error
        cause = error.__cause__ or error
        raise InputError(f"cannot open {name}, split {split!r}: {first_line(cause)}") from error
