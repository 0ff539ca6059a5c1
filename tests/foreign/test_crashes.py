"""Kills, full disks and damaged files: what was trained stays, and a damaged file never decides without a word."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import PIL.Image
import psutil
import pytest
import torch
from children import SMALL, command, steps_in, train, weights

import licfg_hf
from licfg_hf.errors import InputError
from licfg_hf.files import remove_unfinished, writing
from licfg_hf.staging import finish_update, updated
from licfg_hf.training import checkpoint as checkpoint_file
from licfg_hf.training.checkpoint import checkpoints, save_checkpoint
from licfg_hf.training.interrupts import StopSignals
from licfg_hf.training.tracking import JSONLTracker, drop_lines_after

RECIPES = Path(licfg_hf.__file__).parent.parent / "recipes"
DEAD = 2**22 - 1  # no process has this number


def dies_before_saving(name):
    """A hook: the process is gone when a picture of that name is about to be written."""

    def hook():
        save = PIL.Image.Image.save

        def watched(self, place, *arguments, **options):
            if name in str(place):
                os._exit(77)
            return save(self, place, *arguments, **options)

        PIL.Image.Image.save = watched

    return hook


def small_files(limit):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    status, said = train(folder, 12)
    assert status == 0, said
    return folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """The same run, killed when the checkpoint of step 8 was there."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    status, said = train(folder, 12, until=lambda pid: (folder / "checkpoints" / "step-8").is_dir())
    assert status == -9, said
    return folder


@pytest.fixture
def copied(cut, tmp_path):
    return Path(shutil.copytree(cut, tmp_path / "run"))


def goes_on(folder, whole):
    """What a resumed run says that ends in the weights of the undisturbed one."""
    status, said = train(folder, 12)
    assert status == 0 and weights(folder) == weights(whole), said
    return said


CONTROLLED = """[{class_path: StrengthControlledPenalty, interval: 2, init_args: {averaging: 1, rate: 0.5, penalty:
    {class_path: r1, init_args: {weight: 0.1}}}}]"""


def test_a_controlled_weight_goes_on_bit_for_bit_after_a_kill(tmp_path):
    def finished(folder):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return weights(folder), [line.get("penalty_weight") for line in lines], card_of(folder)

    def card_of(folder):
        return next(line for line in (folder / "README.md").read_text().splitlines() if "Penalty:" in line)

    options = ("--penalties", CONTROLLED)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(whole, 12, *options)[0] == 0
    there = killed / "checkpoints" / "step-8"
    assert train(killed, 12, *options, until=lambda pid: there.is_dir())[0] == -signal.SIGKILL
    status, said = train(killed, 12, *options)
    assert status == 0, said
    assert finished(killed) == finished(whole)
    _, led, card = finished(whole)
    assert len({weight for weight in led if weight}) > 3
    assert f"whose weight went from 0.1 to {[one for one in led if one][-1]:.3g} for a strength rho of 0.15" in card


# ---- files that belong together


def test_an_export_that_is_killed_leaves_the_old_model(tmp_path):
    folder = tmp_path / "run"
    assert train(folder, 4)[0] == 0
    old = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name != "run"}
    described = [(folder / name).read_bytes() for name in ("training.json", "eval.json", "README.md", "samples.png")]
    assert train(folder, 8, hook=dies_before_saving("samples.png"))[0] == 77
    after = [(folder / name).read_bytes() for name in ("training.json", "eval.json", "README.md", "samples.png")]
    assert after == described
    kept = [path for path in old if path.parent.name in ("model", "discriminator")]
    assert len(kept) >= 4 and all(path.read_bytes() == old[path] for path in kept)
    assert command(tmp_path / "log", ["push", folder, "--repo_id", "a/b", "--dry_run"])[0] == 0


@pytest.mark.parametrize("name", ["model", "discriminator"])
def test_weights_of_another_step_are_not_pushed(whole, copied, tmp_path, name):
    folder = Path(shutil.copytree(whole, tmp_path / "mixed"))
    path = folder / name / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    status, said = command(tmp_path / "log", ["push", folder, "--repo_id", "a/b", "--dry_run"])
    assert status == 2 and "is not what the training exported" in said


def test_a_result_of_other_weights_is_not_pushed(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "mixed"))
    result = json.loads((folder / "eval.json").read_text())
    result["facts"]["weights"] = "0" * 16
    (folder / "eval.json").write_text(json.dumps(result))
    status, said = command(tmp_path / "log", ["push", folder, "--repo_id", "a/b", "--dry_run"])
    assert status == 2 and "eval.json was measured on other weights" in said


def two_files(folder, text):
    with updated(folder) as update:
        (update.place / "sub").mkdir()
        for name in ("a", "sub/b"):
            (update.place / name).write_text(text)
        update.removed.append("old")


def test_an_update_replaces_its_files_together_and_leaves_others(tmp_path):
    (tmp_path / "old").touch()
    (tmp_path / "other").touch()
    two_files(tmp_path, "1")
    with pytest.raises(RuntimeError), updated(tmp_path) as update:
        (update.place / "a").write_text("2")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "other", "sub"]
    assert (tmp_path / "a").read_text() == (tmp_path / "sub" / "b").read_text() == "1"


@pytest.mark.parametrize("name", ["replace", "unlink", "rmdir"])
def test_an_update_that_was_cut_off_is_finished_by_the_next_reader(tmp_path, monkeypatch, name):
    (tmp_path / "old").touch()

    work, done = getattr(os, name), []

    def cut_off(path, *arguments, **options):
        if str(path) == str(tmp_path / "old") or "/.update" in str(path):
            done.append(path)
            raise KeyboardInterrupt
        return work(path, *arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, name, cut_off)
        two_files(tmp_path, "1")
    assert done
    finish_update(tmp_path)
    there = {path.name for path in tmp_path.iterdir() if path.name[0] != "."}
    assert there == {"a", "sub"} and not (tmp_path / ".update").exists()


def test_an_update_reaches_no_other_folder(tmp_path):
    (tmp_path / "mine").touch()
    ready = tmp_path / "run" / ".update"
    ready.mkdir(parents=True)
    (ready / ".removed.json").write_text('["../mine"]')
    with pytest.raises(InputError, match="a file outside it"):
        finish_update(tmp_path / "run")
    assert (tmp_path / "mine").exists()


# ---- the history of a run


def test_a_full_disk_at_the_resume_keeps_the_history(copied):
    metrics = copied / "metrics.jsonl"
    lines = [json.dumps({"step": 1 + number // 5000, "pad": "x" * 60}) for number in range(60_000)]
    metrics.write_text("\n".join(lines) + "\n")  # 5 MB, a third of it after the checkpoint
    _, said = train(copied, 12, hook=small_files(3_000_000))
    assert metrics.read_text().count("\n") >= 40_000
    assert os.strerror(errno.EFBIG) in said and "Traceback" not in said


@pytest.mark.parametrize("line", [b"\0\0\0\0\n", b"GARBAGE\n", b"5\n", b"\xff\n", b'{"step": 1, "a\n', b"[" * 9999])
def test_a_bad_line_in_the_history_does_not_end_the_run(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    good = [json.dumps({"step": step}).encode() + b"\n" for step in range(1, 5)]
    path.write_bytes(b"".join([*good[:2], line.rstrip(b"\n") + b"\n", *good[2:], b'{"step": 5']))
    assert drop_lines_after(path, 3) == 1
    assert path.read_bytes() == b"".join(good[:3])


def test_dropped_lines_are_named(copied, whole):
    with open(copied / "metrics.jsonl", "ab") as file:
        file.write(b"GARBAGE\n")
    assert "1 line(s) of metrics.jsonl were damaged and are dropped" in goes_on(copied, whole)
    steps = [json.loads(line)["step"] for line in (copied / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))


def test_a_log_without_anything_to_drop_is_not_touched(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    before = path.stat()
    assert drop_lines_after(path, 2) == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_full_disk_leaves_no_half_line(tmp_path):
    def logs():
        tracker = JSONLTracker(tmp_path)
        tracker.log({"a": 1.0}, step=1)
        small_files(40)()
        try:
            tracker.log({"a": 1.0, "b": 2.0, "c": 3.0}, step=2)
        except OSError:
            os._exit(55)

    assert command(tmp_path / "log", [], hook=logs)[0] == 55
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "a": 1.0}\n'


# ---- checkpoints


def cut_short(folder):
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:1000])


def one_bit(folder):
    content = bytearray((folder / "state.pt").read_bytes())
    content[len(content) // 2] ^= 0x10
    (folder / "state.pt").write_bytes(content)


def no_state(folder):
    (folder / "state.pt").unlink()


def no_description(folder):
    (folder / "training.json").write_text("{")


def other_format(folder):
    description = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps({**description, "format": 99}))


RARE = (no_state, no_description, other_format)


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        one_bit,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (no_state, no_description, other_format)),
    ],
)
def test_an_older_checkpoint_stands_in_for_a_damaged_one(copied, whole, damage):
    damage(copied / "checkpoints" / "step-8")
    said = goes_on(copied, whole)
    assert "it is now unusable-step-8, going on from step-4" in said


def test_no_good_checkpoint_ends_in_one_line(copied):
    for step, damage in ((4, one_bit), (8, cut_short)):
        damage(copied / "checkpoints" / f"step-{step}")
    status, said = train(copied, 12)
    assert status == 2 and "no other checkpoint can be used" in said and "Traceback" not in said
    assert (copied / "checkpoints" / "step-8").is_dir()


def resaved(folder, state):
    """A checkpoint whose sum is right and whose content is not."""
    torch.save(state, folder / "state.pt")
    path = folder / "state.pt"
    description = json.loads((folder / "training.json").read_text())
    description |= {"bytes": path.stat().st_size, "sha256": checkpoint_file.sha256_of(path)}
    (folder / "training.json").write_text(json.dumps(description))


@pytest.mark.slow
def test_a_checkpoint_of_another_layout_is_refused_in_one_line(copied):
    folder = copied / "checkpoints" / "step-8"
    known = torch.load(folder / "state.pt", weights_only=True)
    moments = known["optimizers"]["generator"]["state"][0]
    states = [{key: value for key, value in known.items() if key != gone} for gone in ("optimizers", "average")]
    states.append({**known, "generator": {**known["generator"], "surplus": torch.ones(1)}})
    states.append({**known, "generator": Path("x")})  # code, which is not run
    moments["exp_avg"] = moments["exp_avg"][..., :1].clone()
    states.append(known)
    for state in states:
        resaved(folder, state)
        status, said = train(copied, 12)
        error = [line for line in said.splitlines() if line.startswith("error:")]
        assert status == 2 and len(error) == 1 and "step-8" in error[0], said
        assert "Traceback" not in said and "weights_only" not in said


def test_space_for_a_checkpoint_is_made_where_the_newest_is_good(tmp_path, monkeypatch):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"a": torch.ones(3)}, {"identity": {}}, keep=2)
    save, full = torch.save, [True]

    def saves(*arguments):
        if full.pop() if full else False:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments)

    monkeypatch.setattr(torch, "save", saves)
    save_checkpoint(tmp_path, 3, {"a": torch.ones(3)}, {"identity": {}}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-2", "step-3"]
    full.append(True)
    one_bit(tmp_path / "step-3")
    with pytest.raises((OSError, InputError)):
        save_checkpoint(tmp_path, 4, {"a": torch.ones(3)}, {"identity": {}}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-2", "step-3"]


@pytest.mark.slow
def test_other_circumstances_of_a_resumed_run_are_named(copied):
    path = copied / "checkpoints" / "step-8" / "training.json"
    description = json.loads(path.read_text())
    description |= {"processes": 2, "versions": {**description["versions"], "torch": "1.0"}}
    path.write_text(json.dumps(description))
    status, said = train(copied, 12)
    assert status == 0 and "processes: 2 there, 1 here" in said and "versions.torch: 1.0 there" in said


# ---- pictures


def test_a_picture_is_made_up_after_a_kill(tmp_path):
    folder = tmp_path / "run"
    assert train(folder, 8, hook=dies_before_saving("step-000004"))[0] == 77
    assert train(folder, 8)[0] == 0
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["step-000004.png", "step-000008.png"]


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint(tmp_path, number):
    folder, sent = tmp_path / "run", []

    def send(pid):
        if not sent and steps_in(folder) >= 2:
            sent.append(os.kill(pid, number))
            os.kill(pid, number)  # as a terminal does, together with its shell
        return False

    rare = ["--checkpoint_every", 100_000, "--sample_every", 100_000]
    status, said = train(folder, 100_000, *rare, until=send, limit=60)
    assert status == 128 + number and "continues from there" in said, said
    assert list((folder / "checkpoints").glob("step-*"))


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.received is None and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_ends_at_once_what_can_be_done_again():
    with StopSignals() as signals:
        began = time.monotonic()
        signals.until_stopped(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(20)))
        signals.until_stopped(lambda: time.sleep(20))
    assert time.monotonic() - began < 10 and signals.received == signal.SIGTERM


def test_a_signal_during_a_long_evaluation_is_heeded(tmp_path):
    """The reference's features alone would take longer than any grace."""
    folder, sent = tmp_path / "run", []

    def slow():
        from licfg_hf.training.monitoring import GeneratorSamples

        patch.object(GeneratorSamples, "chunk", lambda *arguments: time.sleep(100)).start()

    def send(pid):
        said = (tmp_path / "run.log").read_text(errors="replace") if (tmp_path / "run.log").exists() else ""
        if not sent and "evaluating" in said:
            sent.append(os.kill(pid, signal.SIGTERM))
        return False

    status, said = train(folder, 100, "--evaluate_every", 2, until=send, hook=slow, limit=60)
    assert status == 128 + signal.SIGTERM and (folder / "checkpoints" / "step-2").is_dir(), said


@pytest.mark.slow
def test_term_to_accelerate_launch_leaves_a_checkpoint(tmp_path):
    folder = tmp_path / "run"
    options = [*SMALL.split(), "--max_steps", "100000", "--checkpoint_every", "100000", "--sample_every", "100000"]
    script = [RECIPES / "biggan_eps_cifar.py", *options, "--output_dir", folder]
    launch = [Path(sys.executable).parent / "accelerate", "launch", "--cpu", *script]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(launch, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while steps_in(folder) < 3:
            assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        process.terminate()
        process.wait()
        deadline = time.monotonic() + 20
        while "continues from there" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        assert list(folder.glob("checkpoints/step-*"))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- the folder, left-overs and words


def test_a_run_whose_folder_is_renamed_does_not_make_it_anew(tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"

    def rename(pid):
        if not moved.exists() and steps_in(folder) >= 2:
            folder.rename(moved)
        return False

    rare = ["--checkpoint_every", 100_000, "--sample_every", 100_000]
    status, said = train(folder, 100_000, *rare, until=rename, limit=60)
    assert status == 1 and "was renamed during the run" in said and not folder.exists(), said
    assert list(moved.glob("checkpoints/step-*"))


def test_what_a_killed_process_left_is_removed(copied, whole):
    left = [copied / f".{DEAD}.training.json.partial", copied / "samples" / f".{DEAD}.x.png.partial"]
    for path in left:
        path.write_text("{")
    (copied / f".{DEAD}.update.partial" / "model").mkdir(parents=True)
    (copied / "checkpoints" / ".writing-step-9").mkdir()
    goes_on(copied, whole)
    hidden = [path.name for path in copied.rglob(".*")]
    assert hidden == [".lock"]


def test_what_a_living_process_writes_is_not_removed(tmp_path):
    living, name = tmp_path / f".{os.getppid()}.a.partial", tmp_path / ".my.partial"
    living.touch(), name.touch()
    remove_unfinished(tmp_path)
    assert living.exists() and name.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), writing(tmp_path / "a") as file:
        file.write(b"new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("limit", [pytest.param(20_000, marks=pytest.mark.slow), 200_000])
def test_a_full_disk_is_called_by_its_name(tmp_path, limit):
    status, said = train(tmp_path / "run", 4, hook=small_files(limit))
    assert status != 0 and "Traceback" not in said and "enforce fail" not in said, said[-1500:]
    assert os.strerror(errno.EFBIG) in said


@pytest.mark.slow
def test_a_signal_to_one_process_of_two_stops_both_after_a_checkpoint(tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    options = [*SMALL.split(), "--max_steps", "100000", "--checkpoint_every", "100000", "--sample_every", "100000"]
    script = [RECIPES / "biggan_eps_cifar.py", *options, "--output_dir", folder]
    launch = [Path(sys.executable).parent / "torchrun", "--nproc_per_node", "2", "--master_port", "29611", *script]
    with open(log, "w") as file:
        process = subprocess.Popen(launch, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while steps_in(folder) < 3:
            assert time.monotonic() < deadline and process.poll() is None, log.read_text()
            time.sleep(0.05)
        second = next(
            child for child in psutil.Process(process.pid).children() if child.environ().get("LOCAL_RANK") == "1"
        )
        second.terminate()
        process.wait(timeout=60)
        assert "continues from there" in log.read_text() and list(folder.glob("checkpoints/step-*"))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
