"""The recipe of image translation: it trains, resumes, and makes digits of edges that it has not seen."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from licfg_hf.training.checkpoint import checkpoints, load_state

RECIPE = Path(__file__).parents[2] / "recipes" / "edges_to_digits.py"


def run(folder: Path, steps: int) -> str:
    command = [sys.executable, str(RECIPE), "--output_dir", str(folder), "--max_steps", str(steps)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_it_leaves_its_pictures_and_resumes_to_the_same_weights(tmp_path):
    run(tmp_path / "cut", 2)
    run(tmp_path / "cut", 4)
    assert "held-out digits that are recognized" in run(tmp_path / "whole", 4)
    resumed, whole = (load_state(checkpoints(tmp_path / name / "checkpoints")[-1]) for name in ("cut", "whole"))
    for network in ("generator", "discriminator"):
        assert all(torch.equal(resumed[network][name], value) for name, value in whole[network].items())
    for name in ("pairs.png", "samples.png", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).is_file()


@pytest.mark.slow
def test_its_digits_are_recognized(tmp_path):
    edges, made, _ = map(int, re.findall(r"(\d+)%", run(tmp_path, 600)))
    assert edges < 70 and made > 80
