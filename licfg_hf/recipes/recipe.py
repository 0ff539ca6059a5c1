"""From command-line arguments to a finished run: what every recipe shares."""

import argparse
import gc
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from ..command_line import OptionParser, as_spelled, is_main_process
from ..errors import InputError
from ..files import user_path, write_text
from ..named import IMPORT_HELP, import_first, imports_in, named
from ..text import first_line
from .arguments import as_trackers, derived_folder, in_words, require_known, typed_command, with_files_read
from .outline import outline

# Nothing here imports PyTorch before the options are known to be right: see ``outline``.
if TYPE_CHECKING:
    from torch import nn

    from ..data import DataConfig, ImageSet
    from ..hub.callbacks import HubConfig
    from ..objective.losses import AdversarialLoss
    from ..training import LazyPenalty, Trainer, TrainingConfig
    from ..training.context import GeneratorStep
    from .builders import Arguments
    from .objective import ObjectiveConfig

_CONFIGS = (
    "licfg_hf.training.TrainingConfig",
    "licfg_hf.hub.callbacks.HubConfig",
    "licfg_hf.data.DataConfig",
    "licfg_hf.recipes.objective.ObjectiveConfig",
)
# The images and the objective decide these, so they are no options of the networks.
_DECIDED_ELSEWHERE: set[str | int] = {"sample_size", "in_channels", "out_channels", "num_classes", "normalizers"}
_REPLACEABLE = ("generator", "discriminator")  # by a class of the user's: --generator.class_path


@dataclass(frozen=True)
class Recipe:
    """A training set-up with presets.

    Classes and functions may be given by their paths, such as ``licfg_hf.models.SNGANGenerator``: they are then
    imported when the run begins, so that ``--help`` does not wait for them.

    Attributes:
        name: as in ``licfg-hf train NAME``.
        title: one line for ``--help`` and the model card.
        components: option prefix -> class whose arguments become options, such as ``generator``.
        build: (images, component arguments) -> generator, discriminator, task.
        presets: name -> option values, dotted for nested ones; the first is the default. ``PresetFolder`` reads files.
        generator_step: component arguments -> how the generator learns; None means by its part of the loss.
        card: further variables of the model card's template.
        folder: where its file lies in a clone, for the command in the cards; None where it lies in none.
    """

    name: str
    title: str
    components: Mapping[str, type | str]
    build: "Callable[[ImageSet, Arguments], tuple[nn.Module, nn.Module, Any]] | str"
    presets: Mapping[str, Mapping[str, Any]]
    generator_step: "Callable[[Arguments], GeneratorStep] | str | None" = None
    card: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None

    def parser(self, preset: str, own: Mapping[str, str] | None = None) -> ArgumentParser:
        """The command-line parser with the values of a preset as defaults.

        ``own`` maps components to paths of classes that take the place of the recipe's; their arguments are options
        then, and have their own defaults.
        """
        if preset not in self.presets:
            raise InputError(f"{self.name} has no preset {preset!r}; there are: {', '.join(self.presets)}")
        parser = ArgumentParser(
            prog=f"licfg-hf train {self.name}",
            description=self.title,
            exit_on_error=False,
            default_env=False,
            allow_abbrev=False,
        )
        config_help = "YAML file of options; later options override it"
        parser.add_argument("--config", action=ActionConfigFile, help=config_help)
        preset_help = f"set of defaults; those shown here are of {preset!r}"
        parser.add_argument("--preset", default=preset, choices=list(self.presets), help=preset_help)
        parser.add_argument("--import", type=list[str] | None, help=IMPORT_HELP)
        differences_help = "say what the run changes from its paper, and train nothing"
        parser.add_argument("--differences", action=_Flag, help=differences_help)
        for config in _CONFIGS:
            parser.add_class_arguments(outline(config))
        values, preset_s = self.presets[preset], self._own_classes(preset)
        own = {**preset_s, **(own or {})}
        for prefix, component in {**self.components, **own}.items():
            parser.add_class_arguments(outline(component), prefix, skip=_DECIDED_ELSEWHERE, fail_untyped=False)
        for prefix, path in own.items():
            parser.add_argument(f"--{prefix}.class_path", default=path, help="your class in place of the recipe's")
        other = {
            prefix for prefix, path in own.items() if preset_s.get(prefix) != path
        }  # than the preset's options are of
        kept = {name: value for name, value in values.items() if name.partition(".")[0] not in other}
        parser.set_defaults({"output_dir": self._unnamed(preset), **kept})
        return parser

    def _own_classes(self, preset: str) -> dict[str, str]:
        """Networks that a preset puts in the place of the recipe's: component -> path of the class."""
        paths = {prefix: self.presets[preset].get(f"{prefix}.class_path") for prefix in _REPLACEABLE}
        return {prefix: path for prefix, path in paths.items() if path is not None}

    def _unnamed(self, preset: str) -> str:
        """What stands for the output folder in ``--help`` and until the options are known."""
        return f"output/{self.name}-{preset}[-OPTION_VALUE of each other option that makes another run]"

    def _asked(self, words: list[str]) -> tuple[str, dict[str, str]]:
        """What must be known before the rest can be read: the preset, and own classes of networks."""
        paths = [f"{prefix}.class_path" for prefix in _REPLACEABLE if prefix in self.components]
        scout = OptionParser(prog=f"licfg-hf train {self.name}", add_help=False)
        scout.add_argument("--config", action="append", default=[])
        for name in ("preset", *paths):
            scout.add_argument(f"--{name}")
        known, _ = scout.parse_known_args(words)
        given: dict[str, Any] = {}
        for content in (*map(json.loads, known.config), vars(known)):
            nested = {path: (content.get(path.partition(".")[0]) or {}) for path in paths}
            inner = {path: part.get("class_path") for path, part in nested.items() if isinstance(part, dict)}
            found = {name: content.get(name) or inner.get(name) for name in ("preset", *paths)}
            given |= {name: value for name, value in found.items() if value is not None}
        preset = str(given.pop("preset", next(iter(self.presets))))
        return preset, {path.partition(".")[0]: str(value) for path, value in given.items()}

    def parse(self, arguments: list[str]) -> tuple[ArgumentParser, Namespace]:
        """Reads the arguments, after what ``--import`` names is imported; an InputError says which is wrong."""
        imports, words = imports_in(with_files_read(arguments))
        for module in imports:
            import_first(module)
        preset, own = self._asked(words)
        parser = self.parser(preset, own)
        parser.set_defaults({"import": imports or None})
        words = as_spelled(as_trackers(words), parser._option_string_actions)
        require_known(words, parser)
        try:
            options = parser.parse_args(words)
        except (ArgumentError, argparse.ArgumentError) as error:
            raise InputError(in_words(str(error))) from error
        _require_one_way(options, parser)
        if options.output_dir == self._unnamed(preset):
            options.output_dir = derived_folder(f"output/{self.name}-{preset}", options, parser.get_defaults())
        return parser, options

    def configs(self, options: Namespace) -> "tuple[TrainingConfig, HubConfig, DataConfig, ObjectiveConfig]":
        """The settings that options of ``parse`` describe, without the networks'; InputError where one is wrong."""
        training, hub, data, objective = (_config(named(config, "class"), options) for config in _CONFIGS)
        return training, hub, data, objective

    def parts(self, options: Namespace, images: "ImageSet | None" = None) -> "Parts":
        """Builds the parts that options of ``parse`` describe; ``images`` are those that they name, if open already.

        An InputError says what does not fit together, or not the data.
        """
        import torch

        from ..data import open_images
        from ..training import AdversarialStep

        training, hub, data, objective = self.configs(options)
        images = open_images(data, progress=is_main_process()) if images is None else images
        torch.manual_seed(training.seed)
        arguments = self._arguments(options)
        build, step = _resolved(self.build), _resolved(self.generator_step)
        try:
            generator, discriminator, task = build(images, arguments)
            objective.prepare(discriminator)
            generator_step = AdversarialStep() if step is None else step(arguments)
        except ValueError as error:
            raise InputError(str(error)) from error
        except (ArithmeticError, TypeError, LookupError, RuntimeError, MemoryError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"these options of {' and '.join(arguments)} make no network: {reason}") from error
        networks = (generator, discriminator, task, generator_step)
        reference = _reference(training, data, images.shape[1])
        return Parts(training, hub, data, objective, images, *networks, *objective.build(), reference=reference)

    def _arguments(self, options: Namespace) -> "Arguments":
        from torch import nn

        from .builders import Component

        arguments = {}
        for prefix, usual in self.components.items():
            # A component whose class has no options has no place among them either.
            values = dict(options.get(prefix) or {})
            path = values.pop("class_path", None)
            kind = _resolved(usual if path is None else path)
            if path is not None and not (isinstance(kind, type) and issubclass(kind, nn.Module)):
                raise InputError(f"--{prefix}.class_path {path} is no network: its class is to be a torch.nn.Module")
            arguments[prefix] = Component(kind, values)
        return arguments

    def trainer(self, options: Namespace, images: "ImageSet | None" = None) -> "Trainer":
        """The trainer of these ``parts``; an InputError says what does not fit, the output folder included."""
        from ..hub.callbacks import ModelCard
        from ..training import Trainer

        parts = self.parts(options, images)
        settings = {"recipe": self.name, **options.as_dict()}
        settings.pop("config", None)
        card = {"title": self.title, "data": parts.data.data, **self.card, **parts.objective.card(self.card)}
        card["differences"] = self.differences(options)
        return Trainer(
            parts.training,
            parts.generator,
            parts.discriminator,
            parts.images,
            parts.task,
            parts.loss,
            parts.penalties,
            parts.generator_step,
            callbacks=[ModelCard(card), *parts.hub.callbacks()],
            augmentation=parts.objective.differentiable_augmentation(),
            settings=settings,
            reference=parts.reference,
        )

    def differences(self, options: Namespace) -> str:
        """What a run with options of ``parse`` changes from its paper, in words."""
        from .differences import compared, in_words

        return in_words(compared(self.name, self.presets, options.as_dict()))

    def typed(self, words: Sequence[str]) -> "Recipe":
        """This recipe; the cards of its runs say that they were made by a command line with these words."""
        command = typed_command(self.name, self.folder, words)
        return self if command is None else replace(self, card={**self.card, "command": command})

    def run(self, arguments: list[str] | None = None) -> None:
        """Parses, trains and exports; see ``licfg_hf.recipes.main`` for its failures."""
        words = sys.argv[1:] if arguments is None else arguments
        parser, options = self.parse(words)
        if "--differences" in words:
            if is_main_process():
                print(self.differences(options))
            return
        from ..training.run_folder import refused_leaves_nothing

        with refused_leaves_nothing(user_path(options.output_dir)):
            trainer = self.typed(words).trainer(options)
        if is_main_process():
            text = parser.dump(options, skip_unset=False)
            write_text(trainer.folder / "config.yaml", text)
        trainer.train()
        accelerator = trainer.accelerator
        del trainer  # and with it what holds the process group, whose threads are to end before the process does
        gc.collect()
        accelerator.end_training()


@dataclass(frozen=True)
class Parts:
    """The parts of a run, before it has an output folder."""

    training: "TrainingConfig"
    hub: "HubConfig"
    data: "DataConfig"
    objective: "ObjectiveConfig"
    images: "ImageSet"
    generator: "nn.Module"
    discriminator: "nn.Module"
    task: Any
    generator_step: "GeneratorStep"
    loss: "AdversarialLoss"
    penalties: "list[LazyPenalty]"
    reference: "ImageSet | None" = None  # what a protocol compares with, where that is not what is trained on


def _reference(training: "TrainingConfig", data: "DataConfig", size: int) -> "ImageSet | None":
    """The images that a protocol compares with, where they are another split than the one that is trained on."""
    from ..data import open_images
    from ..training.monitoring import protocol_for

    own = data.resolved().split
    split = protocol_for(training, data.data, size).options.get("data_split", own)
    if split == own:
        return None
    try:
        return open_images(replace(data, split=split), progress=is_main_process())
    except InputError as error:
        raise InputError(f"--protocol {training.protocol} compares with split {split}: {error}") from error


class _Flag(argparse.Action):
    """A word of the command line that is no option of a run, so that no file of options holds it."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=options["help"])

    def __call__(self, *_: Any) -> None:
        """Works as in argparse."""


def _resolved(thing: Any) -> Any:
    return named(thing, "class or function") if isinstance(thing, str) else thing


def _require_one_way(options: Namespace, parser: ArgumentParser) -> None:
    """Refuses a penalty that is given in both ways, of which one would not count."""
    usual = parser.get_defaults()
    single = [name for name in vars(options) if name == "penalty" or name.startswith("penalty_")]
    given = [name for name in single if options[name] != usual[name]]
    if options["penalties"] is not None and given:
        raise InputError(f"--penalties replaces --{given[0]}: write it into the list, or leave out the list")


def _config(config: type, options: Namespace) -> Any:
    names = config.__dataclass_fields__
    values = {name: options[name] for name in names}
    for name, value in values.items():
        if isinstance(value, Namespace):
            values[name] = names[name].type(**value.as_dict())
    return config(**values)
