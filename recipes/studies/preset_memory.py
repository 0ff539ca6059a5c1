"""What a training with a published preset needs in memory: an estimate that counts bytes, and computes nothing.

python recipes/studies/preset_memory.py                                    # the table in recipes/README.md
python recipes/studies/preset_memory.py ddgan_eps_lsun/church --images 8   # another number of images at once

Networks and images have no numbers here (PyTorch's meta device). Counted are weights, gradients, the optimizers' two
moments and the average, and what autograd keeps of one update in float32, penalties included, each tensor once. Not
counted are temporary tensors, workspaces of libraries, and what an allocator leaves unused: they come on top.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from torch._subclasses import FakeTensorMode

from licfg_hf import InputError
from licfg_hf.command_line import OptionParser, one_line_errors
from licfg_hf.data import DataConfig
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.objective.critic import frozen
from licfg_hf.recipes import get_recipe
from licfg_hf.training import AdversarialStep
from licfg_hf.training.step import discriminator_terms, generator_terms
from licfg_hf.training.tasks import MicroBatch

PRESETS = {  # and the images of a GPU at once: those of the published set-up, where it says so
    "ddgan_eps_cifar/cifar10": 64,
    "ddgan_eps_lsun/church": 8,
    "ddgan_eps_celebahq/celebahq": 4,
    "biggan_eps_cifar/cifar10": 50,
    "biggan_eps_imagenet/imagenet": 32,
    "sngan_pgn_cifar/resnet-pgn-cr": 64,
    "sngan_pgn_cifar/cnn-pgn-cr": 64,
    "sngan_pgn_stl10/resnet-pgn-cr": 64,
    "sngan_pgn_celebahq/128-pgn-cr": 64,
    "sngan_pgn_celebahq/256-pgn-cr": 64,
    "licfg_lsun/church": 64,
}


def kept_bytes(update: Callable[[], Any], *networks: nn.Module) -> int:
    """Bytes of all tensors that autograd keeps of an update; weights of the networks are not among them."""
    stored = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        stored[storage._cdata] = storage
        return tensor

    own = {value.untyped_storage()._cdata for network in networks for value in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        update()
    return sum(storage.nbytes() for address, storage in stored.items() if address not in own)


def needed(name: str, images: int) -> dict[str, float]:
    """GB of a training, by what they hold; ``images`` are those of a discriminator's micro-batch."""
    recipe_name, _, preset = name.partition("/")
    recipe = get_recipe(recipe_name)
    _, options = recipe.parse([f"--preset={preset}"])
    data = DataConfig(options.data, image_size=options.image_size).resolved()
    size, channels = data.image_size or 8, options.image_channels or 3  # the embedded digits have 8 pixels
    classes = 1000 if options.data == "imagenet" else 10  # which a recipe without labels ignores
    pixels = torch.zeros(1, channels, size, size, dtype=torch.uint8)
    known = TensorImages(pixels, torch.zeros(1, dtype=torch.int64), "nothing", tuple(map(str, range(classes))))
    with init_empty_weights():
        parts = recipe.parts(options, known)
    with FakeTensorMode(allow_non_fake_inputs=True):
        players = [network.to_empty(device="cpu").train() for network in (parts.generator, parts.discriminator)]

        def drawn(count: int) -> MicroBatch:
            labels = torch.zeros(count, dtype=torch.int64)
            return parts.task.draw(torch.zeros(count, channels, size, size), labels, torch.Generator())

        def judge() -> Any:
            return discriminator_terms(*players, parts.task, parts.loss, parts.penalties, drawn(images))

        def learn() -> Any:
            if not isinstance(parts.generator_step, AdversarialStep):  # a regression on images that were made before
                return parts.task.generate(parts.generator, drawn(images)).square()
            count = images * parts.training.effective_generator_batch_size // parts.training.batch_size
            return generator_terms(*players, parts.task, parts.loss, drawn(count), parts.penalties)

        kept = {"discriminator": kept_bytes(judge, *players)}
        with frozen(parts.discriminator):
            kept["generator"] = kept_bytes(learn, *players)
    counts = [sum(value.numel() for value in player.parameters() if value.requires_grad) for player in players]
    averaged = counts[0] if parts.training.ema_decay is not None else 0
    return {name: size / 1e9 for name, size in {"fixed": 4 * (4 * sum(counts) + averaged), **kept}.items()}


def main(arguments: list[str] | None = None) -> None:
    """Command line of the estimate."""
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", help="RECIPE/PRESET (default: those of the table)")
    parser.add_argument("--images", type=int, help="images of a process at once (default: as published)")
    with one_line_errors():
        options = parser.parse_args(arguments)
        if options.images is not None and options.images < 1:
            raise InputError(f"--images is at least 1, not {options.images}")
        heads = "preset | images at once | weights, gradients, Adam, average | update of D | update of G | sum"
        print(f"| {heads} |\n|{' --- |' * 6}")
        for name in options.presets or PRESETS:
            images = options.images or PRESETS.get(name, 16)
            found = needed(name, images)
            total = found["fixed"] + max(found["discriminator"], found["generator"])
            cells = [f"{value:.1f} GB" for value in (*found.values(), total)]
            print(f"| `{name}` | {images} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
