"""The ``licfg-hf`` command."""

import argparse
import sys
from pathlib import Path

from .errors import InputError


def _train(arguments: argparse.Namespace, rest: list[str]) -> None:
    from .recipes import NAMES
    from .recipes import main as run_recipe

    if arguments.name in ("-h", "--help"):
        print("usage: licfg-hf train NAME [options]\n\nrecipes: " + ", ".join(NAMES))
        print("`licfg-hf train NAME --help` lists the options of one")
        return
    run_recipe(arguments.name, rest)


def _sample(arguments: argparse.Namespace, rest: list[str]) -> None:
    import torch

    from .pipelines import DDGANPipeline
    from .pipelines.base import image_grid, save_image
    from .training.warm_start import locate

    output = Path(arguments.output)
    if arguments.count < 1:
        raise InputError(f"--count is at least 1, not {arguments.count}")
    if output.is_dir():
        raise InputError(f"--output {output} is a folder: name a PNG file")
    folder = locate(arguments.model)
    try:
        pipeline = DDGANPipeline.from_pretrained(folder)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{arguments.model} cannot be loaded as a pipeline: {reason}") from error
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(arguments.seed)
    images = pipeline(batch_size=arguments.count, generator=generator, output_type="pt").images * 2 - 1
    try:
        save_image(image_grid(images, columns=max(1, round(arguments.count**0.5))), output)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error
    print(f"{arguments.count} samples in {output}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="licfg-hf", description="Train and sample Lipschitz-regularized GANs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="run a recipe", add_help=False)
    train.add_argument(
        "name", help="recipe, such as ddgan_eps_cifar; `licfg-hf train NAME --help` explains its options"
    )
    train.set_defaults(run=_train)
    sample = commands.add_parser("sample", help="draw images from a trained model")
    sample.add_argument("model", help="pipeline folder or repository on the Hub")
    sample.add_argument("--count", type=int, default=16, help="number of images (default: %(default)s)")
    sample.add_argument("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    sample.add_argument("--output", default="samples.png", help="PNG file for the grid (default: %(default)s)")
    sample.set_defaults(run=_sample)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``licfg-hf`` command; failures that a user can mend end in one line on stderr."""
    parser = _parser()
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["train"] and len(given) > 1:  # everything after the name belongs to the recipe
        known, rest = argparse.Namespace(run=_train, name=given[1]), given[2:]
    else:
        known, rest = parser.parse_known_args(given)
    if rest and known.run is not _train:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        known.run(known, rest)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
