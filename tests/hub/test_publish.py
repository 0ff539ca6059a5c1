"""Publishing a finished model with the real client, and every way in which that can fail."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from huggingface_hub import HfApi, ModelCard, constants
from loopback import STRANGER_TOKEN, TOKEN, connect, running_hub
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler
from licfg_hf.errors import InputError
from licfg_hf.evaluation.protocol import Protocol
from licfg_hf.hub.card import write_card
from licfg_hf.hub.publish import add_arguments, publish, run
from licfg_hf.hub.results import model_index, read_protocol, with_results

NAME = "tester/digits"
HOME = "/home/some body/with a long and winding path/that a YAML writer folds over several lines of a card"
PROTOCOL = Protocol(
    extractor="digits",
    extractor_hash="acd2aa5063a9b416",
    preprocessing="values in [-1, 1]",
    reference=f"{HOME}/pictures",
    reference_fingerprint="b41ca9fd335466ee",
    reference_split="train",
    reference_count=100,
    samples=50,
    seed=0,
    weights="ema",
    selection="final",
    truncation=None,
    flow=False,
    jpeg=None,
    dtype="float32",
    neighbours=3,
    kid_subsets=100,
    kid_subset_size=10,
    is_splits=10,
    step=7,
    config_hash=None,
    versions={"python": "3.11"},
)
RESULT = {
    "format": 1,
    "name": f"{HOME}/output/run",
    "protocol": PROTOCOL.as_dict(),
    "metrics": {"fid": {"value": 144.8990537953639}, "kid": {"value": 1e-05, "std": 3.25}},
}
EXPECTED = {
    "README.md",
    "config.yaml",
    "discriminator/config.json",
    "discriminator/diffusion_pytorch_model.safetensors",
    "eval.json",
    "model_index.json",
    "report.html",
    "samples.png",
    "samples_moved.png",
    "scheduler/scheduler_config.json",
    "training.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
}
REFUSED = (
    "checkpoints/step-7/state.pt",
    "checkpoints/step-7/weights.safetensors",
    "samples/step-000007.png",
    "metrics.jsonl",
    "unet/optimizer.bin",
    "unet/pickled.pkl",
    "unet/.hidden.json",
    ".README.partial",
    ".samples.png.partial",
    "notes.txt",
    "code.py",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """What a run leaves behind, with paths of its machine in it."""
    folder = tmp_path_factory.mktemp("run")
    DDGANPipeline(tiny_generator().eval(), DDGANScheduler()).save_pretrained(folder)
    tiny_discriminator().save_pretrained(folder / "discriminator")
    settings = {
        "output_dir": f"{HOME}/output/run",
        "data": f"{HOME}/pictures",
        "ema_decay": 0.9,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 7,
        "seed": 0,
    }
    network = {"class": "Network", "parameters": 12}
    images = {"count": 100, "shape": [1, 8, 8], "fingerprint": "b41ca9fd335466ee"}
    facts = {
        "identity": {"images": images, "generator": network, "discriminator": network},
        "settings": settings,
        "step": 7,
        "processes": 1,
        "device": "cpu",
        "threads": 1,
        "versions": {"python": "3.11"},
    }
    details = {"title": "Tiny digits", "pipeline": "DDGANPipeline", "data": f"{HOME}/pictures", "tags": ["ddgan"]}
    write_card(folder, facts, [], "a loss", [], details)
    (folder / "training.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "eval.json").write_text(json.dumps(RESULT))
    (folder / "report.html").write_text("<h1>A report</h1>")
    for name in ("samples.png", "samples_moved.png", *REFUSED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content of " + name.encode())
    return folder


@pytest.fixture
def model(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "my model")


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as one:
        connect(one, monkeypatch)
        yield one


@pytest.fixture
def waits(monkeypatch):
    """How long the client waited before it tried again; only the waiting itself is left out."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files_of(hub, name: str = NAME) -> dict[str, bytes]:
    return hub.repositories["models", name].files


# What arrives


def test_a_model_arrives_whole_and_nothing_else_does(hub, model):
    before = contents(model)
    published = publish(model, NAME)
    files = files_of(hub)
    assert files.keys() == EXPECTED == published.files.keys()
    assert {path: len(content) for path, content in files.items()} == published.files
    assert published.url == f"{hub.endpoint}/{NAME}"
    assert published.commit == HfApi().model_info(NAME).sha
    assert contents(model) == before


def test_nothing_that_arrives_names_folders_of_the_machine(hub, model):
    (model / "report.html").write_text(f"<h1>{HOME}/output/run</h1><p>{model}</p>")
    publish(model, NAME)
    files = files_of(hub)
    for path, content in files.items():
        assert b"some body" not in content and str(model).encode() not in content, path
    assert json.loads(files["training.json"])["settings"]["output_dir"] == "run"
    assert yaml.safe_load(files["config.yaml"])["data"] == "pictures"
    assert json.loads(files["eval.json"])["name"] == "run"
    assert "output_dir: run\n" in files["README.md"].decode()
    assert "- Data: pictures, 100 images" in files["README.md"].decode()
    assert files["report.html"] == b"<h1>run</h1><p>my model</p>"


def test_the_card_has_the_results_and_no_other_value(hub, model):
    publish(model, NAME)
    card = ModelCard(files_of(hub)["README.md"].decode())
    card.validate()
    table = card.text.split("## Results")[1].split("## Limits")[0]
    assert "Nothing was measured" in (model / "README.md").read_text()  # until it was evaluated
    assert re.findall(r"^\| ([^|]*) \| ([^|]*) \|", table, re.MULTILINE)[2:] == [
        ("Fréchet distance (digits)", "144.9"),
        ("kernel distance (digits)", "1e-05 ± 3.2"),
    ]
    values = {entry.metric_type: entry.metric_value for entry in card.data.eval_results}
    assert values == {name: metric["value"] for name, metric in RESULT["metrics"].items()}
    info = next(iter(HfApi().list_models(filter="licfg", expand=["model-index", "tags"])))
    assert {"licfg", "gan", "ddgan", "licfg_hf"} <= set(info.tags)
    assert info.model_index[0]["name"] == "Tiny digits"
    metrics = info.model_index[0]["results"][0]["metrics"]
    assert metrics[1]["args"]["std"] == 3.25
    read = read_protocol(metrics[0]["args"]["protocol"])
    assert read.as_dict() == PROTOCOL.as_dict() | {"reference": "pictures"}


def test_the_snippet_runs_out_of_the_card(hub, model, tmp_path):
    publish(model, NAME)
    card = files_of(hub)["README.md"].decode()
    assert 'in place of `"."`' not in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert f'from_pretrained("{NAME}")' in code
    environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(len(images))"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "4\n", done.stderr[-3000:]


def test_pushing_again_adds_a_commit_only_where_something_changed(hub, model):
    first = publish(model, NAME)
    assert publish(model, NAME).commit == first.commit
    (model / "samples.png").write_bytes(b"another picture")
    second = publish(model, NAME, message="Another picture")
    commits = hub.repositories["models", NAME].branches["main"]
    assert [one.message for one in commits] == ["initial commit", "Upload my model", "Another picture"]
    assert second.commit == commits[-1].oid
    assert files_of(hub)["samples.png"] == b"another picture"


def test_a_branch_is_made_and_the_snippet_loads_from_it(hub, model):
    publish(model, NAME, revision="trial")
    publish(model, NAME, revision="trial")
    repository = hub.repositories["models", NAME]
    assert repository.files == {}
    assert f'from_pretrained("{NAME}", revision="trial")' in repository.at("trial").files["README.md"].content.decode()


def test_a_pull_request_to_somebody_elses_model(hub, model):
    hub.add("stranger/digits")
    published = publish(model, "stranger/digits", create_pr=True)
    repository = hub.repositories["models", "stranger/digits"]
    assert published.url == f"{hub.endpoint}/stranger/digits/discussions/1"
    assert repository.at("refs/pr/1").files.keys() == EXPECTED and repository.files == {}


def test_a_private_repository(hub, model):
    publish(model, NAME, private=True)
    assert hub.repositories["models", NAME].private
    publish(model, NAME, private=True)
    hub.add("tester/public")
    with pytest.raises(InputError, match="is public: make it private"):
        publish(model, "tester/public", private=True)
    assert files_of(hub, "tester/public") == {}


def test_a_folder_without_a_card_gets_one(hub, model):
    (model / "README.md").unlink()
    (model / "eval.json").unlink()
    publish(model, NAME)
    card = ModelCard(files_of(hub)["README.md"].decode())
    assert card.data.tags == ["gan", "licfg"] and card.data.eval_results is None
    assert f'DDGANPipeline.from_pretrained("{NAME}")' in card.text


def test_one_network_alone(hub, model):
    publish(model / "discriminator", NAME)
    assert set(files_of(hub)) == {"README.md", "config.json", "diffusion_pytorch_model.safetensors"}


def test_a_dry_run_contacts_nobody(hub, model, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args([str(model), "--repo_id", NAME, "--dry_run", "--revision", "trial", "--private"]))
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[-1] for line in lines[:-1]} == EXPECTED
    assert f"would go to {hub.endpoint}/{NAME}, branch trial: 13 files" in lines[-1]
    assert hub.requests == []


def test_the_command_says_where_it_is(hub, model, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run(parser.parse_args([str(model), "--repo_id", NAME]))
    assert capsys.readouterr().out.startswith(f"published: {hub.endpoint}/{NAME} (13 files, ")


# What is refused before anybody is contacted


@pytest.mark.parametrize("name", ["digits", "a/b/c", "tester/", "tester/a b", "tester/x--y", "tester/x.git", ""])
def test_a_name_that_is_none(hub, model, name):
    with pytest.raises(InputError) as caught:
        publish(model, name, dry_run=True)
    assert "repo_id" in str(caught.value) and "\n" not in str(caught.value)


def spoil(name: str, content: str | None):
    def change(folder: Path) -> None:
        path = folder / name
        if content is None:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            path.write_text(content)

    return change


def cut_short(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def unreadable(folder: Path) -> None:
    """A file that the disk cannot read: reading this process's memory at 0 is an input/output error."""
    (folder / "unet" / "config.json").unlink()
    (folder / "unet" / "config.json").symlink_to("/proc/self/mem")


@pytest.mark.parametrize(
    "change, words",
    [
        (shutil.rmtree, "there is no folder"),
        (spoil("model_index.json", "{"), "model_index.json is damaged"),
        (spoil("model_index.json", "[]"), "names no pipeline"),
        (spoil("unet", None), "'unet' is missing"),
        (spoil("scheduler", None), "'scheduler' is missing"),
        (cut_short, "is damaged"),
        (unreadable, "cannot be read: Input/output error"),
        (spoil("training.json", '{"settings": {}}'), "the run has not finished"),
        (spoil("eval.json", json.dumps({**RESULT, "protocol": {"step": 6}})), "eval.json is of step 6"),
        (spoil("eval.json", json.dumps({**RESULT, "metrics": {"fid": {"value": None}}})), "fid needs a finite value"),
        (spoil("README.md", "---\n: [\n---\n"), "the metadata of README.md cannot be read"),
    ],
)
def test_a_folder_that_is_no_finished_model(hub, model, change, words):
    change(model)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        publish(model, NAME)
    assert "\n" not in str(caught.value)
    assert hub.requests == []


def test_a_run_that_has_only_begun(hub, tmp_path):
    (tmp_path / "training.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="holds no finished model"):
        publish(tmp_path, NAME)


# Failures of the upload


def failure(model: Path, name: str = NAME, **options) -> str:
    """The message of a push that fails; it is one line, nothing local has changed, and its command is the push."""
    before = contents(model)
    with pytest.raises(InputError) as caught:
        publish(model, name, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert contents(model) == before
    assert f"licfg-hf push '{model}' --repo_id {name}" in message
    return message


def test_without_a_token(hub, model, monkeypatch):
    connect(hub, monkeypatch, None)
    assert "run `hf auth login`" in failure(model)
    assert hub.requests == []


def test_with_a_token_that_is_not_accepted(hub, model, monkeypatch):
    connect(hub, monkeypatch, "hf_revoked")
    assert "does not accept the token" in failure(model)


def test_without_the_right_to_write(hub, model, monkeypatch):
    hub.add(NAME)
    connect(hub, monkeypatch, STRANGER_TOKEN)
    assert "no right" in failure(model)
    assert files_of(hub) == {}


def test_without_the_right_to_create(hub, model):
    assert "no right" in failure(model, "somebody/digits")


@pytest.mark.parametrize("kind", ["datasets", "spaces"])
def test_a_name_that_another_kind_of_repository_has(hub, model, kind):
    hub.add(NAME, kind=kind)
    assert "is taken, by another owner or another kind" in failure(model)


def test_a_name_that_somebody_elses_hidden_model_has(hub, model):
    hub.add(NAME, private=True)
    hub.fail("GET /api/models/tester/digits", 404, headers={"X-Error-Code": "RepoNotFound"})
    assert "is taken" in failure(model)


def test_offline_mode(hub, model, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in failure(model)
    assert hub.requests == []


def test_without_a_network(hub, model, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "no connection to http://127.0.0.1:9" in failure(model)


@pytest.mark.parametrize(
    "request_, status, words",
    [
        ("GET /api/models/", 401, "does not accept the token"),
        ("POST /api/repos/create", 403, "no right"),
        ("POST /api/repos/create", 500, "the Hub failed with 500"),
        ("POST /api/validate-yaml", 500, "the Hub failed with 500"),
        ("/preupload/", 403, "no right"),
        ("/preupload/", 404, "is not there"),
        ("/preupload/", 429, "wants fewer requests"),
        ("/preupload/", 500, "the Hub failed with 500"),
        ("objects/batch", 403, "no right"),
        ("PUT /lfs/", 403, "no right"),
        ("PUT /lfs/", 500, "the Hub failed with 500"),
        ("POST /lfs/verify", 404, "is not there"),
        ("/commit/", 401, "does not accept the token"),
        ("/commit/", 403, "no right"),
        ("/commit/", 409, "is being changed by somebody else"),
        ("/commit/", 413, "the Hub answered 413"),
        ("/commit/", 429, "wants fewer requests"),
        ("/commit/", 500, "the Hub failed with 500"),
    ],
)
def test_answers_that_are_no_success(hub, model, waits, request_, status, words):
    hub.fail(request_, status, headers={"Retry-After": "0"})
    assert words in failure(model)
    hub.faults.clear()
    publish(model, NAME)
    assert files_of(hub).keys() == EXPECTED


@pytest.mark.parametrize("request_", ["GET /api/models/", "/preupload/", "PUT /lfs/", "/commit/"])
def test_connections_that_drop(hub, model, waits, request_):
    hub.fail(request_, drop=True)
    assert "no connection to" in failure(model)


def test_an_answer_that_is_no_hubs(hub, model, monkeypatch):
    """Such as the page of a network that wants a login first."""
    monkeypatch.setattr("loopback._json", lambda content: (b"<html>", {"Content-Type": "text/html"}))
    assert "do not get on" in failure(model)


def test_files_that_did_arrive_are_not_sent_again(hub, model, waits):
    hub.fail("/commit/", 500)
    failure(model)
    hub.faults.clear()
    hub.requests.clear()
    publish(model, NAME)
    assert not any(request.startswith("PUT") for request in hub.requests)
    assert files_of(hub).keys() == EXPECTED


def test_a_disk_that_fails_during_the_upload(hub, model, monkeypatch):
    (model / "samples.png").unlink()
    (model / "samples.png").symlink_to("/proc/self/mem")
    with pytest.raises(InputError, match=r"cannot be read: Input/output error.*to finish: licfg-hf push"):
        publish(model, NAME)


def test_the_command_that_finishes_the_job_keeps_the_options(hub, model):
    hub.fail("/commit/", 500)
    message = failure(model, private=True, revision="my-branch")
    assert message.endswith(f"--repo_id {NAME} --private --revision my-branch")


# Results in a card


def test_results_replace_those_of_the_card_and_leave_the_rest():
    body = "\n# Title\r\n\n```yaml\na: 1\n```\n  text  \n"
    card = f"---\nlicense: mit\nfoo: [1, 2]\nmodel-index:\n- name: Old\n  results: nonsense\n---\n{body}"
    new = with_results(card, [RESULT])
    assert new.endswith(f"---\n{body}")
    again = ModelCard(with_results(new, [RESULT]))
    assert str(again) == new
    assert (again.data.license, again.data.foo) == ("mit", [1, 2])
    assert len(again.data.eval_results) == 2


def test_results_of_another_extractor_do_not_bear_the_published_name():
    entry = model_index(RESULT)[0]
    assert entry.metric_name == "Fréchet distance (digits)"
    assert entry.dataset_split == "train" and entry.task_type == "unconditional-image-generation"


@pytest.mark.parametrize(
    "result", [{}, {**RESULT, "format": 2}, {**RESULT, "metrics": {"fid": {"value": float("nan")}}}]
)
def test_damaged_results_are_refused(result):
    with pytest.raises(InputError):
        with_results("---\nlicense: mit\n---\n", [result])


def test_a_token_is_never_printed(hub, model):
    hub.fail("/commit/", 500)
    assert TOKEN not in failure(model)
