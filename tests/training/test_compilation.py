"""Compiled steps: the same training as without, and a line of words where a step cannot be compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gans import CLASSES, DISCRIMINATORS, GENERATORS, HEADS, NORMALIZERS, batch
from safetensors.torch import load_file
from torch import nn

from licfg_hf import EpsCenteredGradientPenalty, dragan, get_loss, r1_penalty
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.training import GANTask, LazyPenalty, OptimizerConfig, Trainer, TrainingConfig

# Adam divides by the gradient's own size and so makes differences of rounding, where gradients are near zero, its own.
SGD = OptimizerConfig(name="sgd", learning_rate=5e-4)


def train(
    folder: Path, discriminator: nn.Module, penalties: list, compiled: bool, **options
) -> list[dict[str, float]]:
    torch.manual_seed(0)
    images, labels = batch(64)
    settings = {"batch_size": 8, "sample_every": None, "sample_count": 4, "log_every": 1, **options}
    config = TrainingConfig(
        str(folder), torch_compile=compiled, generator_optimizer=SGD, discriminator_optimizer=SGD, **settings
    )
    pixels = TensorImages(((images + 1) * 127.5).round().to(torch.uint8), labels)
    generator, task = GENERATORS["sngan_conditional"](), GANTask(6, CLASSES)
    Trainer(config, generator, discriminator, pixels, task, get_loss("hinge"), penalties).train()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("normalizer", "penalties"),
    [
        ("spectral", [EpsCenteredGradientPenalty(0.5), LazyPenalty(r1_penalty(0.1), interval=4, name="r1")]),
        ("spectral_and_gradient", [dragan(0.5)]),
    ],
)
def test_fifty_compiled_steps_have_the_losses_of_fifty_that_are_not(normalizer, penalties, tmp_path, capsys):
    runs = []
    for compiled in (False, True):
        torch.manual_seed(1)
        critic = DISCRIMINATORS["sngan_cnn"](**HEADS["projection"], normalizers=NORMALIZERS[normalizer])
        runs.append(train(tmp_path / str(compiled), critic, penalties, compiled, max_steps=50, cuda_graphs=compiled))
    printed = capsys.readouterr().out
    assert "NOTE: torch.compile" not in printed
    assert printed.count("NOTE: cuda_graphs is for CUDA, and this run on cpu continues without it") == 1
    for ours, theirs in zip(*runs, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("discriminator_loss", "generator_loss", "penalty", "r1"):
            if name in ours:
                assert theirs[name] == pytest.approx(ours[name], rel=1e-3, abs=1e-5), (ours["step"], name)


@pytest.mark.slow
def test_what_cannot_be_compiled_is_said_and_trains_without(tmp_path, capsys):
    def critic() -> nn.Module:
        """Its batch statistics change while the gradient is taken, which no transformed function may do."""
        torch.manual_seed(1)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))

        class Critic(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = layers

            def forward(self, sample, class_labels):
                return self.layers(sample)

        return Critic()

    with pytest.warns(UserWarning, match="BatchNorm"):
        for compiled in (False, True):
            penalties = [EpsCenteredGradientPenalty(0.5)]
            train(tmp_path / str(compiled), critic(), penalties, compiled, max_steps=2, discriminator_steps=2)
    printed = capsys.readouterr().out
    notes = [line for line in printed.splitlines() if line.startswith("NOTE: torch.compile is not possible here, and")]
    # Where the C++ compiler refuses the generator's step, as for older instructions, there is a second line on that.
    assert sum("attempted to call in-place" in note for note in notes) == 1
    file = "model/diffusion_pytorch_model.safetensors"
    plain, fallen = (load_file(tmp_path / name / file) for name in ("False", "True"))
    for name, value in plain.items():
        assert torch.allclose(fallen[name], value, atol=1e-5), name


COMPILES = """
import torch
from licfg_hf.training.prepare import CompiledTerms

terms = CompiledTerms(lambda points: {"loss": (points.sin() * points.cos()).sum()}, print)
terms(torch.ones(50, requires_grad=True))["loss"].backward()
assert terms.compiled is not terms.terms
"""


@pytest.mark.slow
def test_a_broken_file_of_the_compilers_cache_costs_nothing_but_time(tmp_path):
    """A killed compilation may leave one."""
    command, environment = [sys.executable, "-c", COMPILES], {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    subprocess.run(command, env=environment, check=True)
    libraries = list(tmp_path.rglob("*.so"))
    assert libraries
    for library in libraries:
        library.write_bytes(library.read_bytes()[:200])
    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert "NOTE" not in again.stdout
