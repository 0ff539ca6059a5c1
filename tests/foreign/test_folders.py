"""Folders and files as strangers have them: every picture with its class, or one line that says what is in the way."""

import io
import os
import re
import zipfile

import datasets
import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from licfg_hf.data import DataConfig, open_images
from licfg_hf.data.decoding import decode
from licfg_hf.data.sources import as_image_set
from licfg_hf.errors import InputError

datasets.disable_progress_bars()


def picture(path, size=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (size, size, 3), dtype=np.uint8)
    kind = path.suffix.lower().lstrip(".") or "png"
    Image.fromarray(pixels).save(path, "JPEG" if kind == "jpg" else kind)


def png(color=(200, 100, 50)):
    content = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(content, "PNG")
    return content.getvalue()


def parquet(path, count=3, **columns):
    """A file in the layout of the Hub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"image": [{"bytes": png(), "path": None}] * count, **columns}
    table = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image(decode=False)).data.table
    pyarrow.parquet.write_table(table.replace_schema_metadata(_schema_of_an_image()), path)


def _schema_of_an_image():
    return datasets.Features({"image": datasets.Image()}).arrow_schema.metadata


def opened(folder, **options):
    return open_images(DataConfig(str(folder), **options), progress=False)


def summary(images):
    return len(images), None if images.labels is None else images.labels.tolist(), images.class_names


NO_CLASSES = (None, None)
# What lies in the folder, options, and how many images with which labels and names that is.
FOLDERS = {
    "words for splits in names of files": (["photo of a train.png", "test tubes.png", "a.png"], {}, 3, *NO_CLASSES),
    "a class called train": (["bus/1.png", "car/1.png", "train/1.png"], {}, 3, [0, 1, 2], ("bus", "car", "train")),
    "a class called test": (["cat/1.png", "test/1.png"], {}, 2, [0, 1], ("cat", "test")),
    "a folder test that was asked for": (["cat/1.png", "test/1.png"], {"split": "test"}, 1, *NO_CLASSES),
    "nested classes": (["a/x/1.png", "a/y/1.png", "b/x/1.png"], {}, 3, [0, 1, 2], ("a/x", "a/y", "b/x")),
    "classes of unequal depth": (["a/1.png", "a/x/1.png", "b/1.png"], {}, 3, [0, 1, 2], ("a", "a/x", "b")),
    "numbered classes": (["0/1.png", "2/1.png", "10/1.png"], {}, 3, [0, 2, 1], ("0", "2", "10")),
    "splits": (["train/a/1.png", "train/b/1.png", "test/b/1.png"], {}, 2, [0, 1], ("a", "b")),
    "the other split": (["train/a/1.png", "train/b/1.png", "test/b/1.png"], {"split": "test"}, 1, [1], ("a", "b")),
    "splits without classes": (["train/1.png", "test/2.png"], {"split": "test"}, 1, *NO_CLASSES),
    "capital splits": (["Train/1.png", "TEST/1.png", "TEST/2.png"], {"split": "test"}, 2, *NO_CLASSES),
    "a short name for validation": (["train/1.png", "val/2.png"], {"split": "validation"}, 1, *NO_CLASSES),
    "a slice of a split": (["train/1.png", "train/2.png", "test/3.png"], {"split": "train[:1]+test"}, 2, *NO_CLASSES),
    "a folder around the splits": (["x/train/1.png", "x/train/2.png", "x/test/2.png"], {}, 2, *NO_CLASSES),
    "one class": (["cat/1.png", "cat/2.png"], {}, 2, *NO_CLASSES),
    "endings in capitals": (["A.PNG", "b.Png"], {}, 2, *NO_CLASSES),
    "no endings": (["a", "b.2"], {}, 2, *NO_CLASSES),
    "many formats": (["a.png", "b.webp", "c.bmp", "d.gif", "e.tiff", "f.jpg", "g.ppm"], {}, 7, *NO_CLASSES),
}


def make(folder, names):
    for name in names:
        if name.rpartition(".")[2].lower() in ("png", "webp", "bmp", "gif", "tiff", "jpg", "ppm"):
            picture(folder / name)
        else:
            (folder / name).write_bytes(png())


@pytest.mark.parametrize("case", FOLDERS)
def test_every_picture_has_the_class_that_its_folder_says(tmp_path, case):
    names, options, *expected = FOLDERS[case]
    make(tmp_path, names)
    assert summary(opened(tmp_path, **options)) == tuple(expected)


@pytest.mark.parametrize(
    "name", ["photos[1]", "run*", "a?b", "{a,b}", "~", "~x", " a b ", "ü", "a\nb", "-x", "a%20b", "#"]
)
def test_a_name_is_no_pattern(tmp_path, name, monkeypatch):
    for other in ("photos1", "runA", "axb", "a"):
        make(tmp_path / other, ["1.png"])
    make(tmp_path / name, ["cat/1.png", "dog/1.png"])
    parquet(tmp_path / "tables" / name / "train-00000-of-00001.parquet", count=5)
    assert summary(opened(tmp_path / name)) == (2, [0, 1], ("cat", "dog"))
    assert len(opened(tmp_path / "tables" / name)) == 5
    monkeypatch.chdir(tmp_path)
    assert len(opened(name)) == 2


def test_a_folder_that_is_called_like_a_data_set_of_the_hub(tmp_path, monkeypatch):
    picture(tmp_path / "uoft-cs/cifar10/1.png")
    monkeypatch.chdir(tmp_path)
    assert len(opened("uoft-cs/cifar10")) == 1


def test_links_to_folders_are_followed_once(tmp_path):
    for name in ("set/dog/1.png", "elsewhere/cat/1.png", "elsewhere/cat/2.png"):
        picture(tmp_path / name)
    (tmp_path / "set/cat").symlink_to(tmp_path / "elsewhere/cat")
    (tmp_path / "set/dog/all").symlink_to(tmp_path / "set")
    assert summary(opened(tmp_path / "set")) == (3, [0, 0, 1], ("cat", "dog"))
    parquet(tmp_path / "elsewhere/tables/a.parquet", count=2)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/more").symlink_to(tmp_path / "elsewhere/tables")
    assert len(opened(tmp_path / "tables")) == 2


def test_what_is_no_picture_is_counted_in_one_line(tmp_path, capsys):
    for name in ("a.png", "b.png", ".hidden.png", ".cache/c.png"):
        picture(tmp_path / name)
    for name in ("a.txt", "b.txt", "Thumbs.db", ".DS_Store", "labels.csv"):
        (tmp_path / name).write_text("a cat")
    (tmp_path / "empty").mkdir()
    assert len(opened(tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("2 pictures", "3 hidden files", "2 .txt", "1 .db", "1 .csv", "1 empty folders (empty)"):
        assert part in line


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "cat/1.png", "dog/1.png"], "1 pictures of .* beside the folders cat, dog"),
        (["cat/1.png", "test/1.png"], "test .* taken for classes"),
        (["cat/train/1.png", "dog/train/1.png"], "cat/train, dog/train .* taken for classes"),
    ],
)
def test_what_may_not_have_been_meant_is_said(tmp_path, capsys, names, words):
    make(tmp_path, names)
    assert len(opened(tmp_path)) == len(names)
    assert re.search(words, capsys.readouterr().err)


def write(name, text=""):
    return lambda folder: (folder / name).write_text(text)


REFUSED = {
    "a format that is not read": (["a.png"], write("b.HEIC"), {}, "1 .heic"),
    "a program as a picture": (["a.png"], lambda folder: Image.new("L", (8, 8)).save(folder / "b.eps"), {}, "eps"),
    "an archive beside pictures": (["a.png"], write("more.zip"), {}, "more.zip"),
    "a table beside pictures": (["a.png"], lambda folder: parquet(folder / "t.parquet"), {}, "t.parquet"),
    "a link that leads nowhere": (["a.png"], lambda folder: (folder / "b").symlink_to("missing"), {}, "links"),
    "a link to itself": (["a.png"], lambda folder: (folder / "b").symlink_to("b"), {}, "links"),
    "an empty slice": (["a.png"], lambda folder: None, {"split": "train[5:]"}, "no images in split"),
    "text alone": ([], write("a.txt"), {}, "1 .txt"),
    "nothing": ([], lambda folder: None, {}, "nothing"),
    "no such split": (["train/1.png", "val/1.png"], lambda folder: None, {"split": "test"}, "train, val"),
    "two folders for a split": (["val/1.png", "valid/1.png"], lambda folder: None, {}, "val, valid"),
    "no configurations": (["a.png"], lambda folder: None, {"data_config": "x"}, "configurations"),
    "damaged pictures": (["z.png"], lambda folder: [write(f"b{n}.png")(folder) for n in range(7)], {}, "7 of 8"),
    "damaged pictures alone": ([], lambda folder: [write(f"b{n}.png")(folder) for n in range(70)], {}, "64 of 64"),
    "a table that lists too little": (
        ["a.png", "b.png"], write("metadata.csv", "file_name,label\na.png,0\n"), {}, "1 of 2 .* not b.png",
    ),
    "a table that leads out": (["x/a.png"], write("x/metadata.csv", "file_name\n../../a.png\n"), {}, "row 1"),
    "a table that is damaged": (["a.png"], write("metadata.csv", 'file_name,x\n"a\n'), {}, "metadata.csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_leave_pictures_out_is_refused_in_one_line(tmp_path, case):
    names, add, options, words = REFUSED[case]
    make(tmp_path, names)
    add(tmp_path)
    with pytest.raises(InputError) as error:
        opened(tmp_path, **options)
    said = str(error.value).replace(str(tmp_path), "FOLDER")
    assert re.search(words, said) and "\n" not in said


def test_a_file_is_no_folder_and_a_name_is_utf8(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(InputError, match="is not a folder"):
        opened(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    with pytest.raises(InputError, match="UTF-8"):
        opened(tmp_path)


# ---- tables beside pictures


def test_a_table_gives_labels_and_order(tmp_path):
    make(tmp_path, ["a.png", "b.png", "c.png"])
    lines = ['{"file_name": "c.png", "label": "dog", "smiles": true}', '{"file_name": "a.png", "label": "cat", ']
    lines[1] += '"smiles": false}'
    write("metadata.jsonl", "\n".join([*lines, '{"file_name": "b.png", "label": "dog", "smiles": true}']))(tmp_path)
    assert summary(opened(tmp_path)) == (3, [1, 0, 1], ("cat", "dog"))
    assert summary(opened(tmp_path, label_column="smiles")) == (3, [1, 0, 1], ("False", "True"))


def test_a_table_of_one_split_and_of_masks(tmp_path):
    make(tmp_path, ["train/a.png", "train/b.png", "test/a.png"])
    write("train/metadata.csv", "file_name,label\na.png,3\nb.png,1\n")(tmp_path)
    assert summary(opened(tmp_path)) == (2, [3, 1], None)
    assert summary(opened(tmp_path, split="test")) == (1, None, None)
    masks = tmp_path / "masks"
    make(masks, ["a.png", "b.png"])
    write("metadata.csv", "file_name,mask_file_name\na.png,b.png\n")(masks)
    assert len(opened(masks, image_column="image")) == 1


# ---- files that `datasets` reads


def test_files_in_no_split_are_refused(tmp_path):
    for name in ("train", "more"):
        parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"1 of the 2 files .* more\.parquet"):
        opened(tmp_path)


def test_text_beside_parquet_does_not_win(tmp_path):
    parquet(tmp_path / "a.parquet")
    for number in range(5):
        write(f"{number}.txt")(tmp_path)
    assert len(opened(tmp_path)) == 3


def test_a_configuration_is_chosen_by_name(tmp_path):
    for name, count in (("faces", 2), ("hands", 5)):
        parquet(tmp_path / name / "train.parquet", count)
    files = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("faces", "hands"))
    write("README.md", f"---\nconfigs:\n{files}---\n")(tmp_path)
    with pytest.raises(InputError, match="faces, hands with --data_config"):
        opened(tmp_path)
    assert len(opened(tmp_path, data_config="hands")) == 5
    with pytest.raises(InputError, match="other"):
        opened(tmp_path, data_config="other")
    write("README.md", "---\nconfigs: [\n---\n")(tmp_path)
    with pytest.raises(InputError, match="cannot open"):
        opened(tmp_path)


def test_a_users_data_set_of_packed_pictures(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("cat/1.png", "dog/1.png"):
            archive.writestr(name, png())
    files = str(tmp_path / "a.zip")
    rows = datasets.load_dataset("imagefolder", data_files=files, drop_labels=True, split="train")
    images = as_image_set(rows)
    assert len(images) == 2 and images.images[0, :, 0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar", "a.arrow", "state.json", "a.parquet"])
def test_archives_and_damaged_files_end_in_one_line(tmp_path, name):
    write(name, "nothing of that kind")(tmp_path)
    with pytest.raises(InputError, match=r"unpack|cannot open"):
        opened(tmp_path)


def test_what_save_to_disk_left_is_opened(tmp_path):
    rows = {"image": [np.full((4, 4), 99, np.uint8)] * 3, "label": [0, 1, 0]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    saved = datasets.Dataset.from_dict(rows, features=features)
    saved.save_to_disk(tmp_path / "one")
    assert summary(opened(tmp_path / "one")) == (3, [0, 1, 0], ("x", "y"))
    datasets.DatasetDict({"test": saved}).save_to_disk(tmp_path / "parts")
    assert len(opened(tmp_path / "parts", split="test")) == 3
    with pytest.raises(InputError, match="but test: choose one with --split"):
        opened(tmp_path / "parts")


@pytest.mark.parametrize("column", [{"bytes": png(), "path": None}, png()])
def test_parquet_files_of_pandas(tmp_path, column):
    pandas.DataFrame({"picture": [column] * 3, "label": ["b", "a", "b"]}).to_parquet(tmp_path / "a.parquet")
    assert summary(opened(tmp_path)) == (3, [1, 0, 1], ("a", "b"))


def images_of(folder, **columns):
    """A parquet file with images of these columns and no further types."""
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "a.parquet")
    return folder


def test_rows_without_a_picture_and_columns_that_were_not_asked_for(tmp_path):
    good, bad = {"bytes": png(), "path": None}, {"bytes": b"nope", "path": None}
    type_ = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    empty = {"bytes": None, "path": None}
    for rows in ([empty, good, good], [None, good, good], [empty] * 3):
        images_of(tmp_path, image=pyarrow.array(rows, type_))
        with pytest.raises(InputError, match=r"image 0 of .* no picture"):
            opened(tmp_path)
    images_of(tmp_path, image=pyarrow.array([good] * 3, type_), mask=pyarrow.array([bad] * 3, type_))
    assert len(opened(tmp_path, image_column="image")) == 3


def test_a_row_names_no_picture_outside(tmp_path):
    picture(tmp_path / "private.png")
    (tmp_path / "set").mkdir()
    for path in (str(tmp_path / "private.png"), "../private.png"):
        pandas.DataFrame({"image": [{"bytes": None, "path": path}]}).to_parquet(tmp_path / "set/a.parquet")
        with pytest.raises(InputError, match="outside"):
            opened(tmp_path / "set")


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        ([3, 0, 3], [3, 0, 3], None),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        (["n10", "n9", "n10"], [1, 0, 1], ("n9", "n10")),
        ([-1, -1, -1], None, None),
        ([0.5, 1.5, 0.5], None, None),
    ],
)
def test_labels_of_any_type(tmp_path, values, labels, names):
    parquet(tmp_path / "a.parquet", label=values)
    assert summary(opened(tmp_path)) == (3, labels, names)


@pytest.mark.parametrize("values", [[1, None, 0], ["a", None, "b"], [True, None, False], [1.0, float("nan"), 0.0]])
def test_a_missing_label_is_named(tmp_path, values):
    parquet(tmp_path / "a.parquet", label=values)
    with pytest.raises(InputError, match=r"1 of 3 rows .* no label .* row 1"):
        opened(tmp_path, label_column="label")


# ---- pixels

RAMP = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_16_bits_that_are_used_keep_their_order(tmp_path, ending):
    Image.fromarray((RAMP * 257).astype(np.uint16)).save(tmp_path / f"a.{ending}")
    assert opened(tmp_path).images.flatten().tolist() == list(range(256))


def test_a_tiff_whose_zero_is_white(tmp_path):
    Image.fromarray((RAMP * 257).astype(np.uint16)).save(tmp_path / "a.tiff", tiffinfo={262: 0})
    assert opened(tmp_path).images.flatten().tolist() == list(range(255, -1, -1))


DEEP = {
    "8 bits in 16": (RAMP.astype(np.uint16), {}),
    "12 bits in 16": ((RAMP * 16).astype(np.uint16), {}),
    "float": (RAMP.astype(np.float32) / 255, {}),
    "not a number": (np.full((8, 8), np.nan, np.float32), {}),
    "infinite": (np.full((8, 8), np.inf, np.float32), {}),
    "signed": ((RAMP - 128).astype(np.int32), {}),
    "signed 8 bits": (RAMP.astype(np.uint8), {339: 2}),
}


@pytest.mark.parametrize("case", DEEP)
def test_numbers_whose_black_and_white_are_unknown_are_refused_by_name(tmp_path, case):
    pixels, tags = DEEP[case]
    Image.fromarray(pixels).save(tmp_path / "a.tiff", tiffinfo=tags)
    with pytest.raises(InputError, match=r"a\.tiff.*save it with 8 bits"):
        opened(tmp_path)


def test_pages_of_a_tiff_are_not_dropped_and_animations_give_their_first_picture(tmp_path):
    first, second = Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (8, 8), (9, 9, 9))
    for ending in ("gif", "png", "webp"):
        first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    first.save(tmp_path / "b.jpg", "MPO", save_all=True, append_images=[second])
    assert (opened(tmp_path).images[:, 0] > 190).all() and len(opened(tmp_path)) == 4
    first.copy().save(tmp_path / "c.tiff", save_all=True, append_images=[second.copy()])
    with pytest.raises(InputError, match=r"c\.tiff.* 2 pages"):
        opened(tmp_path)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "L", "I;16"])
def test_every_mode_keeps_its_brightness(tmp_path, mode):
    half = Image.fromarray(np.repeat([[0], [255]], 8, 1).astype(np.uint8))
    if mode == "I;16":
        half = Image.fromarray(np.asarray(half).astype(np.uint16) * 257)
    else:
        half = half.convert("RGB").convert(mode) if mode == "CMYK" else half.convert(mode)
    half.save(tmp_path / ("a.tiff" if mode == "CMYK" else "a.png"))
    images = opened(tmp_path).images
    assert images[:, :, 0].max() == 0 and images[:, :, 1].min() == 255


def test_every_orientation_is_turned_upright_and_a_damaged_one_is_let_be(tmp_path):
    pixels = np.zeros((4, 6), np.uint8)
    pixels[0, 0], pixels[0, 5] = 255, 90
    turns = [lambda a: a, np.fliplr, lambda a: a[::-1, ::-1], np.flipud]
    turns += [np.transpose, lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].T, np.rot90]
    for number, turn in enumerate(turns, 1):
        exif = Image.Exif()
        exif[0x0112] = number
        Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif.tobytes())
        np.testing.assert_array_equal(opened(tmp_path).images[0, 0], turn(pixels))
    Image.fromarray(pixels).save(tmp_path / "a.webp", exif=b"Exif\0\0no tiff at all", lossless=True)
    (tmp_path / "a.png").unlink()
    np.testing.assert_array_equal(opened(tmp_path).images[0, 0], pixels)


def test_colours_become_grey_where_that_was_asked_for(tmp_path):
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "a.png")
    assert opened(tmp_path, image_channels=1).images.unique().tolist() == [60]
    stored = opened(tmp_path, image_channels=1, in_memory_limit=1e-9)
    assert stored.fetch(torch.tensor([0]), seed=0).shape == (1, 1, 8, 8)


def test_a_black_set_is_noticed(tmp_path, capsys):
    Image.new("RGB", (8, 8), (3, 0, 0)).save(tmp_path / "a.png")
    opened(tmp_path)
    assert "nearly black" in capsys.readouterr().err


def test_a_picture_too_large_gets_a_way_round(tmp_path, monkeypatch):
    picture(tmp_path / "a.png", size=30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"a\.png.* 200 pixels.*MAX_IMAGE_PIXELS"):
        opened(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "TGA", "JPEG2000"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_pixels_or_one_line(kind):
    content, random = io.BytesIO(), np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(content, kind)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content.getvalue())
        damaged[: random.integers(64)] = random.bytes(random.integers(64))
        try:
            decode({"bytes": bytes(damaged), "path": None}, "one")
        except InputError as error:
            assert "cannot read one" in str(error)
            refused += 1
    assert refused
