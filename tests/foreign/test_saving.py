"""diffusers' own ways of saving, loading and drawing work on every class of this library."""

import inspect

import pytest
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin, SchedulerMixin
from gans import DISCRIMINATORS, GENERATORS
from loopback import connect, running_hub
from tiny import tiny_discriminator, tiny_generator

import licfg_hf
from licfg_hf import DDGANPipeline, DDGANScheduler, GANPipeline, load

BASES = (ModelMixin, ConfigMixin, SchedulerMixin, DiffusionPipeline)
OWN = [value for name in licfg_hf.__all__ if isinstance(value := getattr(licfg_hf, name), type)]
NETWORKS = {**DISCRIMINATORS, **GENERATORS, "ddgan": tiny_generator, "ddgan_discriminator": tiny_discriminator}


def overridden() -> set[tuple[type, str]]:
    """(class, method) for each method of diffusers that a class of this library, or a base of it, has its own of."""
    kinds = {kind for own in OWN if issubclass(own, BASES) for kind in own.__mro__ if "licfg_hf" in kind.__module__}
    return {
        (kind, name)
        for kind in kinds
        for name, value in vars(kind).items()
        if (inspect.isfunction(value) or isinstance(value, classmethod)) and not name.startswith("_")
        if any(name in vars(base) for base in kind.__mro__ if base.__module__.startswith("diffusers"))
    }


def options_of(method) -> set[str]:
    parameters = inspect.signature(getattr(method, "__func__", method)).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}


def test_an_overridden_method_takes_what_that_of_diffusers_takes():
    """diffusers reads the names of options in the signature, so that a swallowed signature swallows options."""
    found = overridden()
    names = {name for _, name in found}
    assert {"save_pretrained", "from_pretrained", "load_config", "from_pipe", "download"} <= names
    for kind, name in found:
        bases = (base for base in kind.__mro__ if base.__module__.startswith("diffusers"))
        theirs = next(vars(base)[name] for base in bases if name in vars(base))
        assert options_of(theirs) <= options_of(vars(kind)[name]), (kind, name)


OPTIONS = ({"variant": "fp16"}, {"max_shard_size": "5KB"}, {"safe_serialization": False})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["sngan_cnn", "biggan", "ddgan", "ddgan_discriminator"])
def test_every_network_is_saved_and_loaded_as_diffusers_does(name, options, tmp_path):
    network = NETWORKS[name]()
    network.save_pretrained(tmp_path, **options)
    names = {path.name for path in tmp_path.iterdir()}
    if "variant" in options:
        assert "diffusion_pytorch_model.fp16.safetensors" in names
    if "max_shard_size" in options:
        assert "diffusion_pytorch_model.safetensors.index.json" in names
    if "safe_serialization" in options:
        assert "diffusion_pytorch_model.bin" in names
    loading = {"variant": "fp16"} if "variant" in options else {}
    loaded = type(network).from_pretrained(tmp_path, **loading)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())


def pipelines() -> dict[str, DiffusionPipeline]:
    torch.manual_seed(0)
    return {
        "gan": GANPipeline(GENERATORS["biggan"]().eval()),
        "ddgan": DDGANPipeline(tiny_generator().eval(), DDGANScheduler()),
    }


@pytest.mark.parametrize("kind", ["gan", "ddgan"])
def test_a_variant_lies_beside_the_weights(kind, tmp_path):
    pipeline, part = pipelines()[kind], "model" if kind == "gan" else "unet"
    pipeline.save_pretrained(tmp_path)
    weights = tmp_path / part / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    half = type(pipeline).from_pretrained(tmp_path, dtype=torch.float16)
    half.save_pretrained(tmp_path, variant="fp16")
    assert weights.read_bytes() == before
    assert weights.with_name("diffusion_pytorch_model.fp16.safetensors").is_file()
    loaded = type(pipeline).from_pretrained(tmp_path, variant="fp16", dtype=torch.float16)
    assert getattr(loaded, part).dtype == torch.float16
    pipeline.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    assert len(list((tmp_path / "shards" / part).glob("*-of-*.safetensors"))) > 1
    type(pipeline).from_pretrained(tmp_path / "shards")


def test_of_a_repository_with_two_variants_one_is_fetched(tmp_path, monkeypatch):
    pipeline = pipelines()["gan"]
    folder = tmp_path / "model"
    pipeline.save_pretrained(folder)
    pipeline.to(torch.float16).save_pretrained(folder, variant="fp16")
    with running_hub() as hub:
        hub.add("tester/digits", folder)
        connect(hub, monkeypatch)
        for variant, name in ((None, "diffusion_pytorch_model"), ("fp16", "diffusion_pytorch_model.fp16")):
            cache = tmp_path / f"cache-{variant}"
            load("tester/digits", variant=variant, cache_dir=str(cache))
            assert [path.name for path in cache.rglob("*.safetensors")] == [f"{name}.safetensors"]


@pytest.mark.parametrize("kind", ["gan", "ddgan"])
def test_one_seed_draws_the_same_in_half_precision(kind):
    def draw(dtype: torch.dtype) -> torch.Tensor:
        pipeline = pipelines()[kind].to(dtype)
        generator = torch.Generator().manual_seed(0)
        return pipeline(batch_size=4, generator=generator, output_type="pt").images.double()

    assert (draw(torch.float16) - draw(torch.float32)).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_scheduler_draws_the_same_noise_in_every_type(dtype):
    scheduler = DDGANScheduler()
    pairs = [
        scheduler.sample_pair(torch.zeros(4, 1, 8, 8, dtype=kind), 2, torch.Generator().manual_seed(0))[1].double()
        for kind in (dtype, torch.float32)
    ]
    assert (pairs[0] - pairs[1]).abs().max() < 0.05


@pytest.mark.parametrize("kind", ["gan", "ddgan"])
@pytest.mark.parametrize("wrong", [(torch.Generator(), torch.Generator()), [1, 2], "seed", 3])
def test_what_is_no_generator_is_refused_in_words(kind, wrong):
    with pytest.raises(ValueError, match=r"generator is a torch\.Generator"):
        pipelines()[kind](batch_size=2, generator=wrong)


@pytest.mark.parametrize("kind", ["gan", "ddgan"])
def test_a_pipeline_from_a_pipeline_shares_its_parts(kind):
    pipeline = pipelines()[kind]
    again = type(pipeline).from_pipe(pipeline)
    assert all(again.components[name] is part for name, part in pipeline.components.items())
