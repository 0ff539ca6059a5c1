import pytest
import torch
from goldens import load, needs_goldens, weights

from licfg_hf import DDGANGenerator
from licfg_hf.convert.ddgan import convert_generator, discriminator_config, generator_config


@needs_goldens
def test_prefixed_keys_are_the_same_and_unknown_ones_are_named():
    description, _ = load("ddgan_small32_G")
    config, state = generator_config(description["config"]), weights(description["keys"])
    plain = convert_generator(state, config)
    prefixed = convert_generator({f"module.{key}": value for key, value in state.items()}, config)
    assert plain.keys() == prefixed.keys() == DDGANGenerator(**config).state_dict().keys()
    with pytest.raises(ValueError, match=r"all_modules\.99\.weight"):
        convert_generator({**state, "all_modules.99.weight": torch.zeros(1)}, config)


@needs_goldens
def test_unpublished_options_are_refused():
    description, _ = load("ddgan_small32_G")
    with pytest.raises(ValueError, match="progressive_input"):
        generator_config({**description["config"], "progressive_input": "none"})


def test_foreign_weights_are_no_discriminator():
    with pytest.raises(ValueError, match=r"start_conv\.weight"):
        discriminator_config({"conv1.weight": torch.zeros(1)})
