"""From weights to pictures: diffusers pipelines."""

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..text import first_line
from .base import LOAD_FAILURES, OF_THE_DOWNLOAD, HubPipeline
from .ddgan import DDGANPipeline
from .flow import load_flow
from .gan import GANPipeline
from .locate import locate
from .model_index import plain

__all__ = ["DDGANPipeline", "GANPipeline", "load", "load_flow", "load_pipeline", "open_pipeline"]


def load(name: str | Path, revision: str | None = None, token: str | None = None, **options: Any) -> HubPipeline:
    """The pipeline of a folder or of a Hub repository, of whichever class of this library it is.

    Nothing that lies there is executed.

    Args:
        name: folder, or repository ``user/name``.
        revision: branch, tag or commit of a repository; None is its main branch.
        token: of the Hub, for a repository that is private or gated; None takes the one that is logged in.
        options: of ``from_pretrained``, such as ``dtype``, ``cache_dir`` or ``local_files_only``.

    Raises:
        InputError: there is no such folder or repository, or its files cannot be fetched.
        ValueError: it holds no pipeline of this library.
        OSError: a file is missing or cannot be read.
    """
    download = {key: value for key, value in options.items() if key in OF_THE_DOWNLOAD}
    return load_pipeline(locate(str(name), revision, token, **download), **options)


def load_pipeline(folder: Path, **options: Any) -> HubPipeline:
    """The pipeline that lies in a folder, of whichever class of this library it is.

    Args:
        options: of ``from_pretrained``.

    Raises:
        ValueError: the folder holds no pipeline of this library.
        OSError: a file is missing or cannot be read.
    """
    known = {pipeline.__name__: pipeline for pipeline in (DDGANPipeline, GANPipeline)}
    name = plain(json.loads((folder / "model_index.json").read_text(encoding="utf-8"))).get("_class_name")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"its pipeline class is {name!r}, which is none of {', '.join(known)}")
    return known[name].from_pretrained(folder, **options)


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
    except LOAD_FAILURES as error:
        raise InputError(f"{name} cannot be loaded as a pipeline: {first_line(error)}") from error
