"""Functional-gradient steps from a folder: whole ones come back, damaged ones are named in a line."""

import json
import shutil

import pytest
import torch
from gans import DISCRIMINATORS, GENERATORS

from licfg_hf import GANPipeline, load_flow
from licfg_hf.cli import main as command
from licfg_hf.objective.functional_gradient import FunctionalGradientFlow
from licfg_hf.pipelines.flow import save_flow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    GANPipeline(GENERATORS["sngan_resnet"]().eval()).save_pretrained(folder)
    critic = DISCRIMINATORS["sngan_resnet"]()
    save_flow(folder / "flow", FunctionalGradientFlow([], noise=0.25), critic, [critic.state_dict()] * 2)
    return folder


def test_a_flow_comes_back(model):
    flow = load_flow(model)
    assert (len(flow.discriminators), flow.step_size, flow.scaling, flow.noise) == (2, 0.5, "kl", 0.25)


GOOD = {"step_size": 0.5, "scaling": "kl", "noise": 0, "steps": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "flow.json is damaged: "),
        ("[]", "it needs step_size, scaling, noise, steps and nothing else"),
        ('{"evil": 1}', "and nothing else"),
        (GOOD | {"discriminators": []}, "and nothing else"),
        (GOOD | {"steps": "x"}, "steps cannot be 'x'"),
        (GOOD | {"steps": True}, "steps cannot be True"),
        (GOOD | {"noise": None}, "noise cannot be None"),
        (GOOD | {"scaling": ["kl"]}, "scaling cannot be"),
        (GOOD | {"scaling": "up"}, "scaling is one of"),
        (GOOD | {"step_size": -1}, "step_size is finite"),
        (GOOD | {"step_size": float("nan")}, "step_size is finite"),
        (GOOD | {"steps": 3}, "discriminator-02 cannot be loaded as a discriminator"),
    ],
)
def test_a_damaged_flow_is_named_in_a_line(model, tmp_path, capsys, content, words):
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "flow" / "flow.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=words) as caught:
        load_flow(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit) as stop:
        command(["sample", str(folder), "--flow", "--output", str(tmp_path / "grid.png")])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stop.value.code == 2 and len(said) == 1 and words in said[0]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{}", "_class_name"),
        ('{"_class_name": "Discriminator"}', "its class 'Discriminator' is not known here"),
        ('{"_class_name": "SNGANGenerator"}', "its class 'SNGANGenerator' is not a discriminator"),
        ('{"_class_name": ["SNGANDiscriminator"]}', "cannot be loaded as a discriminator"),
        ('{"_class_name": "SNGANDiscriminator", "base_channels": "x"}', "cannot be loaded as a discriminator"),
        ("{", "cannot be loaded as a discriminator"),
    ],
)
def test_a_damaged_discriminator_of_a_flow_is_named_in_a_line(model, tmp_path, config, words):
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "flow" / "discriminator-01" / "config.json").write_text(config)
    with pytest.raises(ValueError, match=words) as caught:
        load_flow(folder)
    assert "\n" not in str(caught.value)
