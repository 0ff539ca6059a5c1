"""Publishing a finished model with the real client, and every way in which that can fail."""

import argparse
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from huggingface_hub import HfApi, ModelCard, constants, snapshot_download
from loopback import STRANGER_TOKEN, TOKEN, USER, connect, running_hub
from PIL import Image
from tiny import tiny_discriminator, tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler
from licfg_hf.cli import main as command
from licfg_hf.errors import InputError
from licfg_hf.evaluation.protocol import EvaluationProtocol
from licfg_hf.evaluation.samples import settings_hash
from licfg_hf.hub.card import (
    BENCHMARK_FILE,
    Benchmark,
    model_index,
    read_protocol,
    results_section,
    with_results,
    write_card,
)
from licfg_hf.hub.publish import add_arguments, publish, run

NAME = "tester/digits"
HOME = "/home/some body/with a long and winding path/that a YAML writer folds over several lines of a card"
PROTOCOL = EvaluationProtocol(
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
    "unet/credentials.json",
    "scheduler/config.json",
    "discriminator/secrets.safetensors",
    "model/config.json",
    "model/diffusion_pytorch_model.safetensors",
    "flow/notes.json",
    "flow/discriminator-00/credentials.json",
    "flow/discriminator-old/config.json",
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
        "evaluate_features": f"inception:{HOME}/w.pth",
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
    words = [f"--config={HOME}/my options.yaml", "--data", f"{HOME}/O'Brien's/mnist", "--output_dir", "some body/out"]
    words += ["--evaluate_features", f"inception:{HOME}/w.pth", "--init_from", "../some body/x", "--max_steps", "7"]
    details["command"] = shlex.join(["train.py", *words])
    write_card(folder, facts, [], "a loss", [], details)
    (folder / "training.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "eval.json").write_text(json.dumps(RESULT))
    (folder / "report.html").write_text("<h1>A report</h1>")
    for name in REFUSED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content of " + name.encode())
    for name, grey in (("samples.png", 10), ("samples_moved.png", 20)):
        paint(folder / name, grey)
    return folder


def paint(path: Path, grey: int) -> None:
    Image.new("L", (8, 8), grey).save(path)


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
    command = re.search("- Command: `(.*)`\n", files["README.md"].decode())[1]
    assert shlex.split(command) == [
        *("train.py", "--config=my options.yaml", "--data", "mnist", "--output_dir", "out"),
        *("--evaluate_features", "inception:w.pth", "--init_from", "x", "--max_steps", "7"),
    ]
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
    again = publish(model, NAME)
    assert (again.commit, again.changed) == (first.commit, False)
    paint(model / "samples.png", 30)
    second = publish(model, NAME, message="Another picture")
    commits = hub.repositories["models", NAME].branches["main"]
    assert [one.message for one in commits] == ["initial commit", "Upload my model", "Another picture"]
    assert second.commit == commits[-1].oid and second.changed
    assert files_of(hub)["samples.png"] == (model / "samples.png").read_bytes()


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
    assert {line.split()[-1] for line in lines[:-2]} == EXPECTED
    assert lines[-2].startswith("stays here: .README.partial") and "checkpoints/" in lines[-2]
    assert lines[-1].startswith(f"would go to {hub.endpoint}/{NAME}: 13 files, ")
    assert ", branch trial. Dry run: nothing was uploaded" in lines[-1] and "are not listed" in lines[-1]
    assert hub.requests == []


def test_the_command_says_where_it_is(hub, model, capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args([str(model), "--repo_id", NAME, "--no-private", "--message", "Mine"])
    run(options)
    assert capsys.readouterr().out.startswith(f"published: {hub.endpoint}/{NAME} (13 files, ")
    assert hub.repositories["models", NAME].branches["main"][-1].message == "Mine"
    run(options)
    assert capsys.readouterr().out.startswith(f"nothing to change: {hub.endpoint}/{NAME} has it already (13 files, ")


# What is refused before anybody is contacted


def test_no_name_is_not_the_current_folder(hub, model, monkeypatch, capsys):
    monkeypatch.chdir(model)
    with pytest.raises(SystemExit):
        command(["push", "", "--repo_id", NAME])
    assert "FOLDER is empty" in capsys.readouterr().err and hub.requests == []


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


def cut_a_picture_short(folder: Path) -> None:
    (folder / "samples.png").write_bytes((folder / "samples.png").read_bytes()[:-20])


@pytest.mark.parametrize(
    "change, words",
    [
        (shutil.rmtree, "there is no folder"),
        (spoil("model_index.json", "{"), "model_index.json is damaged"),
        (spoil("model_index.json", "[]"), "model_index.json is damaged: it is not a JSON object"),
        (spoil("model_index.json", "{}"), "names no pipeline"),
        (spoil("unet", None), "'unet' is missing"),
        (spoil("scheduler", None), "'scheduler' is missing"),
        (cut_short, "is damaged"),
        (spoil("unet/config.json", None), "'unet' is missing, has no config.json"),
        (spoil("discriminator/config.json", None), "has no config.json beside it"),
        (cut_a_picture_short, "samples.png is not a complete PNG picture"),
        (spoil("samples.png", "-----BEGIN OPENSSH PRIVATE KEY-----"), "is not a complete PNG picture"),
        (spoil("training.json", "[]"), "training.json is damaged: it is not a JSON object"),
        (spoil("eval.json", "[]"), "eval.json is damaged: it is not a JSON object"),
        (spoil("training.json", '{"settings": {}}'), "training.json has no step: let the run finish"),
        (spoil("eval.json", json.dumps({**RESULT, "protocol": {"step": 6}})), "eval.json is of step 6"),
        (spoil("eval.json", json.dumps({**RESULT, "metrics": {"fid": {"value": None}}})), "fid needs a finite value"),
        (spoil("README.md", "---\n: [\n---\n"), "the metadata of README.md cannot be read"),
        (spoil("README.md", "---\nlicense: mit\n\n# Title\n"), "begins with a line --- and does not end with one"),
        (spoil("README.md", "---\ntags: gan\n---\n"), "the tags of README.md are a list"),
        (spoil("README.md", f"# Title\n{results_section([]).splitlines()[0]}\n# Limits\n"), "and no <!-- end of"),
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
    assert "is taken by another owner or another kind" in failure(model)


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
        ("/preupload/", 429, "too many requests"),
        ("/preupload/", 500, "the Hub failed with 500"),
        ("objects/batch", 403, "no right"),
        ("PUT /lfs/", 403, "no right"),
        ("PUT /lfs/", 500, "the Hub failed with 500"),
        ("POST /lfs/verify", 404, "is not there"),
        ("/commit/", 401, "does not accept the token"),
        ("/commit/", 403, "no right"),
        ("/commit/", 409, "is being changed by somebody else"),
        ("/commit/", 413, "the Hub answered 413"),
        ("/commit/", 429, "too many requests"),
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
    assert "its client does not understand" in failure(model)


def test_files_that_did_arrive_are_not_sent_again(hub, model, waits):
    hub.fail("/commit/", 500)
    failure(model)
    hub.faults.clear()
    hub.requests.clear()
    publish(model, NAME)
    assert not any(request.startswith("PUT") for request in hub.requests)
    assert files_of(hub).keys() == EXPECTED


def test_a_file_that_cannot_be_read(hub, model, monkeypatch):
    opened = Path.open

    def fail(path, *arguments, **options):
        if path.name == "training.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(InputError, match=r"training.json cannot be read: Input/output error$"):
        publish(model, NAME)
    assert hub.requests == []


def test_a_file_that_goes_during_the_upload(hub, model, monkeypatch):
    made = HfApi.create_repo

    def make(*arguments, **options):
        (model / "samples.png").unlink()
        return made(*arguments, **options)

    monkeypatch.setattr(HfApi, "create_repo", make)
    with pytest.raises(InputError, match=r"cannot be read: No such file or directory.*to finish: licfg-hf push"):
        publish(model, NAME)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"private": True, "revision": "my-branch"}, "--private --revision my-branch"),
        ({"private": False, "message": "A message"}, "--no-private --message 'A message'"),
    ],
)
def test_the_command_that_finishes_the_job_keeps_the_options(hub, model, options, words):
    hub.fail("/commit/", 500)
    assert failure(model, **options).endswith(f"--repo_id {NAME} {words}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("request_", ["GET /api/models/", pytest.param("PUT /lfs/", marks=pytest.mark.slow)])
def test_a_push_that_is_stopped_says_how_to_finish(hub, model, tmp_path, number, request_):
    hub.fail(request_, seconds=5)
    push = [sys.executable, "-m", "licfg_hf", "push", str(model), "--repo_id", NAME]
    environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": TOKEN}
    process = subprocess.Popen(push, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not any(request.startswith(request_) for request in hub.requests):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        line = process.stderr.readline()
        while "to finish" not in line:  # after the client's progress bars
            line = process.stderr.readline()
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert line.endswith(f"Nothing local was changed; to finish: licfg-hf push '{model}' --repo_id {NAME}\n")


def test_a_card_that_the_hub_does_not_take_is_refused_before_anything_is_made(hub, model):
    (model / "README.md").write_text("---\ntags:\n- 3\n---\n")
    assert 'the Hub does not take its README.md: "tags" must be a list of strings' in failure(model)
    assert not any("POST /api/repos/create" in request for request in hub.requests)


def test_somebody_else_who_commits_meanwhile(hub, model, monkeypatch):
    publish(model, NAME)
    repository = hub.repositories["models", NAME]
    committed = HfApi.create_commit

    def commit(*arguments, **options):
        repository.commit("main", "theirs", dict(repository.at("main").files))
        return committed(*arguments, **options)

    monkeypatch.setattr(HfApi, "create_commit", commit)
    paint(model / "samples.png", 30)
    assert "was changed by somebody else meanwhile: try again" in failure(model)


# What an earlier push left there


def test_what_the_model_does_not_have_any_more_is_removed_and_nothing_else(hub, model):
    benchmark = Benchmark("acme/digits", "default", "fid")
    place = model / "flow"
    (place / "flow.json").write_text('{"step_size": 0.1, "scaling": "none", "noise": 0, "steps": 0}')
    moved = {**RESULT, "protocol": {**RESULT["protocol"], "flow": True}}
    (place / "eval.json").write_text(json.dumps(moved))
    publish(model, NAME, benchmarks=[benchmark], remote_code=True)
    repository = hub.repositories["models", NAME]
    before = repository.at("main").files
    theirs = (
        "notes.md",
        "LICENSE",
        "unet/notes.json",
        "pipelines/pipeline.py",
        ".gitattributes",
        "flow/more/eval.json",
    )
    repository.commit("main", "mine", {**before, **dict.fromkeys(theirs, before["README.md"])})
    shutil.rmtree(place)
    (model / "samples_moved.png").unlink()
    removed = publish(model, NAME).removed
    assert removed == (
        BENCHMARK_FILE,
        "flow/eval.json",
        "flow/flow.json",
        "pipeline.py",
        "samples_moved.png",
        "scheduler/licfg_components.py",
        "unet/licfg_components.py",
    )
    assert files_of(hub).keys() == {*theirs, *EXPECTED} - {"samples_moved.png"}


def test_a_branch_and_a_pull_request_lose_what_is_stale_too(hub, model):
    publish(model, NAME)
    publish(model, NAME, revision="trial")
    (model / "report.html").unlink()
    assert publish(model, NAME, revision="trial").removed == ("report.html",)
    assert publish(model, NAME, create_pr=True).removed == ("report.html",)
    repository = hub.repositories["models", NAME]
    assert "report.html" in repository.files
    assert {"report.html"} == EXPECTED - repository.at("trial").files.keys()
    assert {"report.html"} == EXPECTED - repository.at("refs/pr/1").files.keys()


# Files that are none of the folder's


@pytest.mark.parametrize("name", ["samples_moved.png", "discriminator/config.json", "discriminator", "training.json"])
def test_a_link_that_leads_out_of_the_folder_is_refused(hub, model, tmp_path, name):
    moved = shutil.move(model / name, tmp_path / "elsewhere") if (model / name).exists() else "/etc/hostname"
    (model / name).symlink_to(moved)
    with pytest.raises(InputError, match="is a link to a file outside the folder") as caught:
        publish(model, NAME)
    assert "\n" not in str(caught.value) and hub.requests == []


def test_links_within_the_folder_and_a_link_to_it_are_none_of_these(hub, model, tmp_path):
    (model / "samples.png").rename(model / "first.png")
    (model / "samples.png").symlink_to("first.png")
    (tmp_path / "link").symlink_to(model)
    publish(tmp_path / "link", NAME)
    assert files_of(hub).keys() == EXPECTED


def test_a_snapshot_in_the_cache_is_pushed_on(hub, model, tmp_path):
    publish(model, NAME)
    snapshot = Path(snapshot_download(NAME, cache_dir=tmp_path / "cache"))
    assert (snapshot / "training.json").is_symlink()
    publish(snapshot, f"{USER}/copy")
    publish(snapshot / "discriminator", f"{USER}/critic")
    copy = files_of(hub, f"{USER}/copy")
    assert copy.keys() == EXPECTED and copy["training.json"] == files_of(hub)["training.json"]
    blob = (snapshot / "training.json").resolve()
    (model / "training.json").unlink()
    (model / "training.json").symlink_to(blob)  # of a folder that is no snapshot
    with pytest.raises(InputError, match="outside the folder"):
        publish(model, NAME)


# Results of other weights


def of(model: Path, name: str = "eval.json", **protocol) -> None:
    """Writes a result by another protocol."""
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text(json.dumps({**RESULT, "protocol": {**RESULT["protocol"], **protocol}}))


def identify(model: Path, **settings) -> str:
    """Gives the model an identity as a training has one; returns its hash."""
    path = model / "training.json"
    facts = json.loads(path.read_text())
    facts["identity"]["training"] = {"seed": 0, **settings}
    path.write_text(json.dumps(facts))
    return settings_hash(facts["identity"])


@pytest.mark.parametrize(
    "name, protocol, words",
    [
        ("eval.json", {"training_seed": 1}, "is of training seed 1 and the model of training seed 0"),
        ("eval.json", {"config_hash": "0123456789abcdef"}, "is of settings 0123456789abcdef and the model of"),
        ("eval.json", {"flow": True}, "eval.json is of samples moved by the flow, which belong into flow/eval.json"),
        ("flow/eval.json", {"flow": True, "step": 6}, "flow/eval.json is of step 6 and the model of step 7"),
        ("flow/eval.json", {}, "flow/eval.json is of samples of the generator alone, which belong into eval.json"),
    ],
)
def test_a_result_of_other_weights_is_refused(hub, model, name, protocol, words):
    own = identify(model)
    of(model, training_seed=0, config_hash=own)
    publish(model, NAME, dry_run=True)
    of(model, name, **protocol)
    with pytest.raises(InputError, match=re.escape(words)):
        publish(model, NAME)
    assert hub.requests == []


def test_a_model_whose_settings_named_a_folder_is_downloaded_and_pushed_on(hub, model, tmp_path):
    """Its identity was published without that folder, and the result is of it nonetheless."""
    of(model, config_hash=identify(model, init_from=f"{HOME}/output/first"))
    publish(model, NAME)
    as_published = settings_hash(json.loads(files_of(hub)["training.json"])["identity"])
    of(model, config_hash=as_published)  # the repository was evaluated
    publish(model, NAME)
    folder = Path(snapshot_download(NAME, local_dir=tmp_path / "downloaded"))
    assert publish(folder, NAME).changed is False
    assert publish(folder, f"{USER}/copy").changed


# Cards from elsewhere


def test_a_card_reports_nothing_where_there_is_no_result(hub, model):
    publish(model, NAME)
    card = files_of(hub)["README.md"]
    assert b"model-index" in card and b"144.9" in card
    (model / "README.md").write_bytes(card)
    (model / "eval.json").unlink()
    publish(model, NAME)
    card = ModelCard(files_of(hub)["README.md"].decode())
    assert card.data.eval_results is None and "144.9" not in str(card) and "Nothing was measured" in card.text


def test_a_card_from_another_editor(hub, model):
    card = (model / "README.md").read_text()
    (model / "README.md").write_bytes(b"\xef\xbb\xbf" + card.replace("\n", "\r\n").encode())
    publish(model, NAME)
    strange = files_of(hub)["README.md"]
    (model / "README.md").write_text(card)
    publish(model, NAME)
    assert strange == files_of(hub)["README.md"]


def test_the_best_generator_of_a_run_says_so(hub, model):
    (model / "README.md").unlink()
    (model / "selection.json").write_text(json.dumps({"by": "fid", "identity": {}, "result": RESULT}))
    publish(model, NAME)
    card = files_of(hub)["README.md"].decode()
    assert "Its generator is the best of its run by `fid`, after 7 steps.\n" in card
    assert "| Fréchet distance (digits) | 144.9 |" in card and "selection.json" not in files_of(hub)


def test_a_card_states_a_licence_only_where_it_was_given(hub, finished, tmp_path):
    facts = json.loads((finished / "training.json").read_text())
    texts = []
    for details in ({}, {"license": "mit"}):
        write_card(tmp_path, facts, [], "a loss", [], details)
        texts.append((tmp_path / "README.md").read_text())
    limits = "The licence of these weights is their publisher's to choose"
    assert "\nlicense:" not in texts[0] and limits in texts[0]
    assert "\nlicense: mit\n" in texts[1] and limits not in texts[1]


# Results in a card


def test_results_replace_those_of_the_card_and_leave_the_rest():
    body = "\n# Title\r\n\n```yaml\na: 1\n```\n  text  \n"
    card = f"---\nlicense: mit\nfoo: [1, 2]\nmodel_name: Old\n---\n{body}"
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
