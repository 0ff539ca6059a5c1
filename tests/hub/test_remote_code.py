"""``licfg-hf push --remote_code``: code for people with plain diffusers, which this library never executes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from diffusers import UNet2DModel
from gans import GENERATORS
from huggingface_hub import constants, snapshot_download
from loopback import connect, running_hub
from openers import UNET
from tiny import tiny_discriminator, tiny_generator

import licfg_hf
from licfg_hf import DDGANPipeline, DDGANScheduler, GANPipeline
from licfg_hf.cli import main
from licfg_hf.errors import InputError
from licfg_hf.hub.publish import publish
from licfg_hf.pipelines.model_index import plain

PIPELINES = {"ddgan": DDGANPipeline, "gan": GANPipeline}
CODE = {
    "ddgan": {"pipeline.py", "unet/licfg_components.py", "scheduler/licfg_components.py"},
    "gan": {"pipeline.py", "model/licfg_components.py"},
}
PLAIN_DIFFUSERS = """
import hashlib
import sys

import numpy as np
import torch
from diffusers import DiffusionPipeline

assert "licfg_hf" not in sys.modules
for name in ("tester/ddgan", "tester/gan"):
    try:
        DiffusionPipeline.from_pretrained(name)
    except ValueError as error:
        assert "trust_remote_code=True" in str(error), error
    else:
        raise AssertionError("it ran code that nobody has trusted")
assert "licfg_hf" not in sys.modules
for name in ("tester/ddgan", "tester/gan"):
    pipeline = DiffusionPipeline.from_pretrained(name, trust_remote_code=True)
    images = pipeline(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="np").images
    print(type(pipeline).__module__, type(pipeline).__name__, hashlib.sha256(np.asarray(images).tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pipelines")
    DDGANPipeline(tiny_generator().eval(), DDGANScheduler()).save_pretrained(root / "ddgan")
    torch.manual_seed(0)
    GANPipeline(GENERATORS["dcgan"]().eval()).save_pretrained(root / "gan")
    return root


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with running_hub() as one:
        connect(one, monkeypatch)
        yield one


@pytest.fixture
def published(hub, folders):
    for name in PIPELINES:
        publish(folders / name, f"tester/{name}", remote_code=True)
    return hub


def files_of(hub, name: str) -> dict[str, bytes]:
    return hub.repositories["models", f"tester/{name}"].files


def drawn(pipeline) -> str:
    images = pipeline(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="np").images
    return hashlib.sha256(np.asarray(images).tobytes()).hexdigest()


def arm(hub, name: str, mark: Path) -> None:
    """Makes the code in a repository leave a mark where it is executed."""
    repository = hub.repositories["models", f"tester/{name}"]
    trap = f"open({str(mark)!r}, 'w').close()\n".encode()
    blobs = repository.branches["main"][-1].files
    armed = {path: type(blob)(trap) if path.endswith(".py") else blob for path, blob in blobs.items()}
    assert armed != blobs
    repository.commit("main", "armed", armed)


# With plain diffusers


def test_people_who_have_not_imported_this_library_open_it(published, folders, tmp_path):
    # With bytecode written, which the tests' own environment may have switched off: diffusers copies all components'
    # files to one place, and Python may take one for the other.
    environment = {**os.environ, **published.environment, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = ""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_DIFFUSERS], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split() for line in done.stdout.splitlines()] == [
        [kind.__module__, kind.__name__, drawn(kind.from_pretrained(folders / name))]
        for name, kind in PIPELINES.items()
    ]


def test_the_files_say_what_they_are(published):
    for name, code in CODE.items():
        files = files_of(published, name)
        assert {path for path in files if path.endswith(".py")} == code
        for path in code:
            comment, *lines = files[path].decode().splitlines()
            assert comment.startswith("# For DiffusionPipeline.from_pretrained(..., trust_remote_code=True): ")
            assert all(line.startswith("from licfg_hf") for line in lines)


def test_a_network_of_diffusers_stays_one_of_diffusers(hub, tmp_path):
    DDGANPipeline(UNet2DModel(**UNET), DDGANScheduler()).save_pretrained(tmp_path / "plain")
    publish(tmp_path / "plain", "tester/plain", remote_code=True)
    files = files_of(hub, "plain")
    assert json.loads(files["model_index.json"])["unet"] == ["diffusers", "UNet2DModel"]
    assert {path for path in files if path.endswith(".py")} == {"pipeline.py", "scheduler/licfg_components.py"}
    assert isinstance(licfg_hf.load("tester/plain").unet, UNet2DModel)


# With this library


@pytest.mark.parametrize("trust", [{}, {"trust_remote_code": True}])
@pytest.mark.parametrize("name", PIPELINES)
def test_this_library_executes_nothing_of_it(published, folders, tmp_path, name, trust):
    arm(published, name, tmp_path / "executed")
    expected = drawn(PIPELINES[name].from_pretrained(folders / name))
    assert drawn(PIPELINES[name].from_pretrained(f"tester/{name}", **trust)) == expected
    assert drawn(licfg_hf.load(f"tester/{name}")) == expected
    assert not list((tmp_path / "cache").rglob("*.py"))
    folder = snapshot_download(f"tester/{name}", local_dir=tmp_path / "downloaded")
    assert (tmp_path / "downloaded" / "pipeline.py").is_file()
    assert drawn(PIPELINES[name].from_pretrained(folder, **trust)) == expected
    assert drawn(licfg_hf.load(folder)) == expected
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", PIPELINES)
def test_the_commands_work_on_it(published, tmp_path, monkeypatch, name):
    arm(published, name, tmp_path / "executed")
    monkeypatch.chdir(tmp_path)
    main(["sample", f"tester/{name}", "--count", "4", "--output", "grid.png"])
    measure = ["--data", "digits", "--features", "pixels", "--metrics", "fid", "--limit", "20"]
    main(["evaluate", f"tester/{name}", *measure])
    assert (tmp_path / "grid.png").is_file() and json.loads((tmp_path / "eval.json").read_text())["metrics"]["fid"]
    assert not (tmp_path / "executed").exists()


def test_parts_can_be_given(published):
    unet = tiny_generator()
    assert DDGANPipeline.from_pretrained("tester/ddgan", unet=unet).unet is unet


@pytest.mark.parametrize("called", ["Evil", "get_loss", "GANPipeline", "GradientPenalty", "", None, 3, ["a"]])
def test_a_class_that_this_library_does_not_export_is_refused(folders, tmp_path, called):
    index = json.loads((folders / "ddgan" / "model_index.json").read_text())
    index["unet"] = ["licfg_components", called]
    with pytest.raises(ValueError, match="which this library does not have"):
        plain(index)


@pytest.mark.parametrize(
    "change",
    [
        {"unet": ["licfg_components", "Evil"]},
        {"unet": ["licfg_components"]},
        {"_class_name": ["pipeline", "Evil"]},
        {"_class_name": ["other", "DDGANPipeline"]},
    ],
)
def test_a_repository_with_other_code_is_refused_in_one_line(published, tmp_path, capsys, change):
    arm(published, "ddgan", tmp_path / "executed")
    folder = Path(snapshot_download("tester/ddgan", local_dir=tmp_path / "downloaded"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | change))
    capsys.readouterr()
    for command in (["sample", str(folder)], ["push", str(folder), "--repo_id", "tester/x", "--dry_run"]):
        with pytest.raises(SystemExit):
            main(command)
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "executed").exists()


# Pushed again


@pytest.mark.parametrize("name", PIPELINES)
def test_a_folder_that_was_downloaded_is_pushed_again(published, folders, tmp_path, name):
    folder = Path(snapshot_download(f"tester/{name}", local_dir=tmp_path / "downloaded"))
    files = files_of(published, name)
    publish(folder, f"tester/{name}", remote_code=True)
    assert files_of(published, name) == files
    publish(folder, "tester/without")
    without = files_of(published, "without")
    assert without.keys() == files.keys() - CODE[name]
    saved = json.loads((folders / name / "model_index.json").read_text())
    assert json.loads(without["model_index.json"]) == saved
    assert json.loads((folder / "model_index.json").read_text())["_class_name"][0] == "pipeline"


# What it needs


def strange(folder: Path, **change) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | change))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"_class_name": "StableDiffusionPipeline"}, "'StableDiffusionPipeline' is not in licfg_hf, which has"),
        ({"unet": ["my_networks", "Network"]}, "'unet' is a my_networks.Network"),
        ({"unet": ["my_networks", "DDGANGenerator"]}, "'unet' is a my_networks.DDGANGenerator"),
        ({"unet": ["licfg_hf.losses", "get_loss"]}, "'unet' is a licfg_hf.losses.get_loss"),
    ],
)
def test_a_pipeline_that_it_cannot_be_done_for(hub, folders, tmp_path, change, words):
    DDGANPipeline.from_pretrained(folders / "ddgan").save_pretrained(tmp_path)
    strange(tmp_path, **change)
    with pytest.raises(InputError, match=words) as caught:
        publish(tmp_path, "tester/x", remote_code=True)
    assert "\n" not in str(caught.value) and hub.requests == []


def test_a_network_alone_is_no_pipeline(hub, tmp_path):
    tiny_discriminator().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="--remote_code needs a pipeline"):
        publish(tmp_path, "tester/x", remote_code=True)
    assert hub.requests == []
