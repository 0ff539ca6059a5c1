"""The reference's SNGAN discriminators with its key names: just enough to compare normalized outputs."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F


class CNN(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        layers, channels = [], 3
        for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
            kernel = 4 if stride == 2 else 3
            layers += [nn.Conv2d(channels, width, kernel, stride, padding=1), nn.LeakyReLU(0.1)]
            channels = width
        self.main = nn.Sequential(*layers)
        self.linear = nn.Linear(512 * (size // 8) ** 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.main(images).flatten(1))


class First(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, width, 1))
        convs = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        self.residual = nn.Sequential(*convs, nn.AvgPool2d(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.residual(images) + self.shortcut(images)


class Block(nn.Module):
    def __init__(self, channels: int, width: int, down: bool):
        super().__init__()
        pool = [nn.AvgPool2d(2)] if down else []
        has_conv = channels != width or down
        self.shortcut = nn.Sequential(*([nn.Conv2d(channels, width, 1)] if has_conv else []), *pool)
        convs = nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        self.residual = nn.Sequential(nn.ReLU(), *convs, *pool)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.residual(features) + self.shortcut(features)


class ResNet(nn.Module):
    def __init__(self, widths: tuple[int, ...], downs: int):
        super().__init__()
        blocks = [First(widths[0])]
        for index, (channels, width) in enumerate(itertools.pairwise(widths), start=1):
            blocks.append(Block(channels, width, down=index < downs))
        self.model = nn.Sequential(*blocks)
        self.linear = nn.Linear(widths[-1], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(F.relu(self.model(images)).mean(dim=(2, 3)))


NETWORKS = {
    "sngan_cnn32_D": lambda: CNN(32),
    "sngan_cnn48_D": lambda: CNN(48),
    "sngan_resnet32_D": lambda: ResNet((128, 128, 128, 128), downs=2),
    "sngan_resnet48_D": lambda: ResNet((64, 128, 256, 512), downs=4),
    "sngan_resnet128_D": lambda: ResNet((64, 128, 256, 512, 1024, 1024), downs=5),
}
