import pytest
import torch
from goldens import ddgan_networks, load, needs_goldens, weights

from licfg_hf import DDGANGenerator


@needs_goldens
def test_prefixed_keys_are_the_same_and_unknown_ones_are_named():
    description, _ = load("ddgan_small32_G")
    options, state = description["config"], weights(description["keys"])
    plain = ddgan_networks(state, options).generator
    prefixed = ddgan_networks({f"module.{key}": value for key, value in state.items()}, options).generator.state_dict()
    built = DDGANGenerator.from_config(plain.config)
    assert plain.state_dict().keys() == prefixed.keys() == built.state_dict().keys()
    with pytest.raises(ValueError, match=r"all_modules\.99\.weight"):
        ddgan_networks({**state, "all_modules.99.weight": torch.zeros(1)}, options)


@needs_goldens
def test_unpublished_options_are_refused():
    description, _ = load("ddgan_small32_G")
    with pytest.raises(ValueError, match="progressive_input"):
        ddgan_networks(weights(description["keys"]), {**description["config"], "progressive_input": "none"})


def test_foreign_weights_are_no_discriminator():
    with pytest.raises(ValueError, match=r"start_conv\.weight"):
        ddgan_networks({"t_embed.main.0.weight": torch.zeros(1)})
