"""Decoded images are kept: opened again without decoding, and never in place of others."""

import errno
import io
import os
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from licfg_hf.data import DataConfig, kept, open_images, sources
from licfg_hf.data.sources import as_image_set
from licfg_hf.data.stored import StoredImages
from licfg_hf.errors import InputError
from licfg_hf.evaluation.extractors import open_extractor
from licfg_hf.evaluation.passes import reference_of
from licfg_hf.files import cache_folder

datasets.disable_progress_bars()
COUNT = 600  # of which a fingerprint by 256 images would see every second


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, in which everything is worth keeping."""
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_WORTH_KEEPING", -1)


@pytest.fixture
def decodings(monkeypatch):
    """How often a whole set was decoded."""
    calls, load = [], StoredImages.load

    def counted(self, indices):
        calls.append(indices)
        return load(self, indices)

    monkeypatch.setattr(StoredImages, "load", counted)
    return calls


def bmp(value: int) -> bytes:
    """A picture whose size in bytes does not depend on its content."""
    content = io.BytesIO()
    Image.new("RGB", (4, 6), (value % 256, value // 256, 77)).save(content, "BMP")
    return content.getvalue()


def folder_of_files(folder: Path, count: int = COUNT) -> Path:
    for value in range(count):
        path = folder / str(value % 2) / f"{value:04}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bmp(value))
    return folder


def rows_of_bytes(values) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])})
    images = [{"bytes": bmp(value), "path": None} for value in values]
    return datasets.Dataset.from_dict({"image": images, "label": [value % 2 for value in values]}, features=features)


def opened(folder, **options):
    return open_images(DataConfig(str(folder), **options), progress=False)


def files_kept() -> list[Path]:
    return sorted(cache_folder("images").glob("*"))


def same(one, other) -> bool:
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and (one.fingerprint, one.class_names) == (other.fingerprint, other.class_names)
    )


@pytest.mark.parametrize("kind", ["files", "parquet", "save_to_disk"])
def test_the_second_time_nothing_is_decoded(tmp_path, decodings, kind, monkeypatch):
    folder = tmp_path / "set"
    if kind == "files":
        folder_of_files(folder, 20)
    elif kind == "parquet":
        folder.mkdir()
        rows_of_bytes(range(20)).to_parquet(folder / "train.parquet")
    else:
        rows_of_bytes(range(20)).save_to_disk(folder)
    first, second = opened(folder), opened(folder)
    assert len(decodings) == 1 and same(first, second)
    (path,) = files_kept()
    assert isinstance(kept.find_kept(path.name.split("-")[0], second.images.shape)[0], np.memmap)
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "empty"))
    assert same(opened(folder), second) and len(decodings) == 2


@pytest.mark.parametrize("place", range(3))  # of three neighbours, a probe of 256 images sees one at most
def test_any_changed_picture_is_seen(tmp_path, place):
    folder = folder_of_files(tmp_path / "set")
    opened(folder)
    path = folder / str(place % 2) / f"{place + 6:04}.bmp"
    before = path.stat()
    time.sleep(0.02)  # longer than the clock of a file system takes from one time to the next
    path.write_bytes(bmp(5000))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a program does that keeps times
    assert path.stat().st_size == before.st_size
    assert (opened(folder).images[:, 1] == 5000 // 256).any()
    rows = rows_of_bytes(range(COUNT))
    changed = rows_of_bytes([5000 if value == place + 6 else value for value in range(COUNT)])
    for values in (rows, changed, rows.select(range(COUNT - 1, -1, -1)), rows.select(range(5, COUNT))):
        expected = [int.from_bytes(picture["bytes"][54:57][::-1][:2], "little") for picture in _stored(values)]
        found = as_image_set(values).images[:, :2, 0, 0].int()
        assert (found[:, 0] + 256 * found[:, 1]).tolist() == expected


def _stored(rows):
    return rows.cast_column("image", datasets.Image(decode=False))["image"]


def test_every_option_has_its_own_images(tmp_path, decodings):
    folder = folder_of_files(tmp_path / "set", 8)
    ways = [{}, {"image_size": 4}, {"image_size": 4, "crop": "none"}, {"image_channels": 1}, {"split": "train[:5]"}]
    ways += [{"image_size": 4, "crop": "pad"}, {"image_size": 4, "resize_filter": "bilinear"}]
    first = [opened(folder, **options) for options in ways]
    assert len(decodings) == len(ways) == len(files_kept())
    assert all(same(opened(folder, **options), images) for options, images in zip(ways, first, strict=True))
    assert len(decodings) == len(ways)


def test_what_was_kept_hides_no_refusal(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(70):
        Image.new("L", (4, 4), 99).save(folder / f"{number:02}.png")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "zz.png")
    assert opened(folder, image_channels=1).shape == (1, 4, 4)
    with pytest.raises(InputError, match="has colours"):
        opened(folder)
    (folder / "zz.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(InputError, match=r"zz\.png"):
            opened(folder)
    assert len(files_kept()) == 1


def test_a_kept_picture_outside_the_data_is_refused(tmp_path):
    (tmp_path / "private.bmp").write_bytes(bmp(3))
    images = [{"bytes": bmp(1), "path": None}, {"bytes": None, "path": str(tmp_path / "private.bmp")}]
    rows = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    assert len(as_image_set(rows)) == 2
    (tmp_path / "set").mkdir()
    rows.cast_column("image", datasets.Image(decode=False)).to_parquet(tmp_path / "set" / "a.parquet")
    with pytest.raises(InputError, match="outside"):
        opened(tmp_path / "set")


@pytest.mark.parametrize("harm", ["cut", "longer", "garbage", "empty", "another's"])
def test_a_damaged_file_is_not_used_and_removed(tmp_path, decodings, harm):
    folder = folder_of_files(tmp_path / "set", 20)
    first = opened(folder)
    (path,) = files_kept()
    content = path.read_bytes()
    left = path.with_name(".999999999.x.partial")  # of a process that was killed
    left.write_bytes(content[:9])
    if harm == "another's":
        path.rename(path.with_name(path.name[:-4] + "0000"))
    else:
        path.write_bytes(
            {"cut": content[:-1], "longer": content + b"x", "garbage": b"x" * len(content), "empty": b""}[harm]
        )
    assert same(opened(folder), first) and len(decodings) == 2
    assert files_kept() == [path] and path.read_bytes() == content
    assert same(opened(folder), first) and len(decodings) == 2


@pytest.mark.parametrize("way", ["no folder", "full"])
def test_a_cache_that_cannot_be_written_is_one_note(tmp_path, capsys, monkeypatch, way):
    folder = folder_of_files(tmp_path / "set", 20)
    if way == "no folder":
        (tmp_path / "cache").write_text("a file")
    else:

        def full(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(kept, "writing", full)
    assert len(opened(folder)) == 20
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be kept" in line and "LICFG_HF_CACHE" in line


def test_changes_of_open_images_stay_with_them(tmp_path, decodings):
    folder = folder_of_files(tmp_path / "set", 20)
    first = opened(folder)
    opened(folder).images.zero_()
    assert same(opened(folder), first) and len(decodings) == 1


def test_statistics_of_a_set_that_is_not_held_in_memory_are_not_those_of_another(tmp_path):
    folder = folder_of_files(tmp_path / "set")
    extractor = open_extractor("pixels", (3, 4, 6), torch.device("cpu"))

    def statistics():
        images = opened(folder, in_memory_limit=1e-9)
        return images.fingerprint, reference_of(images, "set", extractor, 100).moments.mean

    before = statistics()
    for number in range(6, 9):  # one of three neighbours is not among the probed
        (folder / str(number % 2) / f"{number:04}.bmp").write_bytes(bmp(5000))
        after = statistics()
        assert not torch.equal(before[1], after[1])
        before = after
    assert torch.equal(statistics()[1], before[1])


def test_the_oldest_kept_images_go_above_the_limit(tmp_path, decodings, monkeypatch):
    folders = [folder_of_files(tmp_path / str(number), 20 + number) for number in range(3)]
    for number, folder in enumerate(folders[:2]):
        first = opened(folder)
        os.utime(max(files_kept(), key=lambda path: path.stat().st_mtime_ns), (number, number))
    opened(folders[0])  # used again: the other is the oldest now
    monkeypatch.setenv("LICFG_HF_IMAGE_CACHE", str(44 * 3 * 4 * 6 / 2**30))
    opened(folders[2])
    assert sorted(path.stat().st_size for path in files_kept()) == [20 * 72, 22 * 72]
    assert first.images.any()  # what is mapped stays readable
    monkeypatch.setenv("LICFG_HF_IMAGE_CACHE", "0")
    count, kept_before = len(decodings), files_kept()
    opened(folders[0])
    assert len(decodings) == count + 1 and files_kept() == kept_before
    monkeypatch.setenv("LICFG_HF_IMAGE_CACHE", "much")
    with pytest.raises(InputError, match="LICFG_HF_IMAGE_CACHE"):
        opened(folders[0])


def test_what_is_decoded_when_needed_or_at_once_is_not_kept(tmp_path, monkeypatch):
    folder = folder_of_files(tmp_path / "set", 20)
    opened(folder, in_memory_limit=1e-9)
    opened(folder, image_size=4, crop="random")
    monkeypatch.undo()
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "cache"))
    opened(folder)
    assert files_kept() == []
