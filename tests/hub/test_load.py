"""Loading from a Hub repository with the real client over HTTP."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import pytest
import torch
from loopback import connect, loopback_hub, running_hub
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler, load
from licfg_hf.objective.functional_gradient import FunctionalGradientFlow
from licfg_hf.pipelines.flow import save_flow
from licfg_hf.pipelines.locate import locate

CODE = """
import torch
from licfg_hf import DDGANDiscriminator, DDGANGenerator, DDGANPipeline, DDGANScheduler
from licfg_hf.training.warm_start import warm_start

pipeline = DDGANPipeline.from_pretrained("tester/digits")
image = pipeline(batch_size=1, generator=torch.Generator().manual_seed(0)).images[0]
generator = DDGANGenerator.from_pretrained("tester/digits", subfolder="unet")
discriminator = DDGANDiscriminator.from_pretrained("tester/digits", subfolder="discriminator")
DDGANScheduler.from_pretrained("tester/digits", subfolder="scheduler")
assert warm_start("tester/digits", generator, discriminator) == []
try:
    warm_start("tester/nothing", generator, discriminator)
except ValueError as error:
    print(error)
print(image.tobytes().hex())
"""


def run(environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", CODE], env=os.environ | environment, capture_output=True, text=True)


def test_pipeline_and_parts_load_from_a_repository_and_then_from_the_cache(tmp_path):
    repository = tmp_path / "repository"
    pipeline = DDGANPipeline(tiny_generator().eval(), DDGANScheduler())
    pipeline.save_pretrained(repository)
    tiny_discriminator().save_pretrained(repository / "discriminator")
    (repository / "checkpoints").mkdir()
    (repository / "checkpoints" / "large.safetensors").write_bytes(b"not to be fetched")
    cache = {"HF_HOME": str(tmp_path / "cache")}
    with loopback_hub(digits=repository) as environment:
        online = run(environment | cache)
    assert online.returncode == 0, online.stderr[-3000:]
    message, picture = online.stdout.splitlines()
    assert "no such repository" in message
    assert not list((tmp_path / "cache").rglob("large.safetensors"))
    offline = run({"HF_HUB_OFFLINE": "1"} | cache)
    assert offline.returncode == 0, offline.stderr[-3000:]
    assert offline.stdout.splitlines()[1] == picture


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A published model, among files of a stranger that are none of it."""
    folder = tmp_path_factory.mktemp("repository")
    DDGANPipeline(tiny_generator().eval(), DDGANScheduler()).save_pretrained(folder)
    critic = tiny_discriminator()
    critic.save_pretrained(folder / "discriminator")
    save_flow(folder / "flow", FunctionalGradientFlow([]), critic, [critic.state_dict()])
    (folder / "README.md").write_text("# A model")
    (folder / "training.json").write_text("{}")
    for name in STRANGE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


STRANGE = (
    "dataset/train.json",
    "a/b/huge.safetensors",
    "huge.safetensors",
    "unet/more/huge.safetensors",
    "flow/more/huge.json",
    "flow/discriminator-00/more/huge.safetensors",
    "checkpoints/step-1/state.json",
    "unet/code.py",
)
WAYS = {
    "load": "import licfg_hf; licfg_hf.load('tester/any')",
    "from_pretrained": "import licfg_hf; licfg_hf.DDGANPipeline.from_pretrained('tester/any')",
    "sample": "import sys; from licfg_hf.cli import main; "
    "main(['sample', 'tester/any', '--count', '1', '--flow', '--output', sys.argv[1]])",
}


@pytest.mark.slow
@pytest.mark.parametrize("first", WAYS)
def test_what_one_way_fetched_opens_offline_by_all_ways(repository, tmp_path, first):
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache")}

    def do(way: str, more: dict[str, str]) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", WAYS[way], str(tmp_path / "grid.png")]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True)

    with loopback_hub(any=repository) as online:
        done = do(first, online)
    assert done.returncode == 0, done.stderr[-3000:]
    for way in WAYS:
        done = do(way, {"HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stderr[-3000:]


def test_nothing_else_of_a_repository_is_fetched(repository, tmp_path, monkeypatch):
    with running_hub() as hub:
        connect(hub, monkeypatch)
        hub.add("tester/any", repository)
        folder = locate("tester/any", cache_dir=tmp_path / "cache")
    fetched = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"README.md", "training.json", "flow/flow.json", "flow/discriminator-00/config.json"} <= fetched
    wanted = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert fetched == wanted - set(STRANGE)


def test_load_takes_options_of_from_pretrained(repository, tmp_path, monkeypatch):
    with running_hub() as hub:
        connect(hub, monkeypatch)
        hub.add("tester/any", repository)
        place = tmp_path / "cache"
        assert load("tester/any", cache_dir=place, dtype=torch.float16).unet.dtype == torch.float16
        assert list(place.glob("models--tester--any"))
        hub.requests.clear()
        assert load("tester/any", cache_dir=place, local_files_only=True).unet.dtype == torch.float32
        assert not hub.requests
        shutil.rmtree(place)
        with pytest.raises(ValueError, match="not in the cache, and the Hub was not asked"):
            load("tester/any", cache_dir=place, local_files_only=True)
    assert load(repository, dtype=torch.float16).unet.dtype == torch.float16
