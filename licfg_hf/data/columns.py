"""The columns of a data set's rows that hold the images and the labels."""

from typing import Any

import datasets
import torch

from ..errors import InputError
from .config import DataConfig
from .folders import LABEL, natural_order
from .image_sets import ClassNames, Labels


def image_column(rows: datasets.Dataset, config: DataConfig) -> str:
    """The column that was asked for, or the only one with images; bytes without more count where nothing else does."""
    features = rows.features
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    candidates = candidates or [name for name, feature in features.items() if _holds_files(feature)]
    if config.image_column is not None:
        if config.image_column not in candidates:
            raise InputError(
                f"{config.data} has no image column {config.image_column!r}; its columns are "
                f"{', '.join(features)}, with images in: {', '.join(candidates) or 'none'}"
            )
        return config.image_column
    if len(candidates) != 1:
        raise InputError(
            f"{config.data} has {len(candidates) or 'no'} image columns among {', '.join(features)}"
            + (": choose one with --image_column" if candidates else "")
        )
    return candidates[0]


def _holds_files(feature: Any) -> bool:
    """True if a column can hold the content of image files, as pandas writes it: {bytes, path}, or bytes alone."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def labels_of(rows: datasets.Dataset, config: DataConfig) -> tuple[Labels, ClassNames]:
    """The labels and what they are called: those of the column that was asked for, or of the one that holds labels.

    Raises:
        InputError: the column that was asked for is not there, or not every row has a label in it.
    """
    column, asked = config.label_column, config.label_column is not None
    if column is None:
        candidates = [name for name, feature in rows.features.items() if isinstance(feature, datasets.ClassLabel)]
        column = candidates[0] if len(candidates) == 1 else LABEL if LABEL in rows.features else None
    elif column not in rows.features:
        raise InputError(f"{config.data} has no column {column!r}; its columns are {', '.join(rows.features)}")
    if column is None:
        return None, None
    values, feature = rows[column][:], rows.features[column]
    missing = [row for row, value in enumerate(values) if value is None or value != value]
    if not asked and len(missing) == len(values):
        return None, None
    if missing:
        raise InputError(
            f"{len(missing)} of {len(values)} rows of {config.data} have no label in column {column!r}, the first is "
            f"row {missing[0]}: choose another --label_column or --split"
        )
    kinds = {type(value) for value in values}
    if isinstance(feature, datasets.ClassLabel):
        names = tuple(feature.names)
    elif kinds == {bool}:
        names = ("False", "True")
    elif kinds == {str}:
        names = tuple(sorted(set(values), key=natural_order))
        places = {name: place for place, name in enumerate(names)}
        values = [places[value] for value in values]
    elif kinds == {int}:
        names = None
    elif asked:
        raise InputError(f"column {column!r} of {config.data} holds neither whole numbers, words nor True and False")
    else:
        return None, None
    labels = torch.tensor(values, dtype=torch.int64)
    # By themselves, labels are taken only where they can be ones: -1 is no class.
    return (labels, names) if asked or names or labels.min() >= 0 else (None, None)
