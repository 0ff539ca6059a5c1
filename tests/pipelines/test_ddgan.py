import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from goldens import TOLERANCE, ddgan_networks, load, needs_goldens, weights
from tiny import tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler
from licfg_hf.images import image_grid


def pipeline() -> DDGANPipeline:
    result = DDGANPipeline(tiny_generator().eval(), DDGANScheduler())
    result.set_progress_bar_config(disable=True)
    return result


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_output_types_show_the_same_pictures():
    pictures = pipeline()(batch_size=3, generator=seeded()).images
    arrays = pipeline()(batch_size=3, generator=seeded(), output_type="np").images
    tensors = pipeline()(batch_size=3, generator=seeded(), output_type="pt", return_dict=False)[0]
    assert [picture.size for picture in pictures] == [(8, 8)] * 3
    assert arrays.shape == (3, 8, 8, 1) and tensors.shape == (3, 1, 8, 8)
    assert arrays.min() >= 0 and arrays.max() <= 1
    np.testing.assert_allclose(arrays, tensors.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(np.stack(pictures) / 255, arrays[..., 0], atol=1 / 255)


def test_generator_decides_the_pictures_and_chunks_do_not():
    images = [
        pipeline()(batch_size=5, generator=seeded(seed), output_type="pt", chunk_size=chunk).images
        for seed, chunk in ((0, 256), (0, 2), (1, 256))
    ]
    torch.testing.assert_close(images[0], images[1])
    assert not torch.allclose(images[0], images[2], atol=1e-3)


def test_one_generator_per_image():
    both = pipeline()(batch_size=2, generator=[seeded(3), seeded(4)], output_type="pt").images
    alone = pipeline()(batch_size=1, generator=[seeded(4)], output_type="pt").images
    torch.testing.assert_close(both[1:], alone)


def test_saved_pipeline_draws_the_same_in_a_new_process(tmp_path):
    pipeline().save_pretrained(tmp_path)
    here = DDGANPipeline.from_pretrained(tmp_path)(batch_size=4, generator=seeded()).images
    code = (
        "import sys, torch; from licfg_hf import DDGANPipeline;"
        f"images = DDGANPipeline.from_pretrained({str(tmp_path)!r})(batch_size=4, "
        "generator=torch.Generator().manual_seed(0)).images;"
        "sys.stdout.buffer.write(b''.join(image.tobytes() for image in images))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert there == b"".join(image.tobytes() for image in here)


def test_draws_from_a_network_without_a_latent():
    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, add_attention=False,
    )  # fmt: skip
    assert len(DDGANPipeline(network, DDGANScheduler())(batch_size=2).images) == 2


@pytest.mark.parametrize(
    "arguments", [{"batch_size": 0}, {"output_type": "jpeg"}, {"chunk_size": 0}, {"generator": []}]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError):
        pipeline()(**arguments)


def test_grid_enlarges_small_images_without_smoothing():
    images = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    grid = np.asarray(image_grid(images, columns=2))
    assert grid.shape == (32, 65)
    assert set(np.unique(grid[:, :32])) == {0} and set(np.unique(grid[:, 33:])) == {255}


@needs_goldens
def test_four_step_sampling_golden():
    description, _ = load("ddgan_small32_G")
    _, tensors = load("ddgan_small32_sampling")
    network, scheduler = (
        ddgan_networks(weights(description["keys"]), description["config"]).generator,
        DDGANScheduler(),
    )
    sample = tensors["in.x_T"]
    with torch.no_grad():
        for t in scheduler.timesteps.tolist():
            x0 = network(sample, t, tensors[f"in.z{t}"]).sample
            torch.testing.assert_close(x0, tensors[f"out.x0_{t}"], **TOLERANCE)
            sample = scheduler.step(x0, t, sample, variance_noise=tensors[f"in.noise{t}"]).prev_sample
    torch.testing.assert_close(sample, tensors["out.sample"], **TOLERANCE)
