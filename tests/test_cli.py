"""What the command makes of signals, and of options that go together or do not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gans import GENERATORS
from PIL import Image

from licfg_hf import GANPipeline
from licfg_hf.cli import main as command

# Saves half a model and waits for a signal.
_WAITING = """
import sys, time
from licfg_hf.cli import main
from licfg_hf.convert import writing

def save(networks, folder):
    (folder / "half").touch()
    time.sleep(600)

writing._save = save
main(sys.argv[1:])
"""


def small_checkpoint(folder: Path) -> Path:
    """A small CNN discriminator of GNGAN-PyTorch."""
    state = {"linear.weight": torch.zeros(1, 8 * 16), "linear.bias": torch.zeros(1)}
    for place, (features_in, features_out, size) in {0: (3, 4, 3), 2: (4, 8, 4), 4: (8, 8, 3)}.items():
        state[f"main.{place}.weight"] = torch.zeros(features_out, features_in, size, size)
        state[f"main.{place}.bias"] = torch.zeros(features_out)
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_conversion_in_one_line_and_leaves_nothing(number, tmp_path):
    path = small_checkpoint(tmp_path)
    arguments = ["convert", "--from", "gngan", "--input", str(path), "--output", str(tmp_path / "new")]
    process = subprocess.Popen([sys.executable, "-c", _WAITING, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".*.new.partial/half")):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert message.count("\n") == 1 and message.startswith("stopped by")
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.pth"]


def test_ctrl_c_while_samples_are_drawn_is_one_line(tmp_path, monkeypatch, capsys):
    def interrupted(model):
        raise KeyboardInterrupt

    monkeypatch.setattr("licfg_hf.cli._load_pipeline", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        command(["sample", str(tmp_path), "--output", str(tmp_path / "grid.png")])
    assert stop.value.code == 130 and capsys.readouterr().err.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("model")
    GANPipeline(GENERATORS["biggan"]()).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("options", "columns", "rows"),
    [
        ((), 10, 4),  # a column for each class
        (("--count", "4"), 2, 2),
        (("--picture", "interpolation"), 8, 4),
        (("--picture", "interpolation", "--count", "3"), 8, 3),
        (("--picture", "classes"), 8, 10),
        (("--picture", "classes", "--count", "2", "--class_labels", "1", "2", "3"), 2, 3),
    ],
)
def test_count_is_the_size_of_every_picture(options, columns, rows, model, tmp_path):
    command(["sample", model, "--output", str(tmp_path / "picture.png"), *options])
    assert Image.open(tmp_path / "picture.png").size == (33 * columns - 1, 33 * rows - 1)  # 8 px are drawn as 32


def test_more_classes_than_images_are_refused_in_terms_of_the_options(model, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command(["sample", model, "--count", "2", "--class_labels", "1", "2", "3"])
    message = capsys.readouterr().err
    assert (
        stop.value.code == 2 and "--class_labels" in message and "--count" in message and "batch_size" not in message
    )
