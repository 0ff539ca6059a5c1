import io
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import datasets
import numpy as np
import pytest
import torch
from goldens import SHARED, needs_shared_data
from PIL import Image

from licfg_hf.data import PRESETS, DataConfig, number_of_classes, open_images
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.errors import InputError


def save_rows(folder, split="train", size=(12, 8), count=3, **columns):
    """A parquet file as the Hub serves it, with an image column ``image`` and more columns."""
    content = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(content, "PNG")
    images = [{"bytes": content.getvalue(), "path": None}] * count
    features = datasets.Features({"image": datasets.Image(), **{name: datasets.Value("int64") for name in columns}})
    folder.mkdir(parents=True, exist_ok=True)
    rows = datasets.Dataset.from_dict({"image": images, **columns}, features=features)
    rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_expands_and_explicit_options_win(name):
    preset = PRESETS[name]
    resolved = DataConfig(data=name).resolved()
    for option in ("data", "split", "image_size", "image_column", "label_column", "crop", "resize_filter"):
        assert getattr(resolved, option) == getattr(preset, option), option
    assert resolved.resolved() == resolved
    given = {"split": "test", "image_size": 16, "image_column": "x", "label_column": "y", "crop": "random"}
    given |= {"resize_filter": "bicubic"}
    chosen = DataConfig(data=name, **given).resolved()
    assert chosen == DataConfig(data=preset.data, **given)


def test_what_the_names_stand_for():
    sizes = {name: preset.image_size for name, preset in PRESETS.items()}
    assert sizes == {
        "mnist": 32, "cifar10": 32, "stl10": 48, "celeba": 64, "celeba-hq": 256, "lsun-bedroom": 256,
        "lsun-church": 256, "imagenet": 128,
    }  # fmt: skip
    assert (PRESETS["cifar10"].data, PRESETS["cifar10"].image_column) == ("uoft-cs/cifar10", "img")
    assert (PRESETS["mnist"].data, PRESETS["mnist"].image_column) == ("ylecun/mnist", "image")
    assert PRESETS["stl10"].split == "unlabeled"


def test_other_names_stay_what_they_were():
    for name in ("digits", "uoft-cs/cifar10", "./mnist"):
        decided = DataConfig(data=name, split="train", crop="center", resize_filter="lanczos")
        assert DataConfig(data=name).resolved() == decided


def test_a_preset_opens_a_folder_in_its_layout(tmp_path):
    """The layout of STL-10 on the Hub: the images are in another split, their labels say that there is none."""
    save_rows(tmp_path / "data", split="train", size=(96, 96), label=[0, 1, 2])
    save_rows(tmp_path / "data", split="unlabeled", size=(96, 96), count=5, label=[-1] * 5)
    images = open_images(replace(DataConfig(data="stl10").resolved(), data=str(tmp_path)), progress=False)
    assert len(images) == 5 and images.shape == (3, 48, 48)


def test_the_face_is_cut_from_the_middle(tmp_path):
    face = np.zeros((218, 178, 3), dtype=np.uint8)
    face[20:198] = 255
    Image.fromarray(face).save(tmp_path / "face.png")
    images = open_images(replace(DataConfig(data="celeba").resolved(), data=str(tmp_path)), progress=False)
    assert images.shape == (3, 64, 64)
    assert images.images[:, :, 2:-2].min() > 250  # the filter reaches over the border by a row or two


def test_errors_name_the_preset_and_the_way_round_it(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--data lsun-church stands for tglcourse/lsun_church_train") as error:
        open_images(DataConfig(data="lsun-church"))
    assert "--data ID_OR_FOLDER" in str(error.value) and "--data digits" in str(error.value)
    assert "\n" not in str(error.value) and ".." not in str(error.value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    with pytest.raises(InputError, match=r"pass --data \./mnist for the folder"):
        open_images(DataConfig(data="mnist"))


class _Gate(BaseHTTPRequestHandler):
    """A Hub that answers every question as it does for a gated data set without a token."""

    def do_HEAD(self):
        self.send_response(401)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *arguments):
        """Silent."""


def test_a_missing_token_is_named(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "from licfg_hf.data import DataConfig, open_images\n"
        "from licfg_hf.errors import InputError\n"
        "try:\n    open_images(DataConfig(data='imagenet'))\nexcept InputError as error:\n    print(error)"
    )
    hub = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path),
    }
    try:
        result = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | hub, capture_output=True, text=True, check=True
        )
    finally:
        server.shutdown()
        server.server_close()
    assert "ILSVRC/imagenet-1k is gated" in result.stdout and "HF_TOKEN" in result.stdout
    assert "--data imagenet stands for ILSVRC/imagenet-1k" in result.stdout


def test_number_of_classes():
    pixels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    assert number_of_classes(TensorImages(pixels)) is None
    assert number_of_classes(TensorImages(pixels, torch.tensor([0, 6, 2]))) == 7
    assert number_of_classes(open_images(DataConfig())) == 10
    with pytest.raises(InputError, match="--split"):
        number_of_classes(TensorImages(pixels, torch.tensor([-1, 6, 2])))


@needs_shared_data
@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 32, 32)), ("cifar10", (3, 32, 32))])
def test_real_data_in_the_layout_of_the_hub(name, shape):
    resolved = DataConfig(data=name, split="test", in_memory_limit=1e-9).resolved()
    images = open_images(replace(resolved, data=str(SHARED / "data" / name)), progress=False)
    assert len(images) == 10_000 and images.shape == shape and number_of_classes(images) == 10
    assert images.fetch(torch.tensor([0]), seed=0).float().std() > 10


def test_a_name_of_ones_own_can_be_added(tmp_path, monkeypatch):
    save_rows(tmp_path / "data", split="validation", size=(40, 40), count=2, kind=[0, 1])
    mine = DataConfig(str(tmp_path), split="validation", image_size=16, label_column="kind", image_channels=1)
    monkeypatch.setitem(PRESETS, "mine", mine)
    images = open_images(DataConfig(data="mine"), progress=False)
    assert images.shape == (1, 16, 16) and images.labels.tolist() == [0, 1]
    assert open_images(DataConfig(data="mine", image_size=8), progress=False).shape == (1, 8, 8)
