"""From weights to pictures: diffusers pipelines."""

import json
from pathlib import Path

import torch

from ..errors import InputError
from ..model_index import plain
from .base import HubPipeline
from .ddgan import DDGANPipeline
from .flow import load_flow
from .gan import GANPipeline
from .locate import locate

__all__ = ["DDGANPipeline", "GANPipeline", "load", "load_flow", "load_pipeline", "open_pipeline"]


def load(name: str | Path, revision: str | None = None, token: str | None = None) -> HubPipeline:
    """The pipeline of a folder or of a Hub repository, of whichever class of this library it is.

    Nothing that lies there is executed.

    Args:
        name: folder, or repository ``user/name``.
        revision: branch, tag or commit of a repository; None is its main branch.
        token: of the Hub, for a repository that is private or gated; None takes the one that is logged in.

    Raises:
        InputError: there is no such folder or repository.
        ValueError: it holds no pipeline of this library.
        OSError: a file is missing or cannot be read.
    """
    return load_pipeline(locate(str(name), revision, token))


def load_pipeline(folder: Path) -> HubPipeline:
    """The pipeline that lies in a folder, of whichever class of this library it is.

    Raises:
        ValueError: the folder holds no pipeline of this library.
        OSError: a file is missing or cannot be read.
    """
    known = {pipeline.__name__: pipeline for pipeline in (DDGANPipeline, GANPipeline)}
    name = plain(json.loads((folder / "model_index.json").read_text(encoding="utf-8"))).get("_class_name")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"its pipeline class is {name!r}, which is none of {', '.join(known)}")
    return known[name].from_pretrained(folder)


def open_pipeline(folder: Path, name: str, device: torch.device | str = "cpu") -> HubPipeline:
    """``load_pipeline`` for a command: any failure is one line.

    Args:
        name: of the folder or repository, as the user gave it.
        device: where it goes.

    Raises:
        InputError: the folder holds no pipeline of this library, or one that cannot be loaded.
    """
    try:
        return load_pipeline(folder).to(device)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{name} cannot be loaded as a pipeline: {reason}") from error
