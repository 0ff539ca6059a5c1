"""Networks under ``torch.compile``, traced as a whole; the backend that runs the trace as it is makes that quick."""

import pytest
import torch

import licfg_hf

NETWORKS = {
    "SNGAN": {"sample_size": 32, "num_classes": None},
    "BigGAN": {"sample_size": 32, "num_classes": 3},
    "BigGANDeep": {"sample_size": 64, "num_classes": 3},
    "DCGAN": {"sample_size": 32, "num_classes": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", NETWORKS)
def test_both_players_are_one_graph(family, request):
    if request.config.getoption("another_processor"):
        pytest.skip("the stand-in for another processor looks at every operator, which cannot be compiled")
    settings = {**NETWORKS[family], "base_channels": 8}
    generator = getattr(licfg_hf, f"{family}Generator")(**settings).eval()
    discriminator = getattr(licfg_hf, f"{family}Discriminator")(**settings).eval()
    latents = torch.randn(2, generator.latent_dim)
    labels = () if settings["num_classes"] is None else (torch.tensor([0, 2]),)
    compiled = [torch.compile(network, fullgraph=True, backend="eager") for network in (generator, discriminator)]
    with torch.no_grad():
        images = compiled[0](latents, *labels).sample
        logits = compiled[1](images, *labels).logits
        torch.testing.assert_close(images, generator(latents, *labels).sample)
        torch.testing.assert_close(logits, discriminator(images, *labels).logits)
