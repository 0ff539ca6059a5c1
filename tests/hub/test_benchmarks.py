"""``licfg-hf push --benchmark``: results for leaderboards of the Hub."""

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from huggingface_hub import parse_eval_result_entries
from loopback import connect, running_hub
from tiny import tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler
from licfg_hf.cli import main
from licfg_hf.errors import InputError
from licfg_hf.evaluation.protocol import EvaluationProtocol
from licfg_hf.hub.card import BENCHMARK_FILE, Benchmark
from licfg_hf.hub.publish import publish

NAME = "tester/digits"
DATE = "2026-01-02T03:04:05+00:00"
PROTOCOL = EvaluationProtocol(
    extractor="inception",
    extractor_hash="acd2aa5063a9b416",
    preprocessing="uint8 RGB",
    reference="/home/somebody/pictures",
    reference_fingerprint="b41ca9fd335466ee",
    reference_split="test",
    reference_count=10_000,
    samples=50_000,
    seed=0,
    weights="ema",
    selection="final",
    truncation=None,
    flow=False,
    jpeg=75,
    dtype="float32",
    neighbours=3,
    kid_subsets=100,
    kid_subset_size=1000,
    is_splits=10,
    step=None,
    config_hash=None,
    versions={},
)
RESULT = {
    "format": 1,
    "name": "run",
    "protocol": PROTOCOL.as_dict(),
    "metrics": {"fid": {"value": 12.25}, "is": {"value": 7.5, "std": 0.5}},
    "facts": {"date": DATE},
}
NOTES = (
    "FID, lower is better; of the EMA weights; 50,000 samples, final checkpoint, no truncation, float32, through JPEG "
    "of quality 75; against 10,000 images of pictures, split test; features inception (acd2aa5063a9b416) of uint8 RGB"
)


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as one:
        connect(one, monkeypatch)
        yield one


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    DDGANPipeline(tiny_generator().eval(), DDGANScheduler()).save_pretrained(folder)
    (folder / "eval.json").write_text(json.dumps(RESULT))
    return folder


def push(model: Path, *options: str) -> None:
    main(["push", str(model), "--repo_id", NAME, *options])


def test_an_entry_says_what_was_measured_and_how(hub, model):
    before = sorted(model.rglob("*"))
    push(model, "--benchmark", "acme/cifar", "fid of 50k", "fid", "--benchmark", "acme/other", "default", "is")
    written = hub.repositories["models", NAME].files[BENCHMARK_FILE]
    first, second = parse_eval_result_entries(yaml.safe_load(written))
    assert (first.dataset_id, first.task_id, first.value, first.date) == ("acme/cifar", "fid of 50k", 12.25, DATE)
    assert first.notes == NOTES
    assert (second.dataset_id, second.task_id, second.value) == ("acme/other", "default", 7.5)
    assert second.notes.startswith("Inception Score, higher is better; of the EMA weights; ")
    assert second.notes.endswith("; mean over 10 splits")
    assert sorted(model.rglob("*")) == before


def test_a_result_without_a_date_is_dated_by_its_commit(hub, model):
    (model / "eval.json").write_text(json.dumps({key: RESULT[key] for key in RESULT if key != "facts"}))
    push(model, "--benchmark", "acme/cifar", "default", "fid")
    (entry,) = yaml.safe_load(hub.repositories["models", NAME].files[BENCHMARK_FILE])
    assert "date" not in entry


def test_a_dry_run_lists_it(hub, model, capsys):
    push(model, "--benchmark", "acme/cifar", "default", "fid", "--dry_run")
    assert BENCHMARK_FILE in capsys.readouterr().out and hub.requests == []


def test_without_the_option_there_is_none(hub, model):
    assert BENCHMARK_FILE not in publish(model, NAME, dry_run=True).files


def test_the_command_that_finishes_the_job_keeps_the_options(hub, model):
    hub.fail("/commit/", 403)
    benchmarks = [Benchmark("acme/cifar", "fid of 50k", "fid"), Benchmark("acme/other", "default", "is")]
    with pytest.raises(InputError) as caught:
        publish(model, NAME, benchmarks=benchmarks, remote_code=True)
    assert str(caught.value).endswith(
        f"--repo_id {NAME} --benchmark acme/cifar 'fid of 50k' fid --benchmark acme/other default is --remote_code"
    )


@pytest.mark.parametrize(
    "options, words",
    [
        (["cifar", "default", "fid"], "a data set OWNER/NAME of the Hub, not 'cifar'"),
        (["a/b/c", "default", "fid"], "a data set OWNER/NAME of the Hub, not 'a/b/c'"),
        (["acme/ci far\n", "default", "fid"], "a data set OWNER/NAME of the Hub"),
        (["acme/cifar", " ", "fid"], "acme/cifar needs the name of a task"),
        (["acme/cifar", "default", "kid"], "eval.json has no 'kid', only fid, is"),
        (["acme/cifar", "default", "fid", "--benchmark", "acme/cifar", "default", "is"], "has two"),
    ],
)
def test_what_cannot_be_reported(hub, model, capsys, options, words):
    with pytest.raises(SystemExit):
        push(model, "--benchmark", *options)
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and hub.requests == []


def test_without_a_result(hub, model, capsys):
    (model / "eval.json").unlink()
    with pytest.raises(SystemExit):
        push(model, "--benchmark", "acme/cifar", "default", "fid")
    assert "run `licfg-hf evaluate`" in capsys.readouterr().err and hub.requests == []
