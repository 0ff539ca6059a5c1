"""The check of a machine with a GPU is rehearsed without one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "studies" / "gpu_check.py"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """The script in a process of its own, because it sets what holds for a whole process."""
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_a_rehearsal_reports_its_sections_and_the_failure_of_one_does_not_end_it(tmp_path):
    done = run(tmp_path, "--only", "pipelines,agrees_with_the_cpu", "--patience", "20", "--out", "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert done.returncode == 0 and "no section failed" in done.stdout, done.stderr
    assert list(report["sections"]) == ["agrees_with_the_cpu", "pipelines"] and report["device"] == "cpu"
    assert report["sections"]["pipelines"]["found"] == {"calls": 20}
    assert report["sections"]["agrees_with_the_cpu"]["found"]["worst"]["float32"] == 0

    late = run(tmp_path, "--only", "agrees_with_the_cpu,presets_fit", "--patience", "0.001", "--out", "late.json")
    report = json.loads((tmp_path / "late.json").read_text())
    assert late.returncode == 1 and "failed: agrees_with_the_cpu" in late.stdout
    assert "TooLong" in report["sections"]["agrees_with_the_cpu"]["error"]
    assert report["sections"]["presets_fit"]["found"] == {"skipped": "needs a GPU"}


@pytest.mark.slow
def test_a_section_that_is_none_is_refused_in_one_line(tmp_path):
    refused = run(tmp_path, "--only", "speed")
    assert refused.returncode == 2 and refused.stderr.startswith("error: --only takes names of sections")
    assert refused.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
