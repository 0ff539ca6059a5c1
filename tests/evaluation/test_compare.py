import json
import math
from pathlib import Path

import pytest

from licfg_hf.diagnostics.intervals import student_quantile
from licfg_hf.errors import InputError
from licfg_hf.evaluation.compare import compare, main
from licfg_hf.evaluation.result import parse_result, read_result

PROTOCOL = {
    "extractor": "inception", "extractor_hash": "0123456789abcdef", "preprocessing": "RGB 32 px",
    "reference": "cifar10", "reference_fingerprint": "ff", "reference_split": "train", "reference_count": 50_000,
    "samples": 50_000, "seed": 0, "weights": "ema", "selection": "final", "truncation": None, "flow": False,
    "jpeg": None, "dtype": "float32", "neighbours": 3, "kid_subsets": 100, "kid_subset_size": 1000, "is_splits": 10,
    "step": 100_000, "config_hash": "aaaa", "versions": {},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Writes the eval.json of a run and returns its folder."""

    def write(name: str, metrics: dict, **protocol) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        values = {metric: value if isinstance(value, dict) else {"value": value} for metric, value in metrics.items()}
        content = {"format": 1, "name": f"output/{name}", "protocol": PROTOCOL | protocol, "metrics": values}
        (folder / "eval.json").write_text(json.dumps(content))
        return folder

    return write


def section(text: str, metric: str) -> str:
    return text.partition(f"## {metric}: ")[2].partition("\n## ")[0]


def places(text: str) -> list[list[str]]:
    """Rows of the tables of a section that hold a place: cells without blanks around."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0].isdigit()]


def test_seeds_are_an_interval_and_the_best_group_comes_first(run):
    worse = [run(f"a{seed}", {"fid": value}, seed=seed) for seed, value in enumerate((14.0, 15.0, 16.0))]
    better = [
        run(f"b{seed}", {"fid": value}, config_hash="bbbb", step=7) for seed, value in enumerate((9.0, 10.0, 11.0))
    ]
    text = section(compare([*worse, *better]), "fid")
    first, second = places(text)
    assert first == ["1", "4, 5, 6", "`output/b0`, `output/b1`, `output/b2`", "10.0 ± 2.5 (3 runs)"]
    assert second[1] == "1, 2, 3" and second[3] == "15.0 ± 2.5 (3 runs)"
    half = student_quantile(4) * math.sqrt(2 / 3)
    assert f"- runs 4, 5, 6 minus runs 1, 2, 3: -5.0 ± {half:.1f}\n" in text
    assert "Lower is better." in text and "| FID" in text and "different steps" not in text


def test_higher_is_better_for_the_others(run):
    runs = [run("a", {"is": 7.0}), run("b", {"is": 8.0}, config_hash="bbbb")]
    text = section(compare(runs), "is")
    assert [row[1] for row in places(text)] == ["2", "1"]
    assert "Higher is better." in text and "Inception Score" in text and "mean over 10 splits" in text


def test_a_single_run_has_no_interval_and_neither_has_its_difference(run):
    group = [run(f"a{seed}", {"fid": 10.0 + seed}, seed=seed) for seed in range(2)]
    text = section(compare([*group, run("b", {"fid": 12.0}, config_hash="bbbb")]), "fid")
    assert places(text)[1][3] == "12 (1 run: no interval)"
    assert "runs 1, 2 minus run 3: -1.5, no interval: a single run" in text


def test_a_difference_within_its_interval_is_said_to_show_nothing(run):
    runs = [run(f"a{i}", {"fid": v}, seed=i) for i, v in enumerate((10.0, 12.0))]
    runs += [run(f"b{i}", {"fid": v}, seed=i, config_hash="bbbb") for i, v in enumerate((11.0, 13.0))]
    text = section(compare(runs), "fid")
    half = student_quantile(2) * math.sqrt(2)
    assert f"runs 1, 2 minus runs 3, 4: -1.0 ± {half:.1f}; the interval holds 0: no difference is shown\n" in text


def test_of_many_groups_only_the_differences_to_the_best_are_listed(run):
    runs = [run(f"a{i}", {"fid": 50.0 + i}, config_hash=f"a{i}") for i in range(5)]
    text = section(compare(runs), "fid")
    assert text.count(" minus ") == 10 and "only the differences to the best" not in text
    runs += [run(f"b{i}", {"fid": 40.0 - i}, config_hash=f"b{i}") for i in range(15)]
    text = section(compare(runs), "fid")
    assert text.count(" minus ") == text.count("run 20 minus run ") == 19
    assert "only the differences to the best are given" in text and len(places(text)) == 20


def test_many_protocols_are_set_against_the_first_only(run):
    runs = [run(f"a{i}", {"fid": 3.0}, samples=1000 + i) for i in range(8)]
    text = section(compare(runs), "fid")
    assert text.count("### fid, protocol ") == 8 and "Only what differs from the first is given" in text
    assert text.count("Not comparable with ") == text.count("Not comparable with protocol 1;") == 7


def test_a_group_of_many_models_names_a_few(run):
    text = section(compare([run(f"a{seed}", {"fid": float(seed)}, seed=seed) for seed in range(9)]), "fid")
    assert places(text)[0][2] == "`output/a0`, `output/a1`, `output/a2` and 6 more"


def test_what_is_not_comparable_is_never_in_one_order(run):
    runs = [
        run("best", {"fid": 3.0}, selection="best"),
        run("final", {"fid": 5.0}),
        run("few", {"fid": 4.0}, samples=10_000, jpeg=75),
        run("other", {"fid": 4.5}, config_hash="bbbb"),
    ]
    text = section(compare(runs), "fid")
    parts = text.split("### fid, protocol ")
    assert len(parts) == 4 and "3 protocols: numbers of different protocols cannot be compared" in parts[0]
    assert [[row[1] for row in places(part)] for part in parts[1:]] == [["1"], ["4", "2"], ["3"]]
    assert "Not comparable with protocol 1; its value comes first:\n\n- selection: 'best' and 'final'\n" in parts[2]
    assert "- samples: 50000 and 10000\n- selection: 'best' and 'final'\n- jpeg: none and 75\n" in parts[3]
    assert "protocol 2; its value comes first:\n\n- samples: 50000 and 10000\n- jpeg: none and 75\n" in parts[3]
    for part in parts[1:]:
        assert not any(f"run {one} minus run {other}" in part for one in "1" for other in "234")


def test_settings_of_other_metrics_do_not_keep_runs_apart(run):
    runs = [run("a", {"fid": 3.0, "is": 8.0}), run("b", {"fid": 5.0, "is": 9.0}, is_splits=1, seed=1)]
    text = compare(runs)
    assert places(section(text, "fid"))[0][1] == "1, 2"  # one group, of two seeds
    assert "- is_splits: 10 and 1" in section(text, "is")


def test_runs_of_unknown_settings_are_never_pooled(run):
    runs = [run(name, {"fid": 3.0 + len(name)}, config_hash=None, weights="images") for name in ("a", "bb")]
    assert [row[1] for row in places(section(compare(runs), "fid"))] == ["1", "2"]


def test_runs_of_different_steps_or_weights_are_not_pooled_and_seeds_of_one_training_are_one_run(run):
    runs = [run(f"a{step}", {"fid": 3.0 + step}, step=step) for step in (1, 2)]
    runs.append(run("raw", {"fid": 9.0}, step=1, weights="raw"))
    assert [row[1] for row in places(section(compare(runs), "fid"))] == ["1", "2", "3"]
    samplings = [run(f"s{seed}", {"fid": value}, seed=seed, training_seed=0) for seed, value in ((1, 3.0), (2, 5.0))]
    text = section(compare(samplings), "fid")
    assert "4 (1 run: no interval)" in text


def test_metrics_that_only_some_runs_have(run):
    text = compare([run("a", {"fid": 3.0, "recall": 0.5}), run("b", {"fid": 4.0}, config_hash="bbbb")])
    assert [row[1] for row in places(section(text, "recall"))] == ["1"]
    assert "## kid" not in text
    assert text.index("## fid") < text.index("## recall")


def test_uncertainties_have_two_digits(run):
    runs = [run(f"a{i}", {"kid": v}, seed=i) for i, v in enumerate((0.00123, 0.00125, 0.00127))]
    half = student_quantile(2) * 0.00002 / math.sqrt(3)
    assert f"0.001250 ± {half:.6f} (3 runs)" in compare(runs)
    same = [run(f"b{i}", {"recall": 0.5, "fid": float(i)}, seed=i) for i in range(2)]
    assert "0.5 ± 0 (2 runs)" in compare(same)


def test_one_result_is_not_counted_twice(run, tmp_path):
    folder = run("a", {"fid": 3.0})
    with pytest.raises(InputError, match="name it only once"):
        compare([folder, folder / "eval.json"])
    copy, content = tmp_path / "copy.json", json.loads((folder / "eval.json").read_text())
    copy.write_text(json.dumps(dict(reversed(content.items())) | {"metrics": {"fid": {"value": 3}}}))
    others = [run(f"b{seed}", {"fid": 3.0}, seed=seed) for seed in range(3)]
    with pytest.raises(InputError, match=r"/a and .*/copy\.json are the same result: name it only once"):
        compare([folder, *others, copy])
    with pytest.raises(InputError, match="name it only once"):
        compare([folder, folder])
    assert "| 1     | 1, 2, 3, 4 |" in compare([folder, *others])


def test_names_from_outside_are_only_text(run):
    folder = run("a", {"fid": 3.0}, reference="<b>x|y</b>")
    content = json.loads((folder / "eval.json").read_text()) | {"name": "evil`|\n# <script>"}
    (folder / "eval.json").write_text(json.dumps(content))
    text = compare([folder])
    assert "`evil'\\| # <script>`" in text and "\n# <" not in text and "\\<b>x\\|y\\</b>" in text


def test_the_command_prints_it(run, capsys):
    folder = run("a", {"fid": 3.0})
    main([str(folder)])
    assert capsys.readouterr().out == compare([folder])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2, and this version of licfg_hf reads up to 1"),
        ({"format": True}, "not a result of `licfg-hf evaluate`"),
        ({"name": 3}, "needs a name"),
        ({"metrics": None}, "needs a name and metrics"),
        ({"metrics": {"lpips": {"value": None}}}, "lpips needs a finite value"),
        ({"metrics": {"fid": {}}}, "fid needs a finite value"),
        ({"metrics": {"fid": 3}}, "fid needs a finite value"),
        ({"metrics": {"fid": {"value": math.nan}}}, "fid needs a finite value"),
        ({"metrics": {"fid": {"value": 10**400}}}, "fid needs a finite value"),
        ({"metrics": {"fid": {"value": True}}}, "fid needs a finite value"),
        ({"metrics": {"fid": {"value": 1, "std": "x"}}}, "fid needs a finite value"),
        ({"curves": 3}, "curve of precision and recall cannot be read"),
        ({"curves": {"precision_recall": [{"k": 1, "recall": 0.5}]}}, "curve of precision and recall cannot be read"),
        ({"curves": {"precision_recall": [{"k": 1, "precision": "x", "recall": 0.5}]}}, "has no finite numbers"),
        ({"protocol": None}, "JSON object"),
        ({"protocol": {"samples": 1}}, "is missing"),
    ],
)
def test_damaged_results(change, message):
    content = {"format": 1, "name": "a", "protocol": PROTOCOL, "metrics": {"fid": {"value": 1.0}}}
    assert parse_result(content, "here").metrics == {"fid": {"value": 1.0}}
    with pytest.raises(InputError) as caught:
        parse_result(content | change, "here")
    assert str(caught.value).startswith("here ") and message in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_unreadable_files(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half.json").write_text('{"format": 1, "na')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "list.json").write_text("[]")
    for name, message in {
        "nowhere": "does not exist",
        "empty": "has no eval.json",
        "half.json": "is not JSON",
        "binary.json": "is not JSON",
        "deep.json": "is not JSON",
        "list.json": "not a result of `licfg-hf evaluate`",
    }.items():
        with pytest.raises(InputError) as caught:
            read_result(tmp_path / name)
        assert message in str(caught.value) and name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="nothing to compare"):
        compare([])
