"""Sampling through a compiled generator."""

import pytest
import torch
from gans import GENERATORS

from licfg_hf import GANPipeline


@pytest.mark.slow
def test_a_compiled_generator_draws_the_same_pictures():
    torch.manual_seed(0)
    pipeline = GANPipeline(GENERATORS["sngan_conditional"]().eval())

    def pictures() -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        return pipeline(batch_size=4, class_labels=[0, 1, 2, 3], generator=rng, output_type="pt").images

    expected = pictures()
    pipeline.model.compile()
    assert torch.allclose(pictures(), expected, atol=1e-5)
