"""The base of the library's pipelines."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from torch import nn

from ..images import images_to_pil
from ..models.base import as_in
from ..staging import finish_update
from .locate import fetch
from .model_index import plain

RandomGenerators = torch.Generator | list[torch.Generator] | None

OF_THE_DOWNLOAD = ("variant", "cache_dir", "local_files_only", "force_download")  # options of from_pretrained
# What goes wrong where files are not those of a pipeline or a network.
LOAD_FAILURES = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError)


class HubPipeline(DiffusionPipeline):
    """A pipeline whose networks are classes of this package, loadable from a folder and from a Hub repository."""

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs) -> str:
        """Fetches a repository into the cache and returns its folder.

        diffusers' own ``download`` refuses repositories whose components are not diffusers or transformers classes.
        """
        wanted = ("revision", "token", *OF_THE_DOWNLOAD)
        return fetch(pretrained_model_name, **{name: kwargs[name] for name in wanted if kwargs.get(name) is not None})

    @classmethod
    @as_in(DiffusionPipeline.load_config.__func__)
    def load_config(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Works as in diffusers, but ignores code that a repository names for this library's own classes.

        So what ``licfg-hf push --remote_code`` published loads here without trust, and nothing of it is executed.
        """
        finish_update(Path(pretrained_model_name_or_path))
        loaded = super().load_config(pretrained_model_name_or_path, *args, **kwargs)
        return (plain(loaded[0]), *loaded[1:]) if isinstance(loaded, tuple) else plain(loaded)

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> "HubPipeline":
        """Works as in diffusers, but takes networks of any class; diffusers requires the class of the annotation."""
        wanted = signature(cls.__init__).parameters
        parts = {name: part for name, part in pipeline.components.items() if name in wanted}
        return cast("HubPipeline", super().from_pipe(pipeline, **(parts | kwargs)))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in eval mode for a while; afterwards each of its layers is in the mode that it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def require_request(batch_size: int, chunk_size: int, output_type: str, generator: RandomGenerators) -> None:
    """Checks what every pipeline is asked for; ValueError where it cannot be."""
    if batch_size < 1 or chunk_size < 1:
        raise ValueError(f"batch_size and chunk_size are at least 1, not {batch_size} and {chunk_size}")
    if output_type not in ("pil", "np", "pt"):
        raise ValueError(f"output_type is pil, np or pt, not {output_type!r}")
    generators = generator if isinstance(generator, list) else [] if generator is None else [generator]
    if not all(isinstance(one, torch.Generator) for one in generators):
        raise ValueError(f"generator is a torch.Generator or a list of them, one per image, not {generator!r}")
    if isinstance(generator, list) and len(generator) != batch_size:
        raise ValueError(f"{len(generator)} generators do not fit a batch of {batch_size}")


def finish(images: torch.Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple:
    """Images (batch, channels, height, width) in [-1, 1] in the form that the caller wants, as in diffusers."""
    finished: Any = ((images + 1) / 2).clamp(0, 1)
    if output_type == "pil":
        finished = images_to_pil(images)
    elif output_type == "np":
        finished = finished.permute(0, 2, 3, 1).float().cpu().numpy()
    return ImagePipelineOutput(images=finished) if return_dict else (finished,)
