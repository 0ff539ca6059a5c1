"""Writes converted networks as a folder for ``from_pretrained``: all of it, or nothing."""

import json
from pathlib import Path

from safetensors import SafetensorError

from ..errors import InputError
from ..files import partial_folder, sha256_of, sync_tree, write_text
from ..pipelines import DDGANPipeline, GANPipeline
from ..text import code_span, filled
from .mapping import Networks


def require_free(folder: Path) -> None:
    """Raises an InputError if the folder exists and is not an empty folder, or if it is the current one."""
    if folder.is_dir():
        if folder.samefile("."):  # it is replaced, and the shell would stay in the old one
            raise InputError(f"{folder} is the current folder: name a new one")
        if any(folder.iterdir()):
            raise InputError(f"{folder} is not empty: name a new folder")
    elif folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is a file: name a new folder")


def _facts(networks: Networks) -> list[str]:
    """One line for each network, and the notes."""
    lines, generator, critic = [], networks.generator, networks.discriminator
    if generator is not None:
        where = "model" if networks.scheduler is None else "unet"
        size = f"{type(generator).__name__}, {generator.num_parameters():,} parameters"
        lines.append(f"generator: {size}, {networks.generator_weights}, in {where}/")
    if networks.scheduler is not None:
        config = networks.scheduler.config
        lines.append(
            f"scheduler: DDGANScheduler, {config['num_train_timesteps']} steps, {config['schedule']}, "
            f"beta {config['beta_min']} to {config['beta_max']}, in scheduler/"
        )
    if critic is not None:
        where = "this folder" if generator is None else "discriminator/"
        lines.append(f"discriminator: {type(critic).__name__}, {critic.num_parameters():,} parameters, in {where}")
    return [*lines, *networks.notes]


def _code(networks: Networks, folder: str) -> list[str]:
    """How to load the folder, in Python."""
    place, classes, lines = json.dumps(folder), [], []
    if networks.generator is not None:
        pipeline = "GANPipeline" if networks.scheduler is None else "DDGANPipeline"
        table = networks.generator.config.get("variant") == "truncation_table"
        arguments = "batch_size=4, truncation=0.4" if table else "batch_size=4"
        classes.append(pipeline)
        lines += [f"pipeline = {pipeline}.from_pretrained({place})", f"images = pipeline({arguments}).images"]
    if networks.discriminator is not None:
        name = type(networks.discriminator).__name__
        subfolder = "" if networks.generator is None else ', subfolder="discriminator"'
        classes.append(name)
        lines.append(f"discriminator = {name}.from_pretrained({place}{subfolder})")
    return [f"from licfg_hf import {', '.join(classes)}", *lines]


def _save(networks: Networks, folder: Path) -> None:
    generator, scheduler = networks.generator, networks.scheduler
    if generator is not None:
        pipeline = GANPipeline(generator) if scheduler is None else DDGANPipeline(generator, scheduler)
        pipeline.save_pretrained(folder)
    if networks.discriminator is not None:
        networks.discriminator.save_pretrained(folder if generator is None else folder / "discriminator")


def _card(networks: Networks, source: str, file: Path) -> str:
    named = networks.generator if networks.generator is not None else networks.discriminator
    return filled(
        "licfg_hf.convert",
        "card.md",
        title=f"{type(named).__name__} from {source}",
        source=source,
        file=code_span(file.name),
        code=_code(networks, "."),
        facts=_facts(networks),
        digest=sha256_of(file),
        options=None if networks.options is None else json.dumps(dict(networks.options), indent=2),
    )


def write(networks: Networks, folder: Path, source: str, file: Path) -> list[str]:
    """Writes the folder beside its name and renames it, so that it is whole or not there.

    Returns lines that say what lies where and how it is loaded; an InputError where it cannot be written.
    """
    place = folder.resolve()  # a link to an empty folder stays a link
    try:
        with partial_folder(place) as partial:
            _save(networks, partial)
            write_text(partial / "README.md", _card(networks, source, file))
            sync_tree(partial)
            if place.is_dir():
                place.rmdir()
            partial.rename(place)
    except (OSError, SafetensorError) as error:  # a full disk is a SafetensorError while weights are saved
        raise InputError(f"cannot write {folder}: {getattr(error, 'strerror', None) or error}") from error
    code = [f"    {line}" for line in _code(networks, str(folder))]
    return [f"{file.name} ({source}) is now in {folder}", *_facts(networks), "load it:", *code]
