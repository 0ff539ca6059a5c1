"""The ground files, which everything else stands on."""

import signal
import subprocess
import sys
import threading

import pytest
import torch
from PIL import Image

from licfg_hf.files import partial_folder
from licfg_hf.images import from_pixels, image_grid, save_image, to_pixels
from licfg_hf.machine import device_name, usable_cores, versions
from licfg_hf.signals import SignalHandler, Terminated, terminate
from licfg_hf.text import first_line, hub_refusal, one_line


def test_every_pixel_comes_back():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = from_pixels(pixels)
    assert images.dtype == torch.float32 and (images.min(), images.max()) == (-1, 1)
    assert torch.equal(to_pixels(images), pixels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_outside_are_clipped_whatever_their_precision(dtype):
    pixels = to_pixels(torch.tensor([-3.0, -1.0, 1.0, 3.0], dtype=dtype))
    assert pixels.dtype == torch.uint8 and pixels.tolist() == [0, 0, 255, 255]


def test_a_grid_is_saved_whole_and_alone(tmp_path):
    save_image(image_grid(torch.ones(3, 1, 32, 32), columns=2), tmp_path / "new" / "grid.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["grid.png"]
    with Image.open(tmp_path / "new" / "grid.png") as grid:
        assert grid.size == (65, 65) and grid.getpixel((0, 0)) == 255 and grid.getpixel((32, 0)) == 128


def test_a_folder_that_is_not_finished_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), partial_folder(tmp_path / "model") as partial:
        (partial / "weights").write_text("half")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_the_machine_is_named():
    assert device_name(torch.device("cpu")).startswith("cpu (") and usable_cores() >= 1
    assert versions(["torch"]).keys() == {"python", "torch"}


def test_a_signal_is_received_once_and_handled_as_before_afterwards():
    before, received = signal.getsignal(signal.SIGTERM), []
    with SignalHandler((signal.SIGTERM,), received.append):
        signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(Terminated), SignalHandler((signal.SIGTERM,), terminate):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_handles_no_signals():
    before, handled = signal.getsignal(signal.SIGTERM), []

    def enter():
        with SignalHandler((signal.SIGTERM,), handled.append) as handler:
            handled.append(dict(handler.handled))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handled == [{}] and signal.getsignal(signal.SIGTERM) is before


def test_an_error_that_says_nothing_is_called_by_its_class():
    assert first_line(ValueError("\n one\ntwo")) == "one" and first_line(KeyError()) == "KeyError"
    assert one_line(KeyError()) == "KeyError" and one_line("") == ""


def test_what_the_hub_refuses_is_said_in_words():
    assert hub_refusal(403) == "the Hub forbids it with this token"
    assert hub_refusal(409, "busy", {409: "try again"}) == "try again (busy)"
    assert hub_refusal(418, "a teapot") == "the Hub answered 418 (a teapot)"
    assert hub_refusal(503).endswith("try later")


def test_the_ground_imports_no_torch():
    names = "command_line, errors, files, machine, ranges, signals, staging, text"
    code = f"import sys; from licfg_hf import {names}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
