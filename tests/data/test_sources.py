import io

import datasets
import numpy as np
import pytest
import torch
from goldens import SHARED, needs_shared_data
from PIL import Image, PngImagePlugin

from licfg_hf.data import DataConfig, open_images
from licfg_hf.data.decoding import FILTERS
from licfg_hf.data.sources import as_image_set
from licfg_hf.errors import InputError


def save(path, size=(12, 8), mode="RGB", color=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color if color is not None else 0).save(path, **options)


def open_folder(folder, **options):
    return open_images(DataConfig(data=str(folder), **options), progress=False)


def test_embedded_digits_are_real():
    images = open_images(DataConfig(data="digits"))
    assert len(images) == 1797 and images.shape == (1, 8, 8) and images.images.max() == 255
    counts = torch.bincount(images.labels)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    datasets_copy = pytest.importorskip("sklearn.datasets").load_digits()
    np.testing.assert_allclose(images.images[:, 0].numpy() / 255 * 16, datasets_copy.images, atol=0.05)


def test_folder_of_images_is_cropped_scaled_and_labelled(tmp_path):
    for name in ("cat", "dog"):
        save(tmp_path / name / "1.png")
    images = open_folder(tmp_path, image_size=4)
    assert images.shape == (3, 4, 4) and images.labels.tolist() == [0, 1]


def test_center_crop_keeps_the_middle_and_none_squeezes(tmp_path):
    stripes = np.zeros((8, 24), dtype=np.uint8)
    stripes[:, 8:16] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert open_folder(tmp_path, image_size=8).images.min() == 255
    assert open_folder(tmp_path, image_size=8, crop="none").images.float().mean().item() == pytest.approx(85, abs=2)


@pytest.mark.parametrize("resize_filter", FILTERS)
def test_reduction_is_antialiased(tmp_path, resize_filter):
    checkered = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(checkered.astype(np.uint8)).save(tmp_path / "checkered.png")
    small = open_folder(tmp_path, image_size=8, resize_filter=resize_filter).images.float()
    assert small.min() > 100 and small.max() < 156


@pytest.mark.parametrize("crop", ["center", "none", "pad"])
@pytest.mark.parametrize(
    ("name", "filter"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC), (None, Image.LANCZOS)]
)
def test_images_are_resized_by_the_filter_that_is_named(tmp_path, name, filter, crop):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    noise.save(tmp_path / "noise.png")
    found = open_folder(tmp_path, image_size=10, crop=crop, resize_filter=name).images[0]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(noise.resize((10, 10), filter)))


def test_padding_lays_a_small_image_on_black_and_lets_a_large_one_fit(tmp_path):
    """MNIST's 28 pixels become 32 by two black ones on each side, not by enlarging."""
    digit = np.random.default_rng(0).integers(1, 256, (28, 28), dtype=np.uint8)
    (tmp_path / "small").mkdir()
    Image.fromarray(digit).save(tmp_path / "small" / "a.png")
    padded = open_folder(tmp_path / "small", image_size=32, crop="pad").images[0, 0].numpy()
    assert np.array_equal(padded, np.pad(digit, 2))
    (tmp_path / "wide").mkdir()
    Image.new("RGB", (40, 20), "white").save(tmp_path / "wide" / "a.png")
    wide = open_folder(tmp_path / "wide", image_size=10, crop="pad").images[0, 0]
    assert (wide.amax(1) == 255).tolist() == [False] * 2 + [True] * 5 + [False] * 3
    (tmp_path / "line").mkdir()
    Image.new("L", (1000, 1), "white").save(tmp_path / "line" / "a.png")
    assert open_folder(tmp_path / "line", image_size=10, crop="pad").images.sum() == 10 * 255


def test_what_is_decoded_as_needed_has_its_filter_and_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    ways = [{}, {"resize_filter": "bilinear"}, {"crop": "pad"}, {"crop": "none"}]
    stored = [open_folder(tmp_path, image_size=40, in_memory_limit=0, **way) for way in ways]
    assert len({images.fingerprint for images in stored}) == len(ways)
    expected = np.asarray(Image.fromarray(noise).resize((40, 40), Image.BILINEAR))
    assert np.array_equal(stored[1].fetch(torch.tensor([0]), seed=0)[0].permute(1, 2, 0), expected)


def test_a_slice_of_a_split_holds_its_first_images(tmp_path):
    """As presets take 27,000 of CelebA-HQ's 30,000 images."""
    for number in range(30):
        save(tmp_path / f"{number:02}.png", color=(number, number, number))
    kept, held_out = (open_folder(tmp_path, split=split) for split in ("train[:27]", "train[27:]"))
    assert kept.images[:, 0, 0, 0].tolist() == list(range(27))
    assert held_out.images[:, 0, 0, 0].tolist() == [27, 28, 29]


@pytest.mark.parametrize("option", [{"crop": "cover"}, {"resize_filter": "nearest"}])
def test_an_unknown_way_to_resize_is_refused(option):
    with pytest.raises(InputError, match=next(iter(option))):
        DataConfig(**option)


def test_random_crops_move_and_repeat_with_their_seed(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8)[None].repeat(8, 0)).save(tmp_path / "ramp.png")
    images = open_folder(tmp_path, image_size=8, crop="random")
    crops = [images.fetch(torch.tensor([0]), seed=seed) for seed in (0, 0, 1, 2)]
    assert torch.equal(crops[0], crops[1])
    assert len({int(crop[0, 0, 0, 0]) for crop in crops}) > 1


def test_transparency_greyscale_rotation_and_16_bits(tmp_path):
    transparent = tmp_path / "transparent"
    save(transparent / "a.png", mode="RGBA", color=(255, 0, 0, 0))
    assert open_folder(transparent).images.float().mean() == 255  # laid on white
    deep = tmp_path / "deep"
    deep.mkdir()
    Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)).save(deep / "a.png")
    assert open_folder(deep).images.unique().tolist() == [128]
    turned = tmp_path / "turned"
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    save(turned / "a.jpg", exif=exif.tobytes())
    assert open_folder(turned).shape == (3, 12, 8)
    mixed = tmp_path / "mixed"
    save(mixed / "a.png", mode="L")
    save(mixed / "b.png")
    assert open_folder(mixed).shape[0] == 3


def test_wherever_a_file_says_its_orientation_it_is_turned(tmp_path):
    image, xmp = Image.new("RGB", (12, 8)), '<x tiff:Orientation="6"/>'
    exif, png, raw = Image.Exif(), PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    exif[0x0112] = 6
    png.add_itxt("XML:com.adobe.xmp", xmp)
    raw.add_text("Raw profile type exif", "\nexif\n 34\n" + exif.tobytes().hex())
    image.save(tmp_path / "a.png", pnginfo=png)
    image.save(tmp_path / "b.png", pnginfo=raw)
    image.save(tmp_path / "c.webp", xmp=xmp.encode())
    image.save(tmp_path / "d.webp", exif=exif)
    image.save(tmp_path / "e.tiff", tiffinfo={0x0112: 6})
    image.save(tmp_path / "f.jpg", xmp=xmp.encode())
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "g.png")  # all have the last one's size
    assert open_folder(tmp_path).shape == (3, 12, 8) and len(open_folder(tmp_path)) == 7


def test_parquet_folder_in_the_layout_of_the_hub(tmp_path):
    rows = []
    for value in (10, 200):
        content = io.BytesIO()
        Image.new("L", (4, 4), value).save(content, "PNG")
        rows.append({"bytes": content.getvalue(), "path": None})
    features = datasets.Features(
        {"img": datasets.Image(), "other": datasets.Image(), "label": datasets.Value("int64")}
    )
    table = datasets.Dataset.from_dict({"img": rows, "other": rows[::-1], "label": [3, 7]}, features=features)
    table.to_parquet(tmp_path / "train-00000-of-00001.parquet")
    images = open_folder(tmp_path, image_column="img", label_column="label")
    assert images.images[:, 0, 0, 0].tolist() == [10, 200] and images.labels.tolist() == [3, 7]
    for options, words in (
        ({}, "--image_column"),
        ({"image_column": "picture"}, "no image column 'picture'"),
        ({"image_column": "img", "label_column": "class"}, "no column 'class'"),
        ({"image_column": "img", "split": "test"}, "test"),
    ):
        with pytest.raises(InputError, match=words):
            open_folder(tmp_path, **options)


def test_larger_sets_are_decoded_when_needed(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index}.png", color=(index, index, index))
    held, stored = open_folder(tmp_path), open_folder(tmp_path, in_memory_limit=1e-9)
    assert held.in_memory and not stored.in_memory
    order = torch.tensor([2, 0])
    assert torch.equal(held.fetch(order, seed=0), stored.fetch(order, seed=0))
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for index in range(3):
        save(copy / f"{index}.png", color=(index, index, index))
    assert open_folder(copy).fingerprint == held.fingerprint
    assert open_folder(copy, in_memory_limit=1e-9).fingerprint == stored.fingerprint


def test_an_unfit_image_in_a_larger_set_is_found_before_training(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index}.png", size=(4, 4) if index < 2 else (5, 5))
    with pytest.raises(InputError, match="--image_size"):
        open_folder(tmp_path, in_memory_limit=1e-9)


def test_a_users_data_set_is_taken_as_it_is():
    pixels = [np.full((4, 4), value, dtype=np.uint8) for value in range(5)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=5)})
    rows = datasets.Dataset.from_dict({"image": pixels, "label": list(range(5))}, features=features)
    images = as_image_set(rows)
    assert images.in_memory and images.labels.tolist() == list(range(5))
    assert images.class_names == ("0", "1", "2", "3", "4") and as_image_set(images) is images
    channels_last = torch.zeros(2, 4, 4, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    assert as_image_set(channels_last).shape == (3, 4, 4)
    with pytest.raises(InputError, match="ImageSet"):
        as_image_set("digits")


def test_mixed_sizes_are_an_error_only_without_a_size(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", size=(5, 5))
    with pytest.raises(InputError, match="--image_size"):
        open_folder(tmp_path)
    assert len(open_folder(tmp_path, image_size=4)) == 2


def test_unreadable_images_and_folders_are_named(tmp_path):
    save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"bad\.png"):
        open_folder(tmp_path)
    half = tmp_path / "half"
    save(half / "a.png", size=(200, 200))
    (half / "a.png").write_bytes((half / "a.png").read_bytes()[:90])
    with pytest.raises(InputError, match=r"a\.png"):
        open_folder(half)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty"):
        open_folder(empty)
    with pytest.raises(InputError, match="no folder"):
        open_folder(tmp_path / "missing")


def test_truncated_parquet_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    with pytest.raises(InputError, match="cannot open"):
        open_folder(tmp_path)


def test_unreachable_hub_offers_the_alternatives():
    with pytest.raises(InputError, match="--data digits"):
        open_images(DataConfig(data="nobody/no_such_images"))


def test_late_colours_are_an_error_not_greyed(tmp_path):
    for index in range(70):
        save(tmp_path / f"{index:03}.png", size=(4, 4), mode="L")
    save(tmp_path / "zzz.png", size=(4, 4), color=(255, 0, 0))
    with pytest.raises(InputError, match="--image_channels 3"):
        open_folder(tmp_path)
    assert open_folder(tmp_path, image_channels=3).shape == (3, 4, 4)


@needs_shared_data
def test_real_mnist_has_its_size_and_labels():
    images = open_images(DataConfig(data=str(SHARED / "data" / "mnist"), split="test"), progress=False)
    assert len(images) == 10_000 and images.shape == (1, 28, 28)
    assert torch.bincount(images.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
