"""The ``licfg-hf`` command."""

import argparse
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command_line import OptionParser, one_line_errors, require_no_more
from .errors import InputError
from .files import user_path
from .machine import best_device
from .named import IMPORT_HELP, import_first, imports_in
from .ranges import require_whole
from .signals import SignalHandler, terminate

if TYPE_CHECKING:
    from PIL.Image import Image


def _sample(arguments: argparse.Namespace) -> None:
    from .images import require_picture, save_image

    require_whole(1, 10_000 if arguments.picture == "grid" else 1000, **{"--count": arguments.count})
    require_whole(0, 2**63 - 1, **{"--seed": arguments.seed})
    output = _unused("samples.png") if arguments.output is None else user_path(arguments.output)
    require_picture(output, "--output")
    replaced = ", replacing the earlier file" if output.exists() else ""
    pipeline, folder = _load_pipeline(arguments)
    pipeline.to(best_device())
    try:
        picture = _draw(pipeline, folder, arguments)
    except ValueError as error:
        raise InputError(str(error)) from error
    try:
        save_image(picture, output)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error
    print(f"samples in {output}{replaced}")


def _unused(name: str) -> Path:
    """A file of that name, or with a number where it is taken."""
    others = (Path(name).with_stem(f"{Path(name).stem}-{number}") for number in count(2))
    return next(path for path in chain([Path(name)], others) if not path.exists())


def _load_pipeline(arguments: argparse.Namespace) -> tuple[Any, Path]:
    """The pipeline, and the folder that it lies in."""
    from diffusers.utils.logging import disable_progress_bar

    from .pipelines import open_pipeline
    from .pipelines.locate import locate

    disable_progress_bar()
    folder = locate(arguments.model, arguments.revision)
    return open_pipeline(folder, arguments.model), folder


def _draw(pipeline: Any, folder: Path, arguments: argparse.Namespace) -> "Image":
    import torch

    from .images import grid_columns, image_grid
    from .pipelines import GANPipeline, load_flow

    generator, count = torch.Generator().manual_seed(arguments.seed), arguments.count
    given = {"class_labels": arguments.class_labels, "truncation": arguments.truncation}
    options = {name: value for name, value in given.items() if value is not None}
    if (arguments.picture != "grid" or options) and not isinstance(pipeline, GANPipeline):
        raise InputError(f"{type(pipeline).__name__} has neither classes, truncation nor latents to interpolate")
    if arguments.flow and arguments.picture != "grid":
        raise InputError("--flow works only for a grid")
    if arguments.picture == "interpolation":
        return pipeline.interpolate(rows=count or 4, generator=generator, **options)
    if arguments.picture == "classes":
        return pipeline.class_sweep(columns=count or 8, generator=generator, **options)
    asked = len(options.get("class_labels", ())) or getattr(pipeline, "num_classes", None)
    count = count or 4 * grid_columns(16, asked)
    if len(options.get("class_labels", ())) > count:
        raise InputError(f"{len(arguments.class_labels)} --class_labels do not fit a --count of {count}")
    if arguments.flow:
        options["flow"] = load_flow(folder, pipeline.device)
    if asked is not None and grid_columns(count, asked) == asked:
        options.setdefault("class_labels", range(asked))  # in turn: a column for each
    drawn: Any = pipeline(batch_size=count, generator=generator, output_type="pt", **options)
    return image_grid(drawn.images * 2 - 1, columns=grid_columns(count, asked))


def _convert(arguments: argparse.Namespace) -> None:
    from .convert import convert

    for line in convert(arguments.source, arguments.input, arguments.output, arguments.config):
        print(line)


def _evaluate(arguments: argparse.Namespace) -> None:
    from diffusers.utils.logging import disable_progress_bar

    from .evaluation.options import config_from

    disable_progress_bar()
    config = config_from(arguments)
    from .evaluation.evaluate import main as run
    from .evaluation.evaluate import pipeline_folder
    from .evaluation.result import RESULT_FILES
    from .hub.card import refresh_card

    written, folder = run(config), pipeline_folder(config)
    if written is None or folder is None:
        return
    # A result of this model, and where its card looks for one: beside another model it says nothing of that.
    is_own = written.resolve() in [(folder / name).resolve() for name in RESULT_FILES]
    if is_own and refresh_card(folder):
        print("  the model's card, README.md, reports these numbers now")


def _compare(arguments: argparse.Namespace) -> None:
    from .evaluation.compare import main as run

    run(arguments.runs)


def _add_sample(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="pipeline folder or repository on the Hub")
    add("--revision", help="branch, tag or commit of a repository (default: its main branch)")
    of_grid = "images of a grid (default: 16, or 4 of each class if there are few classes)"
    add("--count", type=int, help=f"{of_grid}, paths of an interpolation (4), or images of each class (8)")
    add("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    names = "samples.png, or samples-2.png, ..."
    add("--output", help=f"file for the picture, in the format of its ending (default: {names})")
    kinds = "a grid of samples, paths between latents, or the same latents in several classes (default: %(default)s)"
    add("--picture", choices=("grid", "interpolation", "classes"), default="grid", help=kinds)
    classes = "names or numbers of classes to draw; default: all, in turn"
    add("--class_labels", nargs="+", metavar="CLASS", help=classes)
    add("--truncation", type=float, help="in (0, 1]: less variety, more typical images; default: none")
    add("--flow", action="store_true", help="move the samples by the model's functional-gradient steps (a grid only)")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    from .convert.formats import FORMATS

    add = parser.add_argument
    add("--from", dest="source", required=True, choices=FORMATS, help="who wrote the checkpoint")
    add("--input", required=True, help="checkpoint file (.pth, .pt, .bin or .safetensors)")
    add("--output", required=True, help="new folder: a pipeline, or a discriminator's model folder")
    add("--config", help="JSON file with the reference's own options, if the weights do not determine the network")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    from .evaluation.options import add_arguments

    add_arguments(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="eval.json file, or a folder that holds one")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", help="recipe, such as ddgan_eps_cifar; `licfg-hf train NAME --help` explains its options"
    )


def _add_tune_penalty(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="recipe; `licfg-hf tune-penalty --help` explains the options")


# Name -> what it does in words, and the functions that add its options and run it, or the module that has them as
# ``add_arguments`` and ``run``. Only the options of the command that is called are added: some take a while to import.
_COMMANDS: dict[str, tuple[str, Any, Any]] = {
    "train": ("run a recipe", _add_train, None),
    "tune-penalty": ("recommend a weight for the penalty of a recipe", _add_tune_penalty, None),
    "sample": ("draw images from a trained model", _add_sample, _sample),
    "convert": ("turn a foreign checkpoint into a folder for from_pretrained", _add_convert, _convert),
    "evaluate": ("measure a model or a set of images against reference images", _add_evaluate, _evaluate),
    "compare": ("show results side by side, ranked if they were measured in the same way", _add_compare, _compare),
    "bench": ("measure what each technique costs in time and memory", ".bench.options", None),
    "push": ("publish a finished model folder on the Hub", ".hub.publish", None),
    "leaderboard": ("rank models of the Hub, local runs and published figures", ".hub.leaderboard", None),
}


def _parser(called: str | None) -> argparse.ArgumentParser:
    parser = OptionParser(prog="licfg-hf", description="Train and sample Lipschitz-regularized GANs.")
    parser.add_argument("--version", action="version", version=f"licfg_hf {version('licfg_hf')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (words, add, run) in _COMMANDS.items():
        one = commands.add_parser(name, help=words, add_help=name not in ("train", "tune-penalty"))
        if name == called:
            if isinstance(add, str):
                home = import_module(add, __package__)
                add, run = home.add_arguments, home.run
            add(one)
            one.add_argument("--import", metavar="MODULE", dest="imports", action="append", help=IMPORT_HELP)
            one.set_defaults(run=run, options=one._option_string_actions)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``licfg-hf`` command.

    Failures that a user can mend end in one line on stderr and exit code 2; Ctrl-C and SIGTERM in one line and 130 or
    143, as shells report them.
    """
    given = sys.argv[1:] if arguments is None else arguments
    with one_line_errors():
        modules, others = imports_in(given)
        for module in modules:
            import_first(module)
        if others[:1] == ["train"] and len(others) > 1:  # its options are the recipe's, and it handles its own signals
            _train(others[1], [*(f"--import={module}" for module in modules), *others[2:]])
            return
        if others[:1] == ["tune-penalty"] and len(others) > 1:  # so are its options
            with SignalHandler((signal.SIGTERM,), terminate):
                _tune_penalty(others[1], [*(f"--import={module}" for module in modules), *others[2:]])
            return
        with SignalHandler((signal.SIGTERM,), terminate):
            called = next((word for word in others if word in _COMMANDS), None)
            known, rest = _parser(called).parse_known_args(others)
            require_no_more(rest, known.options)
            known.run(known)


def _train(name: str, rest: list[str]) -> None:
    from .recipes import NAMES
    from .recipes import main as run_recipe

    if name in ("-h", "--help"):
        print("usage: licfg-hf train NAME [options]\n\nrecipes: " + ", ".join(NAMES))
        print("`licfg-hf train NAME --help` lists the options of one")
        return
    run_recipe(name, rest)


def _tune_penalty(name: str, rest: list[str]) -> None:
    from .recipes import get_recipe
    from .recipes.tuning import main as tune
    from .recipes.tuning import tuning_parser

    if {"-h", "--help"} & {name, *rest}:
        tuning_parser().print_help()
        return
    tune(get_recipe(name), rest)


if __name__ == "__main__":
    main()
