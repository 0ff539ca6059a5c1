"""Peaks of allocations that are known."""

import torch

from licfg_hf.bench.measure import peak_bytes, resident_bytes

CPU = torch.device("cpu")
MIB = 2**20


def block(mebibytes: int) -> torch.Tensor:
    return torch.empty(mebibytes * MIB, dtype=torch.uint8)


def test_the_peak_is_the_most_that_is_held_at_once():
    def step() -> None:
        first, second = block(4), block(3)
        del first
        third = block(2)
        del second, third

    assert peak_bytes(step, CPU) == 7 * MIB


def test_what_was_there_before_does_not_count():
    kept = [block(50)]

    def use() -> None:
        kept[0].fill_(1)
        block(4)

    assert peak_bytes(use, CPU) == 4 * MIB
    assert peak_bytes(lambda: None, CPU) == 0


def test_a_step_with_gradients_holds_what_every_layer_saved():
    layers = torch.nn.Sequential(*[torch.nn.Sigmoid() for _ in range(6)])
    images = torch.randn(MIB // 4, requires_grad=True)  # 1 MiB

    @torch.no_grad()
    def without() -> None:
        layers(images)

    assert peak_bytes(without, CPU) == 2 * MIB
    assert peak_bytes(lambda: layers(images), CPU) == 6 * MIB


def test_the_profiler_says_nothing(capfd):
    peak_bytes(lambda: block(1), CPU)
    assert capfd.readouterr() == ("", "")


def test_a_storage_that_two_tensors_share_counts_once():
    whole = torch.zeros(100)
    assert resident_bytes([whole, whole[:50], torch.zeros(10)]) == 440
