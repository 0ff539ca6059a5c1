"""Two real processes (gloo) with a sharded critic against one with the whole critic and the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import sharded_critic


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", sharded_critic.__file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, *command, str(folder)], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", sharded_critic.PENALTIES)
def test_a_sharded_critic_gets_the_gradient_of_a_whole_one(name, ranks):
    expected = sharded_critic.gradients(
        sharded_critic.critic(), sharded_critic.PENALTIES[name], slice(0, sharded_critic.BATCH)
    )
    for rank in ranks:
        for parameter, gradient in expected.items():
            torch.testing.assert_close(rank[name][parameter], gradient, rtol=1e-4, atol=1e-6)
