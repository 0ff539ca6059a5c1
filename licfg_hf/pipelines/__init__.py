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
from .model_index import PIPELINES, plain, require_known

__all__ = ["DDGANPipeline", "GANPipeline", "load", "load_flow", "load_pipeline", "open_pipeline", "pipeline_class"]


def pipeline_class(name: Any) -> type[HubPipeline]:
    """The pipeline that a ``model_index.json`` names; ValueError where it names none of this library."""
    if not isinstance(name, str):
        raise ValueError("its model_index.json names no pipeline")
    if name not in PIPELINES:
        raise ValueError(f"its pipeline {name!r} is not in licfg_hf, which has {' and '.join(PIPELINES)}")
    return {"DDGANPipeline": DDGANPipeline, "GANPipeline": GANPipeline}[name]


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
        ValueError: it holds no pipeline of this library, or a network whose class is not registered.
        OSError: a file is missing or cannot be read.
    """
    download = {key: value for key, value in options.items() if key in OF_THE_DOWNLOAD}
    return load_pipeline(locate(str(name), revision, token, **download), **options)


def load_pipeline(folder: Path, **options: Any) -> HubPipeline:
    """The pipeline that lies in a folder, with options of ``from_pretrained``; raises what ``load`` does."""
    index = plain(json.loads((folder / "model_index.json").read_text(encoding="utf-8")))
    pipeline = pipeline_class(index.get("_class_name"))
    require_known(index, given=options)
    return pipeline.from_pretrained(folder, **options)


def open_pipeline(folder: Path, name: str, device: torch.device | str = "cpu") -> HubPipeline:
    """``load_pipeline`` for a command that calls the folder ``name``: any failure is an InputError of one line."""
    try:
        return load_pipeline(folder).to(device)
    except LOAD_FAILURES as error:
        raise InputError(f"{name} cannot be loaded as a pipeline: {first_line(error)}") from error
