import subprocess
import sys

import pytest
import torch

from licfg_hf.errors import InputError, TrainingDiverged
from licfg_hf.training.checkpoint import checkpoints, load_description, load_state, remove_partial, save_checkpoint


def state(value: float = 1.0) -> dict:
    return {
        "network": {"weight": torch.full((100,), value)},
        "optimizers": {"state": {0: {"step": torch.tensor(3.0)}}},
    }


def test_round_trip_and_pruning(tmp_path):
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, step, state(step), {"identity": {}}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-10", "step-100"]
    torch.testing.assert_close(load_state(tmp_path / "step-100"), state(100))
    assert load_description(tmp_path / "step-100")["step"] == 100


def test_half_written_is_never_taken_for_whole(tmp_path):
    save_checkpoint(tmp_path, 1, state(), {}, keep=None)
    (tmp_path / ".writing-step-2").mkdir()
    (tmp_path / ".writing-step-2" / "state.pt").write_bytes(b"half")
    (tmp_path / "step-3").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-1"]
    remove_partial(tmp_path)
    assert not (tmp_path / ".writing-step-2").exists()


def test_damage_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, 1, state(), {"identity": {}}, keep=None)
    content = (path / "state.pt").read_bytes()
    (path / "state.pt").write_bytes(content[:-10])
    with pytest.raises(InputError, match="damaged"):
        load_description(path)
    (path / "state.pt").write_bytes(b"x" * len(content))
    with pytest.raises(InputError, match="cannot be read"):
        load_state(path)
    with pytest.raises(InputError, match="not a complete checkpoint"):
        load_description(tmp_path / "nothing")


def test_not_finite_weights_are_not_saved(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"weights\.network\.weight"):
        save_checkpoint(tmp_path, 1, state(float("nan")), {}, keep=None)
    assert not list(tmp_path.iterdir())


def test_only_a_failed_write_is_an_error_of_the_disk(tmp_path, monkeypatch):
    """torch's zip writer says that it failed, and not why: that stands before it, if anything does."""
    writer = RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
    full, lost = OSError(28, "No space left on device"), torch.AcceleratorError("CUDA error: an illegal memory access")
    save_checkpoint(tmp_path, 1, state(), {}, keep=None)

    def failing(*errors):
        def save(state, file):
            try:
                if errors[1:]:
                    raise errors[0]
            finally:
                raise errors[-1]

        return save

    for errors, found in (((full,), full), ((full, writer), full), ((lost,), lost), ((lost, writer), lost)):
        for error in errors:
            error.__context__ = None
        monkeypatch.setattr(torch, "save", failing(*errors))
        with pytest.raises(type(found)) as caught:
            save_checkpoint(tmp_path, 2, state(), {}, keep=None)
        assert caught.value is found
    writer.__context__ = None
    monkeypatch.setattr(torch, "save", failing(writer))
    with pytest.raises(OSError, match="unexpected pos"):
        save_checkpoint(tmp_path, 2, state(), {}, keep=None)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_a_device_that_fails_after_room_was_made_is_no_full_disk(tmp_path, monkeypatch):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state(), {"identity": {}}, keep=2)
    errors = [OSError(28, "No space left on device"), torch.AcceleratorError("CUDA error: an illegal memory access")]

    def save(state, file):
        raise errors.pop(0)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        save_checkpoint(tmp_path, 3, state(), {}, keep=2)
    assert not errors and [path.name for path in checkpoints(tmp_path)] == ["step-2"]


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    """A real failed write: the process may not write files of more than 100 kB."""
    save_checkpoint(tmp_path, 1, state(), {}, keep=1)
    code = (
        "import resource, sys, torch; from pathlib import Path;"
        "from licfg_hf.training.checkpoint import save_checkpoint;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));\n"
        "try: save_checkpoint(Path(sys.argv[1]), 2, {'weight': torch.zeros(1_000_000)}, {}, keep=1)\n"
        "except OSError as error: print('refused:', error)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert result.stdout.startswith("refused:"), result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    torch.testing.assert_close(load_state(tmp_path / "step-1"), state())
