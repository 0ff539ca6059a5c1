"""What a user does: train on data of the Hub, publish, and in another process load, sample, evaluate and rank."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import TOKEN, running_hub

ROOT = Path(__file__).resolve().parents[2]

PUBLISH_DATA = """
import torch
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture
from licfg_hf.data import DataConfig, open_images

images = open_images(DataConfig())
pixels = images.fetch(torch.arange(200), seed=0)
columns = {"image": [Picture.fromarray(one[0].numpy()) for one in pixels], "label": images.labels[:200].tolist()}
features = Features({"image": Image(), "label": ClassLabel(num_classes=10)})
Dataset.from_dict(columns, features=features).push_to_hub("tester/small-digits")
"""
LOAD = """
import sys
import numpy as np
import torch
import licfg_hf
from licfg_hf import DDGANDiscriminator, DDGANPipeline

for make in (licfg_hf.load, DDGANPipeline.from_pretrained):
    pipeline = make("tester/first-ddgan")
    pixels = np.asarray(pipeline(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="np").images)
    local = DDGANPipeline.from_pretrained(sys.argv[1])
    expected = local(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="np").images
    assert np.array_equal(pixels, expected)
assert DDGANDiscriminator.from_pretrained("tester/first-ddgan", subfolder="discriminator")
print("the same pictures")
"""


@pytest.fixture
def hub(tmp_path):
    with running_hub() as hub:
        yield hub


def run(hub, tmp_path, *command: str, token: bool = True) -> str:
    environment = {**os.environ, **hub.environment, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home")}
    environment["LICFG_HF_CACHE"] = str(tmp_path / "cache")
    environment.pop("HF_TOKEN", None)
    if token:
        environment["HF_TOKEN"] = TOKEN
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_train_publish_load_sample_evaluate_and_stand_on_the_leaderboard(hub, tmp_path):
    run(hub, tmp_path, sys.executable, "-c", PUBLISH_DATA)
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    script = str(ROOT / "recipes" / "ddgan_eps_cifar.py")
    data = ["--data", "tester/small-digits", "--batch_size", "8", "--max_steps", "4", "--evaluate_samples", "20"]
    push = ["--push_to_hub", "true", "--repo_id", "tester/first-ddgan", "--output_dir", "run"]
    printed = run(hub, tmp_path, accelerate, "launch", script, "--preset", "quickstart", *data, *push)
    assert "published: " in printed and "tester/first-ddgan" in printed
    assert "the same pictures" in run(hub, tmp_path, sys.executable, "-c", LOAD, str(tmp_path / "run"))

    licfg = [sys.executable, "-m", "licfg_hf"]
    measure = ["--data", "tester/small-digits", "--features", "pixels", "--metrics", "fid", "--limit", "50"]
    run(hub, tmp_path, *licfg, "evaluate", "tester/first-ddgan", *measure, "--output", "run/eval.json")
    value = json.loads((tmp_path / "run" / "eval.json").read_text())["metrics"]["fid"]["value"]
    run(hub, tmp_path, *licfg, "push", "run", "--repo_id", "tester/first-ddgan")
    ask = ["leaderboard", "--dataset", "tester/small-digits", "--metric", "fid", "--format", "json"]
    board = run(hub, tmp_path, *licfg, *ask)
    assert "tester/first-ddgan" in board and f"{value:.6g}"[:5] in board


@pytest.mark.slow
def test_pushing_without_a_token_is_refused_before_training(hub, tmp_path):
    environment = {**os.environ, **hub.environment, "HF_HOME": str(tmp_path / "home")}
    environment.pop("HF_TOKEN", None)
    script = str(ROOT / "recipes" / "ddgan_eps_cifar.py")
    options = ["--preset", "quickstart", "--push_to_hub", "true", "--repo_id", "tester/x", "--output_dir", "run"]
    result = subprocess.run(
        [sys.executable, script, *options], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 2 and "token" in result.stderr and "Traceback" not in result.stderr
    result = subprocess.run(
        [sys.executable, script, *options[:4]], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 2 and "--repo_id" in result.stderr
