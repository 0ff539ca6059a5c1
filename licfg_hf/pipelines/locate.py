"""Finds a published model: a folder, or a repository of the Hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import constants, errors, snapshot_download

from ..errors import InputError
from ..files import user_path
from ..staging import finish_update
from ..text import first_line, hub_refusal

# What a pipeline is made of. Nothing else is fetched: no checkpoints, no code, no data that lies there besides. In a
# pattern of the Hub's client, `*` stands for folders, too.
_ROOT_FILES = ("README.md", "model_index.json", "config.json", "training.json", "eval.json")
_FLOW_FILES = ("flow/flow.json", "flow/eval.json")
_GENERATORS, _DISCRIMINATORS = ("model", "unet"), ("discriminator", "flow/discriminator-*")
_FOLDERS = (*_GENERATORS, "scheduler", *_DISCRIMINATORS)
PIPELINE_FILES = (*_ROOT_FILES, *_FLOW_FILES, *(f"{folder}/*.json" for folder in _FOLDERS))
NOT_PIPELINE_FILES = tuple(f"{folder}/*/*" for folder in _FOLDERS)


def fetch(name: str, variant: str | None = None, **options: Any) -> str:
    """Fetches a repository into the cache, with ``snapshot_download``'s options, and returns its folder.

    Always the same files of a variant (``fp16`` means weights whose names say so, None the unnamed ones), so that what
    was fetched by one way to open it is whole for all the others, also offline.
    """
    weights = [pattern for folder in _GENERATORS for pattern in _weights(folder, variant)]
    weights += [pattern for folder in _DISCRIMINATORS for pattern in _weights(folder, None)]
    patterns = {"allow_patterns": [*PIPELINE_FILES, *weights], "ignore_patterns": list(NOT_PIPELINE_FILES)}
    return snapshot_download(name, **patterns, **options)


def _weights(folder: str, variant: str | None) -> tuple[str, str]:
    """Patterns of weights in one file, and in shards."""
    stem = f"{folder}/*model" if variant is None else f"{folder}/*.{variant}"
    return f"{stem}.safetensors", f"{stem}-?????-of-?????.safetensors"


def locate(name: str, revision: str | None = None, token: str | None = None, **options: Any) -> Path:
    """The local folder of a pipeline folder, or of a Hub repository ``user/name`` at a revision.

    The token and the ``options`` are those of ``snapshot_download``. InputError, of one line, where neither exists,
    nobody may read it with this token, a folder is to have a revision, or the files cannot be fetched.
    """
    path = user_path(name)
    if path.is_dir():
        finish_update(path)
        if revision is not None:
            raise InputError(f"{name} is a folder here: it has no revision {revision!r}")
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"no folder {name}")
    try:
        return Path(fetch(name, revision=revision, token=token, **options))
    except errors.HFValidationError as error:
        raise InputError(f"{name} is neither a folder nor a repository name: {error}") from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"{name} is gated: ask for access on its page of the Hub, and run `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{name} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(f"no folder {name} and no such repository on the Hub, or it is private") from error
    except (errors.HTTPError, OSError, ValueError) as error:
        raise InputError(f"{name} cannot be fetched: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Why a download failed, in one line."""
    cause = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(cause, (errors.HTTPError, OSError)):
        return _reason(cause)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "it is not complete in the cache, and the Hub cannot be reached with HF_HUB_OFFLINE=1"
    if isinstance(error, errors.IncompleteSnapshotError):
        return "only a part of it is in the cache, and the Hub was not asked"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "it is not in the cache, and the Hub was not asked"
    if isinstance(error, errors.HfHubHTTPError):
        return hub_refusal(error.response.status_code)
    if isinstance(error, (errors.HTTPError, ConnectionError)):
        return f"there is no connection to {constants.ENDPOINT} ({type(error).__name__}); pass a local folder"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the cache'}: {error.strerror}"
    first = first_line(error)
    return f"a file arrived incomplete ({first})" if first.startswith("Consistency check") else first
