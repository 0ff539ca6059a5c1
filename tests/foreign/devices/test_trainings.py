"""Whole trainings on a strict device: they end, their models load, and a resumed one is the undisturbed one."""

import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerator
import pytest
import torch
from players import PLAYERS, random_images
from safetensors.torch import load_file

from licfg_hf import EpsCenteredGradientPenalty, LazyPenalty, Trainer, TrainingConfig, get_loss, load
from licfg_hf.training import FunctionalGradientStep, StagedFunctionalGradient, announce

STAGED = {"generator_step": StagedFunctionalGradient, "generator_batch_size": 32, "ema_decay": None, "max_steps": 17}
TRAININGS = {
    "sngan": {},
    "biggan, bf16": {"kind": "biggan", "mixed_precision": "bf16"},
    "biggan, accumulation": {"kind": "biggan", "gradient_accumulation_steps": 2},
    "biggan, gradient checkpointing": {"kind": "biggan", "gradient_checkpointing": True},
    "ddgan, evaluated": {"kind": "ddgan", "evaluate_samples": 16, "evaluate_every": 4, "keep_best": "fid"},
    "functional gradient": {"generator_step": FunctionalGradientStep},
    "stages": STAGED,
    "decoded by workers": {"in_memory": False},
}


def train(folder: Path, kind: str = "sngan", generator_step: Any = None, in_memory: bool = True, **settings) -> Path:
    """A training on the device; returns its output folder."""
    generator, discriminator, task = PLAYERS[kind]()
    images = random_images(96)
    images.in_memory = in_memory
    usual = {"max_steps": 8, "batch_size": 8, "log_every": 2, "checkpoint_every": 4, "sample_every": 4}
    config = TrainingConfig(output_dir=str(folder), sample_count=4, **{**usual, **settings})
    penalties = [LazyPenalty(EpsCenteredGradientPenalty(0.1), interval=2)]
    step = None if generator_step is None else generator_step()
    with accelerator.in_accelerate():
        loss = get_loss("hinge")
        return Trainer(config, generator, discriminator, images, task, loss, penalties, generator_step=step).train()


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_leaves_a_model(device, tmp_path, name):
    with accelerator.like_mps():
        folder = train(tmp_path / "run", **TRAININGS[name])
    assert len(load(str(folder))(batch_size=2).images) == 2
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["discriminator_loss"] for line in lines if "discriminator_loss" in line]
    assert losses and all(map(math.isfinite, losses))


def test_a_resumed_training_is_the_undisturbed_one(device, tmp_path):
    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", max_steps=4)
    parts = train(tmp_path / "parts")
    one, other = (load_file(folder / "model" / "diffusion_pytorch_model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_estimate_waits_for_the_device_whenever_it_reads_the_clock(device, tmp_path, monkeypatch, capsys):
    done = []
    clock = SimpleNamespace(perf_counter=lambda: done.append("read") or time.perf_counter())
    monkeypatch.setattr(announce, "time", clock)
    monkeypatch.setattr(torch.get_device_module(device), "synchronize", lambda: done.append("wait"))
    with accelerator.like_mps():
        train(tmp_path, kind="biggan", mixed_precision="bf16", max_steps=1)
    assert done == ["wait", "read"] * (len(done) // 2) and len(done) >= 12  # two players, and the penalty
    assert "could not be estimated" not in capsys.readouterr().out
