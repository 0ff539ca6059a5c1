"""SIGKILL at random moments and at each file of an export: the folder is one whole state, and nothing is lost."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from children import command, train, weights

from licfg_hf import GANPipeline
from licfg_hf.evaluation.samples import weights_of

OLD, NEW = 4, 8
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of OLD steps, and the same prolonged to NEW steps, undisturbed."""
    folder = tmp_path_factory.mktemp("kills")
    status, said = train(folder / "old", OLD)
    assert status == 0, said
    shutil.copytree(folder / "old", folder / "new")
    status, said = train(folder / "new", NEW)
    assert status == 0, said
    return {step: folder / name for step, name in ((OLD, "old"), (NEW, "new"))}


def the_one_whole_state(folder, finished, tmp_path):
    """Checks a folder that a kill left, as it lies there and as ``push`` opens it; returns the step that it is of."""
    known = {step: weights(place) for step, place in finished.items()}
    assert weights(folder) in known.values()  # no half file, and ``from_pretrained`` of diffusers loads it
    status, said = command(tmp_path / "push.log", ["push", folder, "--repo_id", "a/b", "--dry_run"])
    assert status == 0, said
    (step,) = [step for step in known if known[step] == weights(folder)]
    facts = json.loads((folder / "training.json").read_text())
    assert facts["step"] == step == json.loads((folder / "eval.json").read_text())["protocol"]["step"]
    assert facts["weights"] == weights_of(folder) == weights_of(finished[step])
    assert f"after {step} steps" in (folder / "README.md").read_text()
    assert (folder / "samples.png").read_bytes() == (finished[step] / "samples.png").read_bytes()
    GANPipeline.from_pretrained(folder)
    return step


def is_finished_by_another_try(folder, finished):
    status, said = train(folder, NEW)
    assert status == 0, said
    assert weights_of(folder) == weights_of(finished[NEW])
    assert [path.name for path in folder.rglob(".*")] == [".lock"]


def dies_at(number):
    """A hook: SIGKILL before the export changes its ``number``-th name, or has it flushed."""

    def hook():
        left = [number]

        def counting(work):
            def counted(*arguments, **options):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return work(*arguments, **options)

            return counted

        from licfg_hf.training import export as module

        export = module.export

        def watched(trainer):
            for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync"):
                setattr(os, name, counting(getattr(os, name)))
            export(trainer)

        module.export = watched

    return hook


def test_at_each_file_of_an_export(finished, tmp_path):
    ready = tmp_path / "ready"  # trained, and not yet exported
    shutil.copytree(finished[OLD], ready)
    assert train(ready, NEW, hook=dies_at(1))[0] == -signal.SIGKILL
    seen, number = [], 1
    while True:
        folder = Path(shutil.copytree(ready, tmp_path / "run"))
        status, said = train(folder, NEW, hook=dies_at(number))
        if status == 0:
            break
        assert status == -signal.SIGKILL, said
        seen.append(the_one_whole_state(folder, finished, tmp_path))
        if number % 8 == 0:
            is_finished_by_another_try(folder, finished)
        shutil.rmtree(folder)
        number += 1
    assert seen == sorted(seen) and set(seen) == {OLD, NEW} and len(seen) > 20


def test_at_random_moments(finished, tmp_path):
    rng = random.Random(0)
    began = time.monotonic()
    shutil.copytree(finished[OLD], tmp_path / "timed")
    assert train(tmp_path / "timed", NEW)[0] == 0
    longest = time.monotonic() - began
    for number in range(30):
        folder = Path(shutil.copytree(finished[OLD], tmp_path / f"run-{number}"))
        end = time.monotonic() + rng.uniform(0, longest)
        train(folder, NEW, until=lambda pid, end=end: time.monotonic() > end)
        the_one_whole_state(folder, finished, tmp_path)
        is_finished_by_another_try(folder, finished)
        shutil.rmtree(folder)
