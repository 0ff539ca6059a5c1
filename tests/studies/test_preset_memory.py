"""The memory that a preset needs is counted without its numbers."""

import pytest
import torch
from preset_memory import kept_bytes, main, needed
from torch import nn


def test_every_kept_tensor_counts_once_and_weights_do_not():
    network = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    points = torch.randn(5, 4, requires_grad=True)
    # The input, and the output of the ReLU, which the ReLU and the last layer share.
    assert kept_bytes(lambda: network(points), network) == 4 * (5 * 4 + 5 * 8)


def test_a_preset_needs_more_for_more_images_and_the_same_for_its_weights():
    few, many = (needed("ddgan_eps_cifar/quickstart", images) for images in (4, 8))
    assert few["fixed"] == many["fixed"] > 0
    for player in ("discriminator", "generator"):
        assert 1.5 < many[player] / few[player] < 2.5


def test_no_images_are_refused_in_one_line(capsys):
    with pytest.raises(SystemExit):
        main(["--images", "0"])
    assert capsys.readouterr().err == "error: --images is at least 1, not 0\n"
