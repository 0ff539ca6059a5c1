"""A network in a folder: as it saves itself where it would come back that way, else as plain weights."""

from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import nn

WEIGHTS_FILE, EXTRA_STATE_FILE = "model.safetensors", "extra_state.pt"  # of networks that diffusers cannot save


def why_not_saveable(network: nn.Module) -> str | None:
    """The reason why ``from_pretrained`` could not restore a network with ``save_pretrained``; None if it can."""
    try:
        getattr(network, "require_saveable", lambda: None)()
    except ValueError as error:
        return str(error)
    extra = _extra_state(network)
    return f"its state holds more than tensors ({', '.join(extra)})" if extra else None


def is_saveable(network: nn.Module) -> bool:
    """True if a network has the diffusers way of being saved, and would come back by it."""
    return hasattr(network, "save_pretrained") and why_not_saveable(network) is None


def save_network(network: nn.Module, folder: Path, plainly: bool = False) -> None:
    """Writes a network to a folder: the diffusers way where it has one, else its weights as ``model.safetensors``.

    Where its state holds more than tensors, that goes into ``extra_state.pt``, for ``torch.load(weights_only=True)``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_saveable(network) and not plainly:
        cast(Any, network).save_pretrained(folder)
        return
    extra = _extra_state(network)
    state = {name: value for name, value in network.state_dict().items() if name not in extra}
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, folder / WEIGHTS_FILE)
    if extra:
        torch.save(extra, folder / EXTRA_STATE_FILE)


def _extra_state(network: nn.Module) -> dict[str, Any]:
    """What a state holds besides tensors: that of modules with ``get_extra_state``."""
    return {name: value for name, value in network.state_dict().items() if not isinstance(value, torch.Tensor)}
