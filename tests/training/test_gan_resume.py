"""Spectral norms, BatchNorm and an average: a resumed run ends in the same weights and the same exported folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from licfg_hf.recipes import main

OPTIONS = [
    "--preset", "quickstart", "--max_steps", "6", "--batch_size", "8", "--checkpoint_every", "3", "--log_every", "1",
    "--sample_every", "null", "--evaluate_samples", "null", "--keep_checkpoints", "null",
]  # fmt: skip
NARROW = ["--generator.base_channels", "8", "--discriminator.base_channels", "8"]
RECIPES = {
    "biggan_eps_cifar": NARROW,
    "sngan_pgn_cifar": [*NARROW, "--consistency", "both"],
    "distill_diffusion": [],
}


def exported(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*/*.safetensors"))
    assert len(files) == 2
    return {f"{path.parent.name}.{key}": value for path in files for key, value in load_file(path).items()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_ends_bit_identical(name, tmp_path):
    shared = [*OPTIONS, *RECIPES[name]]
    main(name, [*shared, "--output_dir", str(tmp_path / "whole")])
    resume = ["--resume", str(tmp_path / "whole" / "checkpoints" / "step-3")]
    main(name, [*shared, *resume, "--output_dir", str(tmp_path / "resumed")])
    whole, resumed = exported(tmp_path / "whole"), exported(tmp_path / "resumed")
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key
    assert len((tmp_path / "resumed" / "metrics.jsonl").read_text().splitlines()) == 3


def test_two_processes_train_and_leave_one_model(tmp_path):
    """Spectral norms and BatchNorm buffers are broadcast, so both processes sample and penalize the same networks."""
    script = Path(__file__).resolve().parents[2] / "recipes" / "biggan_eps_cifar.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    options = [*OPTIONS, *NARROW, "--output_dir", str(tmp_path)]
    result = subprocess.run([*launch, str(script), *options], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "training.json").read_text())["processes"] == 2
    assert exported(tmp_path)
