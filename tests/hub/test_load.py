"""Loading from a Hub repository with the real client over HTTP."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from loopback import loopback_hub
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler

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
