"""``--push_to_hub``: what would fail at the end of a training is said at its beginning."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from huggingface_hub import constants
from loopback import READING_TOKEN, TOKEN, connect, running_hub
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANScheduler, get_loss
from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError
from licfg_hf.hub.access import require_accepted_token
from licfg_hf.hub.callbacks import ModelCard, PushToHub
from licfg_hf.training import DDGANTask, Trainer, TrainingConfig
from licfg_hf.training.export import export
from licfg_hf.training.progress import Progress

NAME = "tester/run"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as one:
        connect(one, monkeypatch)
        yield one


def trainer(folder: Path, repo_id: str = NAME, **settings) -> Trainer:
    defaults = {"max_steps": 2, "batch_size": 8, "sample_every": None, "sample_count": 4}
    return Trainer(
        TrainingConfig(output_dir=str(folder), **{**defaults, **settings}),
        tiny_generator(),
        tiny_discriminator(),
        images=open_images(DataConfig()),
        task=DDGANTask(DDGANScheduler(), latent_dim=6),
        loss=get_loss("non_saturating"),
        callbacks=[ModelCard(), PushToHub(repo_id)],
    )


def refusal(folder: Path) -> str:
    """Why a trainer is refused, before it has written anything."""
    with pytest.raises(InputError) as caught:
        trainer(folder)
    assert "\n" not in str(caught.value) and not folder.exists()
    return str(caught.value)


def test_a_run_is_published_at_its_end_and_again(hub, tmp_path, capsys):
    trainer(tmp_path / "run").train()
    assert f"published: {hub.endpoint}/{NAME} (" in capsys.readouterr().out
    trainer(tmp_path / "run").train()
    assert f"nothing to change: {hub.endpoint}/{NAME}" in capsys.readouterr().out
    assert "samples.png" in hub.repositories["models", NAME].files


@pytest.mark.parametrize(
    "token, words", [(None, "no token"), ("hf_revoked", "not accept"), (READING_TOKEN, "only read")]
)
def test_a_token_that_does_not_do(hub, tmp_path, monkeypatch, token, words):
    connect(hub, monkeypatch, token)
    assert words in refusal(tmp_path / "run")


def test_offline_mode(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in refusal(tmp_path / "run")


def test_without_a_connection(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "no connection to http://127.0.0.1:9" in refusal(tmp_path / "run")


def test_a_hub_that_does_not_answer(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("licfg_hf.hub.access._PATIENCE", 0.2)
    hub.fail("GET /api/whoami-v2", seconds=1)
    assert "no connection to" in refusal(tmp_path / "run")


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_out_of_order_stops_no_training(hub, status):
    hub.fail("GET /api/whoami-v2", status)
    require_accepted_token()


def test_a_failure_at_the_end_says_how_to_finish(hub, tmp_path):
    """One that comes before the upload, too: the training is over, and what is left is a push."""
    run = trainer(tmp_path / "run")
    run.progress = Progress(0, 2, visible=False)  # as in train
    export(run)
    place = tmp_path / "run" / "model_index.json"
    place.write_text("{")
    with pytest.raises(InputError) as caught:
        run.notify("train_end")
    again = f"licfg-hf push {tmp_path / 'run'} --repo_id {NAME}"
    assert str(caught.value).endswith(again) and "model_index.json is damaged" in str(caught.value)
    place.unlink()
    export(run)
    hub.fail("GET /api/models/", 403)
    with pytest.raises(InputError) as caught:
        run.notify("train_end")
    assert str(caught.value).count(again) == 1


@pytest.mark.slow
def test_a_run_that_is_stopped_while_it_is_published(hub, tmp_path):
    hub.fail("/commit/", seconds=5)
    few = ["--preset", "quickstart", "--max_steps", "2", "--batch_size", "8", "--evaluate_samples", "null"]
    push = ["--push_to_hub", "true", "--repo_id", NAME, "--output_dir", "run"]
    environment = {**os.environ, **hub.environment, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    script = [sys.executable, str(ROOT / "recipes" / "ddgan_eps_cifar.py"), *few, *push]
    process = subprocess.Popen(script, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while not any("/commit/" in request for request in hub.requests):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert message.endswith(f"to finish: licfg-hf push run --repo_id {NAME}\n")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["step"] == 2
