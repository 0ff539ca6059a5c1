import math

import numpy as np
import pytest
import torch
from gans import GENERATORS

from licfg_hf import GANPipeline
from licfg_hf.pipelines import load_pipeline
from licfg_hf.pipelines.gan import spherical, truncated


def pipeline(name: str = "biggan") -> GANPipeline:
    torch.manual_seed(0)
    generator = GENERATORS[name]().eval()
    with torch.no_grad():  # so that classes do not look alike
        for parameter in generator.parameters():
            parameter.mul_(3)
    result = GANPipeline(generator)
    result.set_progress_bar_config(disable=True)
    return result


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(pipe: GANPipeline, **options) -> torch.Tensor:
    return pipe(generator=seeded(), output_type="pt", **options).images


def test_from_pretrained_draws_the_same_pictures(tmp_path):
    pipe = pipeline()
    pipe.save_pretrained(tmp_path)
    for loaded in (GANPipeline.from_pretrained(tmp_path), load_pipeline(tmp_path)):
        assert torch.equal(drawn(loaded, class_labels=[1, 2]), drawn(pipe, class_labels=[1, 2]))


def test_pictures_depend_on_the_seed_but_not_on_the_chunks():
    pipe = pipeline()
    options = {"class_labels": [1, 2], "batch_size": 5}
    torch.testing.assert_close(drawn(pipe, chunk_size=2, **options), drawn(pipe, **options))
    other = pipe(generator=seeded(1), output_type="pt", **options).images
    assert not torch.allclose(other, drawn(pipe, **options))


def test_labels_are_repeated_and_an_image_has_the_class_that_was_asked_for():
    pipe = pipeline()
    latents = torch.randn(4, pipe.model.latent_dim, generator=seeded())
    images = pipe(class_labels=[3, 7], latents=latents, output_type="pt").images
    expected = pipe.model(latents, torch.tensor([3, 7, 3, 7])).sample
    torch.testing.assert_close(images, (expected + 1) / 2)
    assert len(pipe(class_labels=5, batch_size=3).images) == 3
    assert len(pipe(class_labels=[5, 6]).images) == 2


def test_one_generator_per_image_makes_an_image_independent_of_its_neighbours():
    pipe = pipeline()
    together = pipe(batch_size=3, generator=[seeded(i) for i in range(3)], output_type="pt").images
    alone = pipe(batch_size=1, generator=[seeded(1)], output_type="pt").images
    torch.testing.assert_close(together[1:2], alone)


def test_random_classes_are_spread_evenly():
    labels = pipeline()._labels_for(5000, None, seeded())
    counts = torch.bincount(labels, minlength=10)
    assert counts.min() > 400 and counts.max() < 600


@pytest.mark.parametrize("name", ["sngan_resnet", "biggan_deep_table", "dcgan_conditional"])
def test_every_kind_of_generator(name):
    pipe = pipeline(name)
    array = pipe(batch_size=2, truncation=0.5, output_type="np").images
    assert isinstance(array, np.ndarray) and array.shape == (2, 8, 8, 1) and 0 <= array.min() <= array.max() <= 1
    assert pipe(batch_size=2, return_dict=False)[0][0].size == (8, 8)


def test_truncation_cuts_and_scales():
    noise = torch.randn(20000, generator=seeded())
    for truncation in (0.3, 1.0):
        cut = truncated(noise, truncation)
        assert cut.abs().max() <= 2 * truncation
        # The deviation of a normal distribution cut at two deviations is 0.8796.
        assert cut.std().item() == pytest.approx(0.8796 * truncation, rel=0.02)
    assert torch.equal(truncated(noise, 1.0).sort().indices, noise.sort().indices)


def test_a_table_generator_gets_the_truncation_it_was_drawn_with():
    pipe = pipeline("biggan_deep_table")
    with torch.no_grad():
        pipe.model.norm_out.norm.running_vars.copy_(torch.linspace(0.5, 20, 51)[:, None].expand(-1, 16))
    latents = torch.zeros(1, pipe.model.latent_dim)
    images = [pipe(class_labels=1, latents=latents, truncation=t, output_type="pt").images for t in (0.1, 0.9)]
    assert not torch.allclose(*images)


def test_an_arc_keeps_the_length_and_its_ends():
    first, last = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    path = spherical(first, last, 5)
    torch.testing.assert_close(path[[0, -1]], torch.stack([first, last]))
    torch.testing.assert_close(torch.linalg.vector_norm(path, dim=1), torch.full((5,), 2.0))
    torch.testing.assert_close(path[2], torch.full((2,), math.sqrt(2)))
    torch.testing.assert_close(spherical(first, first, 3), first.expand(3, 2))


def test_interpolations_and_class_sweeps_are_pictures():
    pipe = pipeline()
    assert pipe.interpolate(rows=2, steps=3).size == (3 * 33 - 1, 2 * 33 - 1)  # 8 px are drawn as 32
    sweep = pipe.class_sweep(class_labels=[1, 4, 7], columns=2, generator=seeded())
    assert sweep.size == (2 * 33 - 1, 3 * 33 - 1)
    pixels = np.asarray(sweep)
    assert not np.array_equal(pixels[:32], pixels[33:65])  # classes differ
    assert pipeline("sngan_resnet").interpolate(rows=1, steps=2).size == (65, 32)
    path = np.asarray(pipe.interpolate(rows=1, steps=4, class_labels=[0, 9], generator=seeded()))
    assert not np.array_equal(path[:, :32], path[:, -32:])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("biggan", {"class_labels": [10]}, "0 .. 9"),
        ("biggan", {"class_labels": [-1]}, "0 .. 9"),
        ("biggan", {"class_labels": [1.5]}, "whole numbers"),
        ("biggan", {"class_labels": []}, "whole numbers"),
        ("biggan", {"class_labels": [1, 2, 3], "batch_size": 2}, "do not fit"),
        ("sngan_resnet", {"class_labels": [1]}, "unconditional"),
        ("biggan", {"class_labels": {1}}, "whole numbers"),
        ("biggan", {"class_labels": [1j]}, "whole numbers"),
        ("biggan", {"truncation": 0.0}, "truncation is in"),
        ("biggan", {"truncation": 7, "latents": torch.zeros(1, 6)}, "truncation is in"),
        ("biggan_deep_table", {"truncation": 0.0, "latents": torch.zeros(1, 6)}, "truncation is in"),
        ("biggan", {"batch_size": 0}, "at least 1"),
        ("biggan", {"output_type": "jpeg"}, "pil, np or pt"),
        ("biggan", {"latents": torch.zeros(2, 3)}, "latents are"),
        ("biggan", {"latents": [[0.0] * 6]}, "latents are a tensor"),
        ("biggan", {"latents": torch.tensor(0.0)}, "latents are a tensor"),
        ("biggan", {"batch_size": 2, "generator": [torch.Generator()]}, "1 generators"),
    ],
)
def test_wrong_requests_are_named(name, options, words):
    with pytest.raises(ValueError, match=words):
        pipeline(name)(**options)


@pytest.mark.parametrize("name", ["interpolate", "class_sweep"])
def test_a_picture_of_many_takes_one_generator(name):
    with pytest.raises(ValueError, match="one generator"):
        getattr(pipeline(), name)(generator=[seeded(), seeded()])


def test_a_network_in_training_is_drawn_in_eval_mode_and_stays_as_it_was():
    pipe = pipeline()
    expected = drawn(pipe, class_labels=[1, 2])
    pipe.model.train()
    pipe.model.conv_out.eval()  # a part may be in another mode
    before = {name: value.clone() for name, value in pipe.model.state_dict().items()}
    assert torch.equal(drawn(pipe, class_labels=[1, 2]), expected)
    pipe.interpolate(rows=1, steps=2)
    assert pipe.model.training and pipe.model.blocks.training and not pipe.model.conv_out.training
    assert all(torch.equal(value, before[name]) for name, value in pipe.model.state_dict().items())
