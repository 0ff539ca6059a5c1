"""The images that each step sees: a function of (seed, step, rank) alone, so that a resumed run sees the same ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..errors import InputError
from ..machine import usable_cores
from ..seeds import seed_globally
from .image_sets import ImageSet, TensorImages

Batch = tuple[torch.Tensor, torch.Tensor | None]  # images and labels


@dataclass(frozen=True)
class StepImages:
    """One rank's images for one training step; images are uint8 (batch, channels, height, width), labels int64.

    Attributes:
        discriminator: per discriminator update (images, labels or None).
        generator: the same for the generator; None where its turn does not come in this step.
    """

    discriminator: list[Batch]
    generator: Batch | None

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "StepImages":
        def changed(batch: Batch) -> Batch:
            return change(batch[0]), None if batch[1] is None else change(batch[1])

        own = None if self.generator is None else changed(self.generator)
        return StepImages([changed(batch) for batch in self.discriminator], own)

    def pin_memory(self) -> "StepImages":
        """The same in page-locked memory; called by ``DataLoader``."""
        return self._map(torch.Tensor.pin_memory)

    def to(self, device: torch.device) -> "StepImages":
        """The same on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(eq=False)
class StepLoader:
    """Hands out the images of each step: fresh ones for every discriminator update, the last of them to the generator.

    The images form one endless stream of shuffled epochs, of which ``generator_interval`` steps together take
    max(generator_interval * discriminator_steps * batch_size, generator_batch_size), rounded up to equal steps, and
    each rank a share; no image repeats before the epoch is over. The generator has the last images of an interval, at
    its first step.

    Args:
        images: the data set.
        batch_size: images per discriminator update, over all ranks.
        generator_batch_size: images per generator update, over all ranks.
        discriminator_steps: discriminator updates per step.
        seed: decides the shuffling.
        rank: this process.
        world_size: number of processes; divides both batch sizes.
        device: where the images are wanted.
        generator_interval: steps from one batch of the generator to the next.

    Raises:
        InputError: the data set has fewer images than a batch.
    """

    images: ImageSet
    batch_size: int
    generator_batch_size: int
    discriminator_steps: int
    seed: int
    rank: int
    world_size: int
    device: torch.device
    generator_interval: int = 1
    _permutations: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        largest = max(self.batch_size, self.generator_batch_size)
        if len(self.images) < largest:
            raise InputError(f"the data set has {len(self.images)} images, fewer than a batch of {largest}")
        if isinstance(self.images, TensorImages) and self.images.in_memory:
            self.images = self.images.to(self.device)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
            latest = list(self._permutations.items())[-1:]  # a step spans two epochs at most
            self._permutations = dict([*latest, (epoch, order)])
        return self._permutations[epoch]

    def indices(self, step: int) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """This rank's image indices: one tensor per discriminator update, and the generator's where its turn comes."""
        count = max(
            self.discriminator_steps * self.batch_size, -(-self.generator_batch_size // self.generator_interval)
        )
        stream = self._stream(step * count, (step + 1) * count)
        updates = stream[: self.discriminator_steps * self.batch_size].view(self.discriminator_steps, -1)
        shares = [self._share(update) for update in updates]
        if step % self.generator_interval:
            return shares, None
        end = (step + self.generator_interval) * count
        return shares, self._share(self._stream(end - self.generator_batch_size, end))

    def _share(self, indices: torch.Tensor) -> torch.Tensor:
        return indices.view(self.world_size, -1)[self.rank]

    def _stream(self, first: int, last: int) -> torch.Tensor:
        """Image indices at positions ``first`` .. ``last - 1`` of the endless stream."""
        epochs, offsets = np.divmod(np.arange(first, last), len(self.images))
        stream = np.empty(last - first, dtype=np.int64)
        for epoch in np.unique(epochs):
            stream[epochs == epoch] = self._permutation(int(epoch))[offsets[epochs == epoch]]
        return torch.from_numpy(stream)

    def load(self, step: int) -> StepImages:
        """The images of one step, on the CPU or wherever the data set is held; each is decoded once."""
        shares, generator_share = self.indices(step)
        wanted = shares if generator_share is None else [*shares, generator_share]
        unique, inverse = torch.cat(wanted).unique(return_inverse=True)
        seed = int(np.random.SeedSequence((self.seed, step)).generate_state(1)[0])
        seed_globally(seed)  # image sets of users may draw without looking at the seed
        if isinstance(self.images, TensorImages) and self.images.in_memory:  # they lie on the device
            unique, inverse = self._to_device(torch.cat([unique, inverse])).split([len(unique), len(inverse)])
        pixels = self.images.fetch(unique, seed)
        labels = None if self.images.labels is None else self.images.labels[unique.to(self.images.labels.device)]
        parts = inverse.to(pixels.device).split([len(share) for share in wanted])
        batches = [(pixels[part], None if labels is None else labels[part]) for part in parts]
        return StepImages(batches[: len(shares)], batches[-1] if generator_share is not None else None)

    @property
    def _pins(self) -> bool:
        """True if copies to the device are from page-locked memory; MPS shares the host's memory."""
        return self.device.type not in ("cpu", "mps")

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device, by a copy from page-locked memory, for which the host does not wait."""
        pinned = tensor.pin_memory() if self._pins else tensor
        return pinned.to(self.device, non_blocking=True)

    def steps(self, first: int, last: int) -> Iterator[StepImages]:
        """The images of steps ``first`` .. ``last - 1``; decoded ahead by worker processes unless held in memory."""
        if self.images.in_memory:
            for step in range(first, last):
                yield self.load(step)
            return
        workers = DataLoader(
            range(first, last),  # type: ignore[arg-type]  # anything with a length and items will do
            batch_size=None,
            collate_fn=self.load,  # type: ignore[arg-type]  # of one item where batch_size is None
            num_workers=min(8, usable_cores()),
            pin_memory=self._pins,
        )
        try:
            for loaded in workers:
                yield loaded.to(self.device)
        except InputError as error:  # a worker's message is preceded by its traceback
            raise InputError(str(error).strip().splitlines()[-1].partition("InputError: ")[2] or error) from None
