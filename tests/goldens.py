"""The golden tensors of the reference implementations: weights follow from the keys, inputs and outputs are stored."""

import json
import zlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from licfg_hf.convert.formats import ddgan
from licfg_hf.convert.mapping import Networks
from licfg_hf.convert.reading import Checkpoint, Options

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_goldens = pytest.mark.skipif(not (SHARED / "goldens").is_dir(), reason="golden tensors (../shared) not here")
needs_shared_data = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="real data sets (../shared) not here")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def load(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """(description, tensors) of one golden; the description is empty where there is no JSON beside the tensors."""
    description = SHARED / "goldens" / f"{name}.json"
    content = json.loads(description.read_text()) if description.exists() else {}
    return content, load_file(SHARED / "goldens" / f"{name}.safetensors")


def ddgan_networks(state: dict[str, torch.Tensor], config: dict | None = None) -> Networks:
    """The networks of a reference's weights, as the converter makes them of its file."""
    return ddgan.convert(Checkpoint.of(state), None if config is None else Options(config))


def _value(key: str, shape: list[int], dtype: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))

    def randn() -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    leaf = key.rpartition(".")[2]
    if dtype != "float32":
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    if leaf in ("running_var", "stored_var", "running_vars"):
        return 0.5 + torch.rand(shape, generator=generator)
    if leaf in ("running_mean", "stored_mean", "running_means"):
        return 0.1 * randn()
    if leaf == "sv0":
        return torch.ones(shape)
    if leaf in ("u0", "weight_u", "weight_v"):
        return F.normalize(randn().flatten(), dim=0).view(shape)
    if leaf == "gamma" and torch.Size(shape).numel() == 1:
        return torch.full(shape, 0.5)
    if len(shape) >= 2:
        return randn() / torch.Size(shape[1:]).numel() ** 0.5
    if leaf == "weight":
        return 1 + 0.1 * randn()
    return 0.1 * randn()


def weights(keys: dict[str, tuple[list[int], str]]) -> dict[str, torch.Tensor]:
    """The reference's state dict, made from its keys by the rules of the goldens' README."""
    state = {key: _value(key, shape, dtype) for key, (shape, dtype) in keys.items()}
    for key in [key for key in state if key.endswith("weight_u")]:
        stem = key.removesuffix("weight_u")
        matrix, u = state[stem + "weight_orig"].flatten(1), state[key]
        for _ in range(50):
            v = F.normalize(matrix.T @ u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
        state[key], state[stem + "weight_v"] = u, v
    return state


def penalty_critic(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """The tiny critic of the penalties' golden, with its weights."""
    critic = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(8, 8, 4, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(128, 1),
    )
    places = {"c1": "0", "c2": "2", "l": "5"}
    critic.load_state_dict(
        {
            f"{places[key.split('.')[1]]}.{key.split('.')[2]}": value
            for key, value in tensors.items()
            if key.startswith("critic.")
        }
    )
    return critic
