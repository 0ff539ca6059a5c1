"""Networks that are known by name: those of this library, and a stranger's from a file of its own."""

import json
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

import licfg_hf
from licfg_hf import FunctionalGradientFlow, GANPipeline, GradientNormalized, load, load_flow, register_model
from licfg_hf.cli import main as command
from licfg_hf.models import Discriminator, Generator
from licfg_hf.models.base import REGISTERED
from licfg_hf.pipelines.flow import save_flow

OWN = {name: kind for name, kind in REGISTERED.items() if kind.__module__.startswith("licfg_hf.")}
FILE = """
import torch
from diffusers.configuration_utils import register_to_config
from torch import nn

from licfg_hf import Discriminator, Generator, LinearHead, register_model


@register_model
class StrangerGenerator(Generator):
    @register_to_config
    def __init__(self, latent_dim: int = 4, num_classes: int | None = None):
        super().__init__()
        self.linear = nn.Linear(latent_dim, 64)

    def synthesize(self, latents, class_labels):
        return self.linear(latents).view(-1, 1, 8, 8)


@register_model
class StrangerDiscriminator(Discriminator):
    @register_to_config
    def __init__(self, normalizers: tuple = ()):
        super().__init__()
        self.features = nn.Flatten()
        self.head = LinearHead(64)
        self.add_normalizers(normalizers)
"""


@pytest.mark.parametrize("name", OWN)
def test_every_registered_network_is_public_by_its_name(name):
    kind = OWN[name]
    assert getattr(licfg_hf, name) is getattr(licfg_hf.models, name) is kind
    assert name in licfg_hf.models.__all__ and issubclass(kind, ModelMixin)
    assert kind.__doc__ and "Args:" in kind.__doc__


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("ProjectedDiscriminator",)])
def test_every_registered_network_is_rebuilt_from_its_config(name):
    with torch.device("meta"):
        network = OWN[name]()
        again = OWN[name].from_config(network.config)
    assert again.state_dict().keys() == network.state_dict().keys()
    assert "return_dict" in signature(network.forward).parameters


def test_bases_are_no_networks():
    assert not {"Generator", "Discriminator", "Network"} & REGISTERED.keys()


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """The folder with a module of two networks, ``stranger_networks``, that was not imported yet."""
    (tmp_path / "stranger_networks.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("stranger_networks", None)
    for name in ("StrangerGenerator", "StrangerDiscriminator"):
        REGISTERED.pop(name, None)


def saved(folder: Path) -> GANPipeline:
    """A pipeline of the stranger's generator with a flow of its discriminator, in a folder."""
    import stranger_networks

    torch.manual_seed(0)
    pipeline = GANPipeline(stranger_networks.StrangerGenerator().eval())
    pipeline.save_pretrained(folder)
    critic = stranger_networks.StrangerDiscriminator()
    save_flow(folder / "flow", FunctionalGradientFlow([]), critic, [critic.state_dict()] * 2)
    return pipeline


def drawn(pipeline, **options) -> torch.Tensor:
    return pipeline(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt", **options).images


def test_a_network_of_another_module_comes_back(stranger):
    pipeline = saved(stranger / "run")
    loaded = load(stranger / "run")
    assert torch.equal(drawn(loaded), drawn(pipeline))
    assert torch.equal(drawn(GANPipeline.from_pretrained(stranger / "run")), drawn(pipeline))
    flow = load_flow(stranger / "run")
    assert [type(one).__name__ for one in flow.discriminators] == ["StrangerDiscriminator"] * 2
    assert not torch.equal(drawn(loaded, flow=flow), drawn(loaded))


def test_a_network_that_was_trained_in_a_script_comes_back_from_its_module(stranger):
    saved(stranger / "run")
    index = json.loads((stranger / "run" / "model_index.json").read_text())
    index["model"][0] = "__main__"  # as the script that was run calls its classes
    (stranger / "run" / "model_index.json").write_text(json.dumps(index))
    assert type(load(stranger / "run").model).__name__ == "StrangerGenerator"


def in_a_new_process(stranger: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "licfg_hf", *arguments], cwd=stranger, capture_output=True, text=True, check=False
    )


def test_commands_know_a_network_whose_module_is_imported_and_say_it_where_it_is_not(stranger):
    saved(stranger / "run")
    sample = ("sample", "run", "--output", "grid.png")
    refused = in_a_new_process(stranger, *sample)
    assert refused.returncode == 2 and not (stranger / "grid.png").exists()
    (line,) = refused.stderr.splitlines()
    assert "a StrangerGenerator of stranger_networks, which is not known here" in line
    assert line.endswith("--import stranger_networks)")
    done = in_a_new_process(stranger, *sample, "--flow", "--import", "stranger_networks")
    assert done.returncode == 0 and (stranger / "grid.png").is_file(), done.stderr


def test_a_stranger_is_pushed_and_evaluated(stranger, capsys):
    saved(stranger / "run")
    command(["push", "run", "--repo_id", "someone/stranger", "--dry_run", "--import", "stranger_networks"])
    said = capsys.readouterr().out
    assert "model/config.json" in said and "flow/discriminator-01/config.json" in said
    with pytest.raises(SystemExit) as stop:
        command(["evaluate", "run", "--import", "no_such_module"])
    assert stop.value.code == 2 and "--import no_such_module: ModuleNotFoundError" in capsys.readouterr().err


def test_two_networks_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"SNGANGenerator is registered already, in licfg_hf\.models\.sngan"):

        @register_model
        class SNGANGenerator(Generator):
            pass

    assert REGISTERED["SNGANGenerator"] is licfg_hf.SNGANGenerator


def test_a_repository_names_registered_classes_only(stranger):
    saved(stranger / "run")
    index = json.loads((stranger / "run" / "model_index.json").read_text())
    for library, name in (("os", "system"), ("licfg_hf.cli", "NoSuchClass"), ("not_imported", "Thing")):
        (stranger / "run" / "model_index.json").write_text(json.dumps(index | {"model": [library, name]}))
        with pytest.raises(ValueError):
            load(stranger / "run")
    assert "not_imported" not in sys.modules


# ---- discriminators of a flow that are none of this library


class Unregistered(Discriminator):
    """A user's own, which nobody registered."""

    @register_to_config
    def __init__(self, normalizers: tuple = ()):
        super().__init__()
        self.features, self.head = nn.Flatten(), licfg_hf.LinearHead(64)
        self.add_normalizers(normalizers)


def plain_critic() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))


@pytest.mark.parametrize("make", [plain_critic, Unregistered, lambda: GradientNormalized(plain_critic())])
def test_the_last_stage_of_any_discriminator_is_kept(make, tmp_path):
    critic, images = make(), torch.rand(3, 1, 8, 8)
    states = [{name: value.clone() for name, value in critic.state_dict().items()} for _ in range(2)]
    states[1] = {name: value + 0.1 for name, value in states[1].items()}
    save_flow(tmp_path / "flow", FunctionalGradientFlow([], 0.7), critic, states)
    expected = FunctionalGradientFlow([], 0.7)(images)
    for state in states:
        critic.load_state_dict(state)
        expected = FunctionalGradientFlow([critic], 0.7)(expected)
    like = make()
    before = {name: value.clone() for name, value in like.state_dict().items()}
    torch.testing.assert_close(load_flow(tmp_path, discriminator=like)(images), expected)
    assert all(torch.equal(value, before[name]) for name, value in like.state_dict().items())
    with pytest.raises(ValueError, match=r"register_model|discriminator=") as caught:
        load_flow(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_discriminator_in_a_normalizer_comes_back_by_itself(tmp_path):
    torch.manual_seed(0)
    inside = licfg_hf.SNGANDiscriminator(8, 1, base_channels=8, channel_multipliers=(1, 2))
    critic, images = GradientNormalized(inside), torch.rand(3, 1, 8, 8)
    save_flow(tmp_path / "flow", FunctionalGradientFlow([]), critic, [critic.state_dict()])
    torch.testing.assert_close(load_flow(tmp_path)(images), FunctionalGradientFlow([critic.eval()])(images))
