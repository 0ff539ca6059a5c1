import pickle

import pytest
import torch

from licfg_hf.data import StepLoader
from licfg_hf.data import loader as loader_module
from licfg_hf.data.image_sets import TensorImages
from licfg_hf.data.stored import StoredImages
from licfg_hf.errors import InputError


def images(count: int = 20) -> TensorImages:
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 1, 2, 2).contiguous()
    return TensorImages(pixels, labels=torch.arange(count))


def loader(rank: int = 0, world_size: int = 1, source=None, **options) -> StepLoader:
    settings = {"batch_size": 4, "generator_batch_size": 4, "discriminator_steps": 2, "seed": 0} | options
    return StepLoader(source or images(), rank=rank, world_size=world_size, device=torch.device("cpu"), **settings)


def seen(step) -> list[int]:
    return [int(label) for _, labels in step.discriminator for label in labels]


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    order = [label for step in loader().steps(0, 5) for label in seen(step)]  # 5 steps x 2 updates x 4 = 2 epochs
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))
    assert order[:20] != order[20:]


def test_steps_depend_on_the_seed_and_the_step_alone():
    later = [seen(step) for step in loader().steps(3, 5)]
    assert later == [seen(step) for step in loader().steps(0, 5)][3:]
    assert later != [seen(step) for step in loader(seed=1).steps(3, 5)]


def test_ranks_share_a_step_without_overlap():
    whole = seen(loader().load(7))
    parts = [loader(rank=rank, world_size=2).load(7) for rank in range(2)]
    assert sorted(whole) == sorted(seen(parts[0]) + seen(parts[1]))
    assert all(len(pixels) == 2 for part in parts for pixels, _ in part.discriminator)


def test_generator_sees_the_last_images_of_the_step():
    step = loader().load(0)
    assert torch.equal(step.generator[0], step.discriminator[-1][0])
    large = loader(generator_batch_size=12).load(0)
    assert len(large.generator[0]) == 12 and len(large.discriminator) == 2


def test_labels_stay_with_their_images():
    for pixels, labels in loader().load(2).discriminator:
        assert torch.equal(pixels[:, 0, 0, 0].long(), labels)


def test_worker_processes_give_the_same_steps():
    class Slow(TensorImages):
        in_memory = False

    direct = [seen(step) for step in loader().steps(0, 4)]
    source = Slow(images().images, images().labels)
    assert [seen(step) for step in loader(source=source).steps(0, 4)] == direct


def test_a_workers_failure_is_one_line():
    class Broken(TensorImages):
        in_memory = False

        def fetch(self, indices, seed):
            raise InputError("image 7 is broken")

    source = Broken(images().images)
    with pytest.raises(InputError, match=r"^image 7 is broken$"):
        list(loader(source=source).steps(0, 2))


def test_loader_can_be_sent_to_another_process():
    original = loader()
    original.load(0)
    assert seen(pickle.loads(pickle.dumps(original)).load(3)) == seen(original.load(3))


def test_too_few_images_are_refused():
    with pytest.raises(InputError, match="20 images, fewer than a batch of 32"):
        loader(batch_size=32)


def test_tensors_of_another_kind_are_refused():
    for pixels in (torch.zeros(3, 1, 2, 2), torch.zeros(3, 2, 2, dtype=torch.uint8)):
        with pytest.raises(InputError, match="uint8"):
            TensorImages(pixels)
    assert not StoredImages.in_memory


@pytest.mark.parametrize(("device", "pins"), [("cuda", True), ("xpu", True), ("mps", False), ("cpu", False)])
def test_workers_hand_over_page_locked_memory_wherever_that_helps(device, pins, monkeypatch):
    class Stored(TensorImages):
        in_memory = False

    asked = []
    monkeypatch.setattr(loader_module, "DataLoader", lambda *_, **options: asked.append(options["pin_memory"]) or [])
    steps = loader(source=Stored(images().images))
    steps.device = torch.device(device)
    assert list(steps.steps(0, 1)) == [] and asked == [pins]
