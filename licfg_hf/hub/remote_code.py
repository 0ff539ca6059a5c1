"""A repository that plain ``DiffusionPipeline`` opens, for people who have not imported this library."""

from typing import Any

from ..errors import InputError
from ..pipelines.model_index import COMPONENT_CODE, PIPELINE_CODE, part_class

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


def with_remote_code(index: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Names the classes of a pipeline by Python files; each only imports them from this library.

    Args:
        index: content of ``model_index.json``, as ``save_pretrained`` writes it; None where there is none.

    Returns:
        The content that names the files, and the files: path -> content.

    Raises:
        InputError: there is no pipeline, or a class of it is none that people without this library could load.
    """
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
