"""What a discriminator with a frozen part is."""

from typing import Self

from torch import nn


class KeepsPartsFrozen(nn.Module):
    """Mixin: some parts stay in eval mode and without gradients, whatever the whole network is told.

    Training loops call ``discriminator.train()`` and ``discriminator.requires_grad_(True)``; neither may move the
    statistics or the weights of a feature network that is not to be trained. Gradients still reach the input.
    """

    @property
    def frozen_parts(self) -> list[nn.Module]:
        """The parts that stay as they are."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self.frozen_parts:
            part.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        super().requires_grad_(requires_grad)
        for part in self.frozen_parts:
            part.requires_grad_(False)
        return self
