"""A metric that this package has never seen: one class, measured, kept, read back and ranked by."""

import json
import sys
from typing import ClassVar

import pytest

from licfg_hf.cli import main as command
from licfg_hf.errors import InputError
from licfg_hf.evaluation.compare import compare
from licfg_hf.evaluation.metrics import METRICS, Metric, metric_options, register_metric
from licfg_hf.evaluation.options import EvaluationConfig
from licfg_hf.evaluation.result import parse_result, read_result
from licfg_hf.hub.leaderboard import build


class Brightness(Metric):
    name, title, higher_is_better = "brightness", "mean brightness", True
    added: ClassVar = {"brightness_scale": 255}
    pixels, high = 150, 1.0

    def require(self, plan):
        if plan.samples < 10:
            raise InputError(f"brightness needs 10 samples, not {plan.samples}")

    def compute(self, measured):
        assert len(measured.pixels) >= 150 or len(measured.pixels) == measured.samples.moments.count
        return {"value": measured.pixels[:150].float().mean().item() / 255, "std": 0.5}


@pytest.fixture
def own():
    before = dict(METRICS)
    yield register_metric(Brightness)
    METRICS.clear()
    METRICS.update(before)


def measure(tmp_path, name, *options):
    given = ["--data", "digits", "--features", "digits", "--limit", "200", "--reference_limit", "200"]
    command(["evaluate", "digits", *given, "--output", str(tmp_path / name / "eval.json"), *options])
    return json.loads((tmp_path / name / "eval.json").read_text())


def test_a_metric_of_ones_own_is_measured_kept_read_back_and_compared(own, tmp_path, capsys):
    content = measure(tmp_path, "one", "--metrics", "brightness,fid")
    assert "mean brightness (digits)" in capsys.readouterr().out
    assert list(content["metrics"]) == ["fid", "brightness"] and 0 < content["metrics"]["brightness"]["value"] < 1
    assert content["protocol"]["brightness_scale"] == 255
    read = read_result(tmp_path / "one")
    assert read.metrics["brightness"] == content["metrics"]["brightness"] and read.unknown == ()
    text = compare([tmp_path / "one"])
    assert "## brightness: mean brightness (digits)\n\nHigher is better." in text and "Not known" not in text
    assert "brightness_scale: 255" in text.partition("## brightness")[2]
    assert "brightness_scale" not in text.partition("## brightness")[0]
    board = build("digits", "brightness", [tmp_path / "one"], hub=False, baselines=False)
    assert board.groups[0].rows[0].value == content["metrics"]["brightness"]["value"]


def test_a_module_with_a_metric_is_imported_by_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    before = dict(METRICS)
    (tmp_path / "darkness_metric.py").write_text(
        "from licfg_hf.evaluation import Metric, register_metric\n\n\n@register_metric\nclass Darkness(Metric):\n"
        "    name, title, higher_is_better, pixels = 'darkness', 'mean darkness', False, 10\n\n"
        "    def compute(self, measured):\n        return {'value': 1 - measured.pixels.float().mean().item() / 255}\n"
    )
    try:
        content = measure(tmp_path, "one", "--metrics", "darkness", "--import", "darkness_metric")
        assert 0 < content["metrics"]["darkness"]["value"] < 1
        command(["compare", "one", "--import", "darkness_metric"])
        assert "## darkness: mean darkness (digits)\n\nLower is better." in capsys.readouterr().out
        del METRICS["darkness"], sys.modules["darkness_metric"]  # the choices of --metric come after the import
        options = ["--no-hub", "--no-baselines", "--dataset", "digits", "--metric", "darkness"]
        command(["leaderboard", "one", *options, "--import", "darkness_metric"])
        assert "darkness" in capsys.readouterr().out
    finally:
        METRICS.clear()
        METRICS.update(before)


def test_its_own_settings_keep_its_numbers_apart_and_no_others(own, tmp_path, monkeypatch):
    measure(tmp_path, "one", "--metrics", "brightness,fid")
    content = json.loads((tmp_path / "one" / "eval.json").read_text())
    content["protocol"] |= {"brightness_scale": 100, "seed": 1}
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "eval.json").write_text(json.dumps(content))
    others, _, ours = compare([tmp_path / "one", tmp_path / "two"]).partition("## brightness: ")
    assert "Measured by 2 protocols" in ours and "- brightness_scale: 255 and 100" in ours
    assert "Measured by" not in others


def test_where_it_is_not_known_its_numbers_are_kept_and_shown(own, tmp_path):
    content = measure(tmp_path, "one", "--metrics", "brightness")
    METRICS.pop("brightness")
    shown = dict(parse_result(content, "here").unknown)
    assert shown == {"protocol.brightness_scale": "255", "brightness": str(content["metrics"]["brightness"]["value"])}
    assert "- run 1: brightness: 0." in compare([tmp_path / "one"])
    with pytest.raises(InputError, match="not brightness"):
        EvaluationConfig("digits", metrics=("brightness",))


def test_impossible_numbers_of_it_are_refused_and_so_is_what_it_cannot_measure(own, tmp_path, capsys):
    content = measure(tmp_path, "one", "--metrics", "brightness")
    content["metrics"]["brightness"]["value"] = 1.5
    with pytest.raises(InputError, match=r"no brightness is 1\.5"):
        parse_result(content, "here")
    with pytest.raises(SystemExit):
        measure(tmp_path, "two", "--metrics", "brightness", "--limit", "5")
    assert "brightness needs 10 samples, not 5" in capsys.readouterr().err


def test_a_name_stands_for_one_metric_and_a_metric_says_what_it_is(own):
    assert metric_options() == ["fid", "kid", "is", "pr", "dc", "acc", "nd", "brightness"]
    register_metric(Brightness)  # a module that is imported anew

    class Other(Brightness):
        pass

    with pytest.raises(ValueError, match="there is a metric 'brightness' already"):
        register_metric(Other)

    class Nameless(Metric):
        title = "nothing"

    with pytest.raises(ValueError, match="Nameless needs name, higher_is_better"):
        register_metric(Nameless)
    assert "nothing" not in [metric.title for metric in METRICS.values()]
