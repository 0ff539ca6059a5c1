"""Statistics of reference images, kept by their content: computed once, never used when half-written."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import InputError
from ..files import cache_folder, partial_folder, remove_unfinished, sha256_of, sync_tree, write_json
from .statistics import FeatureFile, Features, GaussianStatistics

MOMENTS_FILE, FEATURES_FILE, COMPLETE_FILE = "moments.safetensors", "features.npy", "complete.json"


def reference_statistics(content: Mapping[str, Any], compute: Callable[[Path], GaussianStatistics]) -> Features:
    """Moments and feature vectors of reference images, from the cache or computed now.

    Args:
        content: everything that the numbers depend on, whose hash is the name of the entry.
        compute: writes ``FEATURES_FILE`` into a folder and returns the moments.
    """
    place = cache_folder("statistics") / hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    if (kept := _read(place)) is not None:
        return kept
    remove_unfinished(place.parent)
    try:
        with partial_folder(place) as partial:
            moments = compute(partial)
            save_file({name: value.contiguous() for name, value in moments.tensors().items()}, partial / MOMENTS_FILE)
            sums = {name: sha256_of(partial / name) for name in (MOMENTS_FILE, FEATURES_FILE)}
            write_json(partial / COMPLETE_FILE, {"content": dict(content), "sha256": sums})
            sync_tree(partial)
            return _publish(partial, place)
    except PermissionError as error:
        raise InputError(f"cannot write the cache {place.parent}: set LICFG_HF_CACHE to another folder") from error


def _publish(partial: Path, place: Path) -> Features:
    """Moves a finished entry to its name; where another process was faster, that one's is as good."""
    damaged = place.with_name(f".{place.name}.{os.getpid()}.damaged")
    for _ in range(3):
        with suppress(OSError):
            partial.rename(place)
        if (found := _read(place)) is not None:
            return found
        with suppress(OSError):
            place.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    raise InputError(f"the cache entry {place} could not be written: remove it")


def _read(place: Path) -> Features | None:
    """What an entry holds; None where it is absent or not whole."""
    with suppress(OSError, ValueError, LookupError, TypeError, SafetensorError):
        sums = json.loads((place / COMPLETE_FILE).read_text(encoding="utf-8"))["sha256"]
        if all(sha256_of(place / name) == sums[name] for name in (MOMENTS_FILE, FEATURES_FILE)):
            moments = GaussianStatistics.from_tensors(load_file(place / MOMENTS_FILE))
            return Features(moments, FeatureFile(place / FEATURES_FILE))
