"""Two real processes (gloo) against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parent))
import two_processes

from licfg_hf.cli import main as command


def launch(folder: Path, *arguments: str) -> list[dict]:
    """What the two processes saved."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    result = subprocess.run(
        [sys.executable, *command, two_processes.__file__, str(folder), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    found = launch(folder)
    assert (folder / "ddgan" / "model_index.json").is_file() and (folder / "gan" / "samples.png").is_file()
    return found


def require_equal_gradients(ranks: list[dict], single: dict[str, dict[str, torch.Tensor]]) -> None:
    for rank in ranks:
        for name, found in rank["gradients"].items():
            expected = single[name]
            assert found.keys() == expected.keys()
            for network in ("critic", "generator"):
                keys = [key for key in expected if key.startswith(network)]
                error = torch.stack([(found[key] - expected[key]).norm() for key in keys]).norm()
                size = torch.stack([expected[key].norm() for key in keys]).norm()
                tolerance = 5e-3 if "bf16" in name else 1e-5
                assert error / size < tolerance, (name, network, (error / size).item())


def test_two_processes_give_the_gradient_of_one_with_the_doubled_batch(ranks):
    assert [rank["processes"] for rank in ranks] == [2, 2]
    single = two_processes.all_gradients(Accelerator(cpu=True))
    assert ranks[0]["gradients"].keys() == ranks[1]["gradients"].keys() == single.keys()
    require_equal_gradients(ranks, single)


def test_two_processes_lead_a_weight_as_one_with_the_doubled_batch(ranks):
    single = two_processes.controlled_weights(Accelerator(cpu=True))
    assert len({weight for weight, _ in single}) > 3
    assert ranks[0]["controlled"] == ranks[1]["controlled"]
    torch.testing.assert_close(torch.tensor(ranks[0]["controlled"]), torch.tensor(single))


def test_no_process_ends_its_training_before_the_main_one_has_exported(ranks):
    assert [rank["published"] for rank in ranks] == [True, True]


@pytest.mark.slow
def test_two_processes_with_compiled_steps_give_the_gradient_of_one_without(tmp_path):
    require_equal_gradients(launch(tmp_path, "compiled"), two_processes.all_gradients(Accelerator(cpu=True)))


def test_one_process_may_evaluate_for_a_day_while_the_others_wait(ranks):
    assert [rank["patience"] for rank in ranks] == [86_400, 86_400]


def test_ranks_draw_different_noise_and_keep_equal_weights(ranks):
    assert not torch.allclose(ranks[0]["noise"], ranks[1]["noise"])
    for name, value in ranks[0]["trained"].items():
        assert torch.equal(value, ranks[1]["trained"][name]), name


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> tuple[Path, list[list[str]]]:
    """The folder of ``two_processes.evaluated``, and how each training in it ended on each rank."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LICFG_HF_CACHE", str(folder / "cache"))
        return folder, launch(folder, "evaluated")


def evaluations(folder: Path) -> dict[int, float]:
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {record["step"]: record["fid"] for record in records if "fid" in record}


@pytest.mark.slow
def test_an_evaluation_by_two_processes_has_the_numbers_of_one(evaluated, tmp_path, monkeypatch):
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "cache"))
    for name in ("whole", "stopped_at_the_end"):  # with running statistics, and with those gathered anew
        options = ["--data", "digits", "--features", "digits", "--metrics", "fid,pr,kid", "--seed", "5"]
        options += ["--limit", "350", "--reference_limit", "350", "--kid_subset_size", "350"]
        command(["evaluate", str(evaluated[0] / name), *options, "--output", str(tmp_path / "one.json")])
        files = (evaluated[0] / name / "eval.json", tmp_path / "one.json")
        two, one = (
            {name: entry["value"] for name, entry in json.loads(file.read_text())["metrics"].items()} for file in files
        )
        assert two == pytest.approx(one, rel=1e-5) and len(one) > 2


@pytest.mark.slow
def test_what_happens_to_one_process_in_an_evaluation_happens_to_all(evaluated):
    folder, ranks = evaluated
    first, other = ([end.partition(": ")[2] for end in ends] for ends in ranks)
    assert [end[:15] for end in first] == [end[:15] for end in other]
    whole, out_of_memory, broken, stopped, resumed, stopped_at_the_end, finished = first
    assert {whole, out_of_memory, resumed, finished} == {"done"}
    assert broken.startswith("RuntimeError process 1 failed") and "IndexError: list index out of range" in broken
    assert stopped.startswith("SystemExit 143 stopped at step 2 of 4")
    assert stopped_at_the_end.startswith("SystemExit 143 stopped at step 4 of 4")
    numbers = evaluations(folder / "whole")
    assert sorted(numbers) == [2, 4] and evaluations(folder / "stopped") == numbers  # it was made up for
    assert evaluations(folder / "out_of_memory") == {4: numbers[4]} and evaluations(folder / "broken") == {}
    best = json.loads((folder / "stopped" / "best" / "eval.json").read_text())
    assert best["metrics"]["fid"]["value"] == min(numbers.values())
