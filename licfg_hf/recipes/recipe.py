"""From command-line arguments to a finished run: what every recipe shares."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace
from safetensors import SafetensorError
from torch import nn

from ..data import DataConfig, ImageSet, open_images
from ..errors import InputError, TrainingDiverged, TrainingInterrupted
from ..losses import AdversarialLoss
from ..pipelines.base import first_line
from ..training import AdversarialStep, LazyPenalty, Trainer, TrainingConfig
from ..training.generator_steps import GeneratorStep
from .objective import ObjectiveConfig

_CONFIGS = (TrainingConfig, DataConfig, ObjectiveConfig)
# The images and the objective decide these, so they are no options of the networks.
_DECIDED_ELSEWHERE = {"sample_size", "in_channels", "out_channels", "num_classes", "normalizers"}


@dataclass(frozen=True)
class Recipe:
    """A training set-up with presets.

    Attributes:
        name: as in ``licfg-hf train NAME``.
        title: one line for ``--help`` and the model card.
        components: option prefix -> class whose arguments become options, such as ``generator``.
        build: (images, component arguments) -> generator, discriminator, task.
        presets: name -> option values, dotted for nested ones; the first is the default.
        generator_step: component arguments -> how the generator learns.
        card: further variables of the model card's template.
    """

    name: str
    title: str
    components: Mapping[str, type]
    build: Callable[[ImageSet, dict[str, dict[str, Any]]], tuple[nn.Module, nn.Module, Any]]
    presets: Mapping[str, Mapping[str, Any]]
    generator_step: Callable[[dict[str, dict[str, Any]]], GeneratorStep] = lambda arguments: AdversarialStep()
    card: Mapping[str, Any] = field(default_factory=dict)

    def parser(self, preset: str) -> ArgumentParser:
        """The command-line parser with the values of a preset as defaults.

        Raises:
            InputError: there is no such preset.
        """
        if preset not in self.presets:
            raise InputError(f"{self.name} has no preset {preset!r}; there are: {', '.join(self.presets)}")
        parser = ArgumentParser(
            prog=f"licfg-hf train {self.name}", description=self.title, exit_on_error=False, default_env=False
        )
        parser.add_argument(
            "--config", action=ActionConfigFile, help="YAML file of options; later options override it"
        )
        parser.add_argument(
            "--preset",
            default=preset,
            choices=list(self.presets),
            help=f"set of defaults; those shown here are of {preset!r}",
        )
        for config in _CONFIGS:
            parser.add_class_arguments(config)
        for prefix, component in self.components.items():
            parser.add_class_arguments(component, prefix, skip=_DECIDED_ELSEWHERE)
        parser.set_defaults({"output_dir": f"output/{self.name}-{preset}", **self.presets[preset]})
        return parser

    def _preset_in(self, arguments: list[str]) -> str:
        """The preset that the arguments or their YAML file name; it must be known before the rest can be read."""
        scout = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        scout.add_argument("--preset")
        scout.add_argument("--config", action="append", default=[])
        known, _ = scout.parse_known_args(arguments)
        if known.preset is not None:
            return known.preset
        for path in reversed(known.config):
            try:
                content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise InputError(f"cannot read --config {path}: {str(error).splitlines()[0]}") from error
            if isinstance(content, dict) and "preset" in content:
                return str(content["preset"])
        return next(iter(self.presets))

    def parse(self, arguments: list[str]) -> tuple[ArgumentParser, Namespace]:
        """Reads the arguments.

        Raises:
            InputError: an option is unknown or its value is wrong.
        """
        parser = self.parser(self._preset_in(arguments))
        try:
            return parser, parser.parse_args(arguments)
        except (ArgumentError, argparse.ArgumentError) as error:
            message = " ".join(str(error).split())
            raise InputError(f"{message} (see --help)") from error

    def parts(self, options: Namespace, images: ImageSet | None = None) -> "Parts":
        """What parsed options describe: settings, images, networks, task and objective.

        Args:
            options: of ``parse``.
            images: those that the options name, where they are open already.

        Raises:
            InputError: they do not fit together or the data.
        """
        training, data, objective = (_config(config, options) for config in _CONFIGS)
        images = open_images(data, progress=is_main_process()) if images is None else images
        torch.manual_seed(training.seed)
        arguments = {prefix: dict(options[prefix]) for prefix in self.components}
        try:
            generator, discriminator, task = self.build(images, arguments)
            objective.prepare(discriminator)
            generator_step = self.generator_step(arguments)
        except ValueError as error:
            raise InputError(str(error)) from error
        except (ArithmeticError, TypeError, LookupError, RuntimeError, MemoryError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"these options of {' and '.join(arguments)} make no network: {reason}") from error
        networks = (generator, discriminator, task, generator_step)
        return Parts(training, data, objective, images, *networks, *objective.build())

    def trainer(self, options: Namespace, images: ImageSet | None = None) -> Trainer:
        """The trainer that parsed options describe.

        Args:
            options: of ``parse``.
            images: those that the options name, where they are open already.

        Raises:
            InputError: they do not fit together, the data or the output folder.
        """
        parts = self.parts(options, images)
        settings = {"recipe": self.name, **options.as_dict()}
        settings.pop("config", None)
        card = {"title": self.title, "data": parts.data.data, **self.card, **parts.objective.card(self.card)}
        if parts.data.data == "digits":
            card["data_license"] = (
                "CC BY 4.0; Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine "
                "Learning Repository, 1998, doi:10.24432/C50P49"
            )
        return Trainer(
            parts.training,
            parts.generator,
            parts.discriminator,
            parts.images,
            parts.task,
            parts.loss,
            parts.penalties,
            settings,
            card,
            parts.generator_step,
        )

    def typed(self, words: Sequence[str]) -> "Recipe":
        """This recipe; the cards of its runs say that they were made by a command line with these words."""
        command = shlex.join(["accelerate", "launch", f"recipes/{self.name}.py", *words])
        # Neither fits into a line of code of a card.
        return self if "`" in command or "\n" in command else replace(self, card={**self.card, "command": command})

    def run(self, arguments: list[str] | None = None) -> None:
        """Parses, trains and exports; every failure a user can mend ends in one line on stderr."""
        words = sys.argv[1:] if arguments is None else arguments
        with one_line_errors():
            parser, options = self.parse(words)
            trainer = self.typed(words).trainer(options)
            if is_main_process():
                text = parser.dump(options, skip_unset=False)
                (trainer.folder / "config.yaml").write_text(text, encoding="utf-8")
            trainer.train()
            trainer.accelerator.end_training()


@dataclass(frozen=True)
class Parts:
    """What a run is made of, before it has an output folder."""

    training: TrainingConfig
    data: DataConfig
    objective: ObjectiveConfig
    images: ImageSet
    generator: nn.Module
    discriminator: nn.Module
    task: Any
    generator_step: GeneratorStep
    loss: AdversarialLoss
    penalties: list[LazyPenalty]


def _config(config: type, options: Namespace) -> Any:
    names = config.__dataclass_fields__
    values = {name: options[name] for name in names}
    nested = {name: value for name, value in values.items() if isinstance(value, Namespace)}
    for name, value in nested.items():
        values[name] = names[name].type(**value.as_dict())
    return config(**values)


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with one line on stderr where a user can mend the failure.

    Exit codes: 2 for a wrong option or input, 1 for a run that diverged, 128 + signal for an interrupted one.
    """
    try:
        yield
    except InputError as error:
        _exit(f"error: {error}", 2)
    except TrainingDiverged as error:
        _exit(f"error: training diverged: {error}", 1)
    except TrainingInterrupted as error:
        _exit(str(error), error.exit_code)
    except SafetensorError as error:
        _exit(f"error: cannot write weights: {error}; the same command finishes the job", 1)
    except OSError as error:
        _exit(f"error: {error.filename or 'disk'}: {error.strerror or error}; the same command finishes the job", 1)
    except KeyboardInterrupt:
        _exit("stopped; the same command goes on from the last checkpoint, if there is one", 130)


def _exit(line: str, code: int) -> None:
    if is_main_process():
        print(line, file=sys.stderr, flush=True)
    sys.exit(code)
