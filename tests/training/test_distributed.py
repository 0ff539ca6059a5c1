"""Two real processes (gloo) against one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parent))
import two_processes


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
