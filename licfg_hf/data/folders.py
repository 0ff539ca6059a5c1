"""A folder of pictures as rows: every picture that lies in it, with the splits and classes that its folders say."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import datasets
import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from PIL import Image

from ..command_line import note
from ..errors import InputError
from ..text import few, first_line
from .decoding import formats

LABEL = "label"  # the column of the labels
# Splits by the names that their folders may have.
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLITS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
# Files that hold images, but are no images: `datasets` reads some of them.
CONTAINERS = (".parquet", ".arrow", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".7z", ".rar", ".zip")
_TABLES: dict[str, Callable[[str], pyarrow.Table]] = {
    "metadata.csv": pyarrow.csv.read_csv,
    "metadata.jsonl": pyarrow.json.read_json,
    "metadata.parquet": pyarrow.parquet.read_table,
}
_FILE_NAME = "file_name"  # the column of a table that names its pictures, or the end of its name
# Pictures of other programs: left out silently, they would be missed.
_OTHER_PICTURES = {".heic", ".heif", ".jxl", ".exr", ".hdr", ".svg", ".dcm", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
_NO_PICTURES = ("HDF5", "MPEG", "PDF")  # of the formats that Pillow has a name for
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx"}
_SIGNATURES = re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|II\*\0|MM\0\*|RIFF....WEBP", re.DOTALL)


@dataclass
class Found:
    """The files in a folder and below it; paths are relative to it, with slashes, in the order of their names."""

    folder: str
    pictures: list[str] = field(default_factory=list)
    tables: dict[str, pyarrow.Table] = field(default_factory=dict)
    containers: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def left_out(self) -> str:
        """Counts the files that are not pictures and the empty folders, in words; "" if there are none."""
        parts = [f"{_counted(self.others)} ({few(self.others)})"] if self.others else []
        parts += [f"{len(self.empty)} empty folders ({few(self.empty)})"] if self.empty else []
        return ", ".join(parts)


def natural_order(name: str) -> list[Any]:
    """Sorts as people count: class 2 before class 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] + [name]


def look_into(folder: str) -> Found:
    """Everything in a folder; links to folders are followed."""
    found, loose = Found(folder), []
    readable, foreign = _endings()
    left: list[tuple[str, frozenset[str]]] = [("", frozenset())]
    while left:
        place, above = left.pop()
        here = os.path.join(folder, place)
        real = os.path.realpath(here)
        if real in above:
            continue  # a link back to a folder that it lies in, whose pictures are counted already
        for entry in (entries := _entries(here)):
            path = f"{place}/{entry.name}" if place else entry.name
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES:
                found.others.append(path)
            elif os.path.isdir(entry.path):
                left.append((path, above | {real}))
            elif not os.path.isfile(entry.path):
                (loose if entry.is_symlink() else found.others).append(path)
            elif ending in readable:
                found.pictures.append(path)
            elif (table := _table(here, entry.name)) is not None:
                found.tables[path] = table
            elif ending in CONTAINERS:
                found.containers.append(path)
            elif ending in foreign:
                found.foreign.append(path)
            else:
                (found.pictures if _is_picture(entry.path) else found.others).append(path)
        if place and not entries:
            found.empty.append(place)
    if loose:
        raise InputError(f"links in {folder} lead nowhere: {few(sorted(loose))}; repair or remove them")
    for paths in (found.pictures, found.containers, found.foreign, found.others, found.empty):
        paths.sort()
    return found


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
        "".join(entry.name for entry in entries).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"a name in {folder} is not in UTF-8: rename {error.object[:80]!r}") from error
    except OSError as error:
        raise InputError(f"cannot look into {folder}: {error.strerror}") from error
    return entries


def _endings() -> tuple[set[str], set[str]]:
    """Endings of the pictures that are read, and of those that are not."""
    known = Image.registered_extensions()
    readable = {ending for ending, name in known.items() if name in (*formats(), "MPO")}
    foreign = {ending for ending, name in known.items() if name not in _NO_PICTURES}
    return readable, (foreign | _OTHER_PICTURES) - readable


def _is_picture(path: str) -> bool:
    """True if a file without the ending of a picture is one by its first bytes."""
    try:
        with open(path, "rb") as file:
            return _SIGNATURES.match(file.read(16)) is not None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _kind(path: str) -> str:
    name = PurePosixPath(path).name
    if name.startswith("."):
        return "hidden files"
    return PurePosixPath(name).suffix.lower() or name


def _table(folder: str, name: str) -> pyarrow.Table | None:
    """A table that names pictures; None for any other file."""
    if name not in _TABLES:
        return None
    path = os.path.join(folder, name)
    try:
        table = _TABLES[name](path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error
    return table if any(column.endswith(_FILE_NAME) for column in table.column_names) else None


@dataclass(frozen=True)
class _Picture:
    """A picture, the folders that may be its classes, and what a table says of it: None where no table names it."""

    path: str
    classes: tuple[str, ...]
    row: dict[str, Any] | None


def picture_rows(found: Found, split: str) -> datasets.Dataset:
    """The pictures of a split: a column ``image`` with their paths, ``label`` where there are classes, and a table's.

    A folder that holds nothing but train/, test/ and the like is split by them; in any other, all pictures are
    ``train``, and such a folder is a split only where ``split`` asks for it. The folders below are classes, by their
    whole path and in natural order, unless a table has labels.
    """
    _require_all_readable(found)
    parts, is_split = _parts(_listed(found), found.folder)
    lengths = {name: len(pictures) for name, pictures in parts.items()}
    chosen = [
        picture for name, first, last in spans(split, lengths, found.folder) for picture in parts[name][first:last]
    ]
    if not chosen:
        raise InputError(f"{found.folder} has no images in split {split!r}")
    _require_all_listed(found, chosen)
    if left_out := found.left_out():
        note(f"of {found.folder}, {len(found.pictures)} pictures are used and {left_out} are not")
    named = dict.fromkeys(chain.from_iterable(picture.row or () for picture in chosen))
    columns = {name: [(picture.row or {}).get(name) for picture in chosen] for name in named}
    columns.setdefault("image", [os.path.join(found.folder, picture.path) for picture in chosen])
    try:
        rows = datasets.Dataset.from_dict(columns)
    except pyarrow.ArrowException as error:
        raise InputError(f"the tables of {found.folder} do not fit together: {error}") from error
    for name in columns:
        if name == "image" or any(f"{name}_{_FILE_NAME}" in table.column_names for table in found.tables.values()):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    if LABEL in columns:
        return rows
    everywhere = chain.from_iterable(parts.values()) if is_split else chosen
    names, labels = _classes(found.folder, chosen, {picture.classes for picture in everywhere})
    return (
        rows if labels is None else rows.add_column(LABEL, labels).cast_column(LABEL, datasets.ClassLabel(names=names))
    )


def spans(split: str, lengths: dict[str, int], folder: str) -> list[tuple[str, int, int]]:
    """The images of a split's name, or of a sum of slices such as ``train[:100]+test``: (split, first, last + 1)."""
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"{folder} has no split {split!r}, but {', '.join(lengths)}: choose one with --split"
        ) from error
    return [(part.splitname, part.from_, part.to) for part in parts]


def _require_all_readable(found: Found) -> None:
    if found.foreign:
        raise InputError(
            f"{found.folder} holds pictures in formats that are not read ({_counted(found.foreign)}, such as "
            f"{found.foreign[0]}): convert them to PNG or JPEG, or move them out"
        )
    if found.containers:
        raise InputError(
            f"{found.folder} holds {len(found.pictures)} pictures and {_counted(found.containers)} files "
            f"({few(found.containers)}), and only one of both can be the data: move the other out"
        )


def _listed(found: Found) -> list[tuple[str, dict[str, Any] | None]]:
    """Every picture with its row of a table; those of no table, which have None, come last."""
    pictures, seen, listed = set(found.pictures), set(), []
    for path, table in found.tables.items():
        for number, row in enumerate(table.to_pylist(), 1):
            named = {}
            for column in [column for column in row if column.endswith(_FILE_NAME)]:
                value = row.pop(column)
                target = os.path.normpath(os.path.join(os.path.dirname(path), str(value)))
                if target not in pictures:
                    raise InputError(f"row {number} of {path} names {value}, which is not a picture in {found.folder}")
                named[column.removesuffix(_FILE_NAME).rstrip("_") or "image"] = target
            seen |= set(named.values())
            row |= {name: os.path.join(found.folder, target) for name, target in named.items()}
            listed.append((named.get("image", next(iter(named.values()))), row))
    return listed + [(path, None) for path in found.pictures if path not in seen]


def _parts(listed: list[tuple[str, dict[str, Any] | None]], folder: str) -> tuple[dict[str, list[_Picture]], bool]:
    """The pictures by split, under every name that a split has; and whether all of the folder is splits."""
    folders = [tuple(path.split("/")[:-1]) for path, _ in listed]
    base = folders[0][: _shared(folders)]  # a folder around the whole set means nothing, unless it is a split
    depth = next((depth for depth, name in enumerate(base) if name.casefold() in _SPLITS), len(base))
    whole = [_Picture(path, names[depth:], row) for (path, row), names in zip(listed, folders, strict=True)]
    below: dict[str, list[_Picture]] = {}
    for picture in whole:
        below.setdefault("".join(picture.classes[:1]), []).append(replace(picture, classes=picture.classes[1:]))
    splits = {name: _SPLITS[name.casefold()] for name in below if name.casefold() in _SPLITS}
    is_split = len(splits) == len(below)
    if is_split and len(set(splits.values())) < len(splits):
        raise InputError(f"in {folder}, {', '.join(sorted(splits))} mean the same split: name one with --data")
    parts = {} if is_split else {"train": whole}
    for name in splits:
        parts.setdefault(name, below[name])
    for name, canonical in splits.items():
        parts.setdefault(canonical, below[name])
    return parts, is_split


def _require_all_listed(found: Found, chosen: list[_Picture]) -> None:
    missing = [picture.path for picture in chosen if picture.row is None]
    if 0 < len(missing) < len(chosen):
        raise InputError(
            f"{few(list(found.tables))} in {found.folder} lists {len(chosen) - len(missing)} of {len(chosen)} "
            f"pictures and not {few(missing)}: complete or remove the table, or move the others out"
        )


def _classes(
    folder: str, chosen: list[_Picture], everywhere: set[tuple[str, ...]]
) -> tuple[list[str], list[int] | None]:
    """Names of the classes in all splits, and the labels of the chosen pictures; None where not all have one."""
    shared = _shared(everywhere)
    names = sorted({"/".join(classes[shared:]) for classes in everywhere} - {""}, key=natural_order)
    mine = ["/".join(picture.classes[shared:]) for picture in chosen]
    if "" in mine:
        if any(mine):
            beside = f"{mine.count('')} pictures of {folder} lie beside the folders {few(names)}"
            note(f"{beside}, so that no folder is taken for a class")
        return names, None
    if misleading := [name for name in names if {part.casefold() for part in name.split("/")} & set(_SPLITS)]:
        note(
            f"{few(misleading)} in {folder} are taken for classes, since other pictures lie beside them; --data "
            f"{os.path.join(folder, misleading[0])} takes one alone"
        )
    places = {name: place for place, name in enumerate(names)}
    return names, [places[name] for name in mine]


def _counted(paths: Sequence[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(map(_kind, paths)).most_common())


def _shared(folders: Collection[tuple[str, ...]]) -> int:
    """How many folders all these paths begin with."""
    return len(os.path.commonprefix(list(folders)))  # noqa: RUF071  of tuples it compares whole names
