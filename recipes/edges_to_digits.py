"""Edges to digits: image translation with a patch critic on two scales, on embedded data, in minutes on a CPU.

    accelerate launch recipes/edges_to_digits.py

A network of your own, a critic that returns maps and features, and a task of your own: all that a GAN outside of
unconditional generation needs. The critic sees an image beside its edges, on two scales (pix2pixHD), under the
ε-centred penalty; the generator also matches its features. The last 297 digits are held out: ``pairs.png`` in the
output folder shows their edges, what is made of them, and the digits themselves.
"""

import argparse
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from licfg_hf import Callback, EpsCenteredGradientPenalty, FeatureMatching, Trainer, TrainingConfig, get_loss
from licfg_hf.command_line import one_line_errors
from licfg_hf.data import DataConfig, open_images
from licfg_hf.evaluation.classifier import load_digits_classifier
from licfg_hf.images import from_pixels, image_grid, save_image
from licfg_hf.pipelines.saving import save_network
from licfg_hf.training import OptimizerConfig
from licfg_hf.training.tasks import MicroBatch

SIZE, HELD_OUT, SHOWN = 16, 297, 10


@lru_cache(maxsize=1)
def digits() -> tuple[Tensor, Tensor]:
    """The embedded digits, enlarged: uint8 (1797, 1, 16, 16), and their labels."""
    images = open_images(DataConfig(image_size=SIZE))
    return images.images, images.labels


def edges_of(images: Tensor) -> Tensor:
    """Images (batch, 1, height, width) in [-1, 1] -> -1, or 1 where the Sobel gradient is steep."""
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    slopes = F.conv2d(F.pad(images, (1, 1, 1, 1), "replicate"), torch.stack([across, across.T])[:, None])
    return torch.where(torch.linalg.vector_norm(slopes, dim=1, keepdim=True) > 0.25, 1.0, -1.0)


class Translator(nn.Module):
    """A small U-Net: edges (batch, 1, 16, 16) -> digits of this shape in [-1, 1]."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv2d(into, out, 4, 2, 1) for into, out in ((1, width), (width, 2 * width), (2 * width, 4 * width))
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(into, out, 4, 2, 1)
            for into, out in ((4 * width, 2 * width), (4 * width, width), (2 * width, width))
        )
        self.last = nn.Conv2d(width + 1, 1, 3, padding=1)

    def forward(self, edges: Tensor) -> Tensor:
        levels = [edges]
        for layer in self.down:
            levels.append(F.silu(layer(levels[-1])))
        hidden = levels.pop()
        for layer in self.up:
            hidden = torch.cat([F.silu(layer(hidden)), levels.pop()], dim=1)
        return self.last(hidden).tanh()


class PatchCritic(nn.Module):
    """Two patch critics, of the images and of these at half their size; each a map of logits with features beside."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.scales = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(2, width, 4, 2, 1), nn.Conv2d(width, 2 * width, 3, 1, 1)]) for _ in range(2)
        )
        self.logits = nn.ModuleList(nn.Conv2d(2 * width, 1, 3, 1, 1) for _ in range(2))

    def forward(self, images: Tensor, edges: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        hidden, heads = torch.cat([images, edges], dim=1), []
        for layers, logits in zip(self.scales, self.logits, strict=True):
            features = [hidden]
            for layer in layers:  # pyright: ignore[reportGeneralTypeIssues]
                features.append(F.leaky_relu(layer(features[-1]), 0.2))
            heads.append((logits(features[-1]), features[1:]))
            hidden = F.avg_pool2d(hidden, 2)
        return heads


@dataclass(frozen=True)
class EdgesToDigits:
    """A task of one's own: ``generator(edges)`` makes images, ``discriminator(images, edges=edges)`` judges them."""

    def draw(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> MicroBatch:
        return MicroBatch(images, {"edges": edges_of(images)})

    def generate(self, generator: nn.Module, micro_batch: MicroBatch) -> Tensor:
        return generator(micro_batch.conditioning["edges"])

    def sample(self, generator: nn.Module, count: int, shape: Any, rng: torch.Generator, flow=None, first=0) -> Tensor:
        """Digits made of held-out edges, in turn."""
        wanted = torch.arange(first, first + count) % HELD_OUT
        return generator(edges_of(from_pixels(digits()[0][-HELD_OUT:][wanted].to(rng.device))))

    def standing_batch(self, generator: nn.Module, count: int, shape: Any, rng: torch.Generator) -> None:
        self.sample(generator, count, shape, rng)

    def export(self, generator: nn.Module, folder: Path) -> None:
        save_network(generator, folder / "model")


class Pairs(Callback):
    """At the end: a picture of held-out digits, and how many of those made are recognized as what they are."""

    @torch.no_grad()
    def train_end(self, trainer: Trainer) -> None:
        if not trainer.accelerator.is_main_process:
            return
        images, labels = (tensor[-HELD_OUT:] for tensor in digits())
        true = from_pixels(images)
        made = trainer.final_generator.eval().to("cpu")(edges_of(true))
        rows = [edges_of(true)[:SHOWN], made[:SHOWN], true[:SHOWN]]
        save_image(image_grid(torch.cat(rows), SHOWN, smallest=48), trainer.folder / "pairs.png")
        classify = load_digits_classifier()
        right = [
            (classify(F.avg_pool2d(batch, 2)).logits.argmax(1) == labels).float().mean().item()
            for batch in (edges_of(true), made, true)
        ]
        difference = (made - true).abs().mean() / 2
        print(
            f"held-out digits that are recognized: from their edges {right[0]:.0%}, from what was made of these "
            f"{right[1]:.0%}, from the digits themselves {right[2]:.0%}; mean difference of pixels {difference:.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="output/edges-to-digits")
    parser.add_argument("--max_steps", type=int, default=1500)
    parser.add_argument("--penalty_weight", type=float, default=0.1)
    parser.add_argument(
        "--matching_weight", type=float, default=10.0, help="of the features; 0 takes the critic alone"
    )
    options = parser.parse_args()
    optimizer = OptimizerConfig("adam", 2e-4, {"betas": (0.5, 0.999)})
    config = TrainingConfig(
        output_dir=options.output_dir, max_steps=options.max_steps, batch_size=32, sample_count=30, log_every=100,
        ema_decay=0.99, generator_optimizer=optimizer, discriminator_optimizer=optimizer,
    )  # fmt: skip
    torch.manual_seed(config.seed)
    terms = [EpsCenteredGradientPenalty(options.penalty_weight), FeatureMatching(options.matching_weight)]
    images = digits()[0][:-HELD_OUT]
    trainer = Trainer(
        config, Translator(), PatchCritic(), images, EdgesToDigits(), get_loss("hinge"), terms, callbacks=[Pairs()]
    )
    trainer.train()


if __name__ == "__main__":
    with one_line_errors():
        main()
