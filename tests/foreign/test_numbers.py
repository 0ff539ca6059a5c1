"""Numbers of strangers: sets in any order, results that cannot be, results of newer versions, data by its content."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from licfg_hf.cli import main
from licfg_hf.data import DataConfig, open_images
from licfg_hf.errors import InputError
from licfg_hf.evaluation.compare import compare
from licfg_hf.evaluation.evaluate import evaluate
from licfg_hf.evaluation.metrics import METRICS
from licfg_hf.evaluation.options import EvaluationConfig
from licfg_hf.evaluation.protocol import require_possible
from licfg_hf.evaluation.result import parse_result, stored_result
from licfg_hf.evaluation.samples import open_samples
from licfg_hf.hub.card import results_section, with_results
from licfg_hf.hub.leaderboard import build
from licfg_hf.hub.leaderboard_page import to_json

PROTOCOL = {
    "extractor": "digits", "extractor_hash": "0123", "preprocessing": "grey 8 px", "reference": "../shapes",
    "reference_fingerprint": "aaaa", "reference_split": "train", "reference_count": 100, "samples": 100, "seed": 0,
    "weights": "ema", "selection": "final", "truncation": None, "flow": False, "jpeg": None, "dtype": "float32",
    "neighbours": 3, "kid_subsets": 1, "kid_subset_size": 100, "is_splits": 10, "step": 10, "config_hash": "c",
    "versions": {},
}  # fmt: skip


def result(metrics=None, **protocol) -> dict:
    metrics = {"fid": 5.0} if metrics is None else metrics
    values = {name: value if isinstance(value, dict) else {"value": value} for name, value in metrics.items()}
    return {"format": 1, "name": "mine", "protocol": PROTOCOL | protocol, "metrics": values}


@pytest.fixture
def stored(tmp_path):
    """Writes a result and returns its folder."""

    def write(content: dict, name: str | None = None):
        folder = tmp_path / (name or f"run{len(list(tmp_path.iterdir()))}")
        folder.mkdir()
        (folder / "eval.json").write_text(json.dumps(content))
        return folder

    return write


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    capsys.readouterr()
    try:
        main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as error:
        status = error.code or 0
    said = capsys.readouterr()
    return status, said.out, said.err


# ---- the order of the files


@pytest.fixture(scope="module")
def digits():
    images = open_images(DataConfig(), progress=False)
    chosen = torch.arange(600)
    return images.fetch(chosen, 0)[:, 0].numpy(), images.labels[chosen].numpy()


def folder_of(place, pixels, names):
    place.mkdir(parents=True)
    for name, picture in zip(names, pixels, strict=True):
        Image.fromarray(picture).save(place / f"{name}.png")
    return place


@pytest.mark.parametrize("metrics", [("is", "kid", "pr"), ("is", "acc")])
def test_numbers_of_images_sorted_by_class_are_those_of_shuffled_ones(tmp_path, digits, metrics):
    pixels, labels = digits
    shuffled = np.random.default_rng(1).permutation(len(pixels))
    numbers = []
    for name, order in (("sorted", np.argsort(labels, kind="stable")), ("shuffled", shuffled)):
        place = folder_of(tmp_path / name, pixels[order], [f"{number:04d}" for number in range(len(pixels))])
        options = {"data": "digits", "features": "digits", "kid_subset_size": 200, "kid_subsets": 20}
        config = EvaluationConfig(str(place), metrics=metrics, output=str(tmp_path / f"{name}.json"), **options)
        numbers.append({name: entry["value"] for name, entry in evaluate(config)["metrics"].items()})
    one, other = numbers
    assert one["is"] == pytest.approx(other["is"], abs=0.4) and one["is"] > 8
    for name in one.keys() - {"is", "kid"}:
        assert one[name] == pytest.approx(other[name], abs=1e-6)  # of the whole set
    if "kid" in one:
        assert one["kid"] == pytest.approx(other["kid"], abs=1.0)


@pytest.mark.slow
def test_the_neural_divergence_of_sorted_images_sees_every_class(tmp_path, digits):
    pixels, labels = digits
    order = np.argsort(labels, kind="stable")
    names = [f"{number:04d}" for number in range(len(pixels))]
    held = folder_of(tmp_path / "data" / "test", pixels[order][::2], names[: len(pixels[::2])])
    folder_of(tmp_path / "data" / "train", pixels[order][1::2], names[: len(pixels[1::2])])
    output = str(tmp_path / "nd.json")
    config = EvaluationConfig(str(held), str(held.parent), metrics=("nd",), features="pixels", output=output)
    value = evaluate(config)["metrics"]["neural_divergence"]["value"]
    assert value < 0.1  # with the first classes alone, the critic tells the two apart: above 0.3


def test_the_first_samples_are_of_every_class(tmp_path, digits):
    """Those that a report shows, that the neural divergence sees, and that a limit leaves."""
    pixels, labels = digits
    order = np.argsort(labels, kind="stable")
    names = [f"{number:04d}" for number in range(len(pixels))]
    place = folder_of(tmp_path / "sorted", pixels[order], names)
    known = {picture.tobytes(): int(label) for picture, label in zip(pixels, labels, strict=True)}
    for limit in (None, 64):
        source = open_samples(EvaluationConfig(str(place), limit=limit), torch.device("cpu"))
        first = source.chunk(0)[0][:64, 0].numpy()
        assert {known[picture.tobytes()] for picture in first} == set(range(10))


# ---- grey pictures stored as RGB


@pytest.mark.parametrize("swapped", [False, True])
def test_grey_pictures_stored_as_rgb_and_grey_ones_are_compared(tmp_path, digits, swapped, capsys):
    pixels, _ = digits
    names = [f"{number:03d}" for number in range(50)]
    grey = folder_of(tmp_path / "grey", pixels[:50], names)
    rgb = folder_of(tmp_path / "rgb", [np.stack([one] * 3, axis=2) for one in pixels[:50]], names)
    sides = (grey, rgb) if swapped else (rgb, grey)
    options = ("--features", "digits", "--metrics", "fid", "--output", tmp_path / "eval.json")
    status, _, said = run(capsys, "evaluate", sides[0], "--data", sides[1], *options)
    assert status == 0, said
    assert json.loads((tmp_path / "eval.json").read_text())["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-6)


def test_colour_and_grey_are_compared_by_an_option_that_the_refusal_names(tmp_path, digits, capsys):
    pixels, _ = digits
    names = [f"{number:03d}" for number in range(50)]
    grey = folder_of(tmp_path / "grey", pixels[:50], names)
    rgb = folder_of(tmp_path / "rgb", [np.stack([one, one, 255 - one], axis=2) for one in pixels[:50]], names)
    options = ("--data", grey, "--features", "pixels", "--metrics", "fid", "--output", tmp_path / "eval.json")
    status, _, said = run(capsys, "evaluate", rgb, *options)
    assert status == 2 and "--image_channels 1 (grey) or 3 (RGB)" in said and said.count("\n") == 1
    for channels in (1, 3):
        status, _, said = run(capsys, "evaluate", rgb, *options, "--image_channels", channels)
        assert status == 0, said
    assert run(capsys, "evaluate", rgb, *options, "--image_channels", 2)[0] == 2


# ---- numbers that cannot be

IMPOSSIBLE = [
    {"metrics": {name: value}}
    for name, values in {
        "fid": (-5, -1e-9, math.nan, math.inf, -math.inf, "5", True, None, [1], 10**400),
        "is": (0.99, -1.0),
        "precision": (1.01, -0.01), "recall": (2,), "coverage": (1.5,), "class_accuracy": (99.0,), "density": (-1,),
        "neural_divergence": (1.0, -2.0), "classes_covered": (-1,),
    }.items()
    for value in values
]  # fmt: skip
IMPOSSIBLE += [
    {"metrics": {"fid": {"value": 5.0, "std": -1}}},
    {"metrics": {"fid": {"value": 5.0, "low": 6.0}}},
    {"metrics": {"kid": -5.0}, "extractor": "inception"},
    *({name: 0} for name in ("samples", "reference_count", "neighbours", "kid_subsets", "kid_subset_size")),
    {"samples": -100}, {"step": -1}, {"samples": True}, {"is_splits": "10"},
]  # fmt: skip


@pytest.mark.parametrize("content", IMPOSSIBLE, ids=str)
def test_an_impossible_result_is_refused_wherever_it_comes_from(stored, capsys, content):
    bad, good = stored(result(**content)), stored(result())
    for words in (["compare", bad, good], ["leaderboard", bad, good, "--dataset", "shapes", "--no-hub"]):
        status, out, said = run(capsys, *words)
        assert status == 2 and out == "" and said.count("\n") == 1 and said.startswith("error: "), said
    for reader in (results_section, lambda results: with_results("# A card\n", results)):
        with pytest.raises(InputError) as caught:
            reader([result(**content)])
        assert "\n" not in str(caught.value)
    assert stored_result(bad / "eval.json") is None


def test_a_curve_is_within_its_ranges_too():
    content = result() | {"curves": {"precision_recall": [{"k": 1, "precision": 1.5, "recall": 0.5}]}}
    with pytest.raises(InputError, match="no precision is"):
        parse_result(content, "here")


def test_estimates_may_stray_below_zero_as_far_as_their_features_do():
    require_possible("kid", {"value": -0.5}, "inception")
    require_possible("kid", {"value": -60.0}, "digits")  # five subsets of four digits give such
    with pytest.raises(InputError, match="no kid is -60"):
        require_possible("kid", {"value": -60.0}, "inception")


# ---- results of newer versions


def newer() -> dict:
    content = result({"fid": {"value": 5.0, "median": 4.5}, "lpips_diversity": {"value": 0.25, "std": 0.01}})
    content["protocol"]["antialias"] = "lanczos"
    return content | {"hardware": {"watts": 300}}


def test_what_a_newer_version_added_is_kept_and_shown(stored, tmp_path):
    content = newer()
    folder = stored(content)
    known = parse_result(content, "here")
    assert known.protocol.as_dict().items() >= content["protocol"].items()  # nothing is lost on the way back
    text = compare([folder])
    board = build("shapes", "fid", [folder], hub=False, baselines=False)
    card = with_results(f"# A card\n\n{results_section([])}\n", [content])
    for shown in (text, to_json(board), card):
        for part in ("antialias", "lanczos", "lpips_diversity", "0.25", "median", "4.5", "hardware", "300"):
            assert part in shown, part
    assert stored_result(folder / "eval.json") == content
    (entry,) = json.loads(to_json(board))["groups"][0]["rows"]
    assert entry["value"] == 5.0


def test_results_that_differ_in_an_unknown_field_have_no_common_order(stored):
    one, same, other = stored(result(seed=1)), stored(result(antialias=None)), stored(result(antialias="lanczos"))
    text = compare([one, same, other])
    assert "Measured by 2 protocols" in text and "- antialias: none and 'lanczos'" in text
    board = build("shapes", "fid", [one, same, other], hub=False, baselines=False)
    assert [len(group.rows) for group in board.groups] == [2, 1]


def test_a_changed_meaning_is_refused_in_one_line(stored, capsys):
    folder = stored(result() | {"format": 2})
    status, _, said = run(capsys, "compare", folder)
    assert status == 2 and said.count("\n") == 1 and "format 2" in said and "update" in said


def test_what_is_unknown_reaches_no_terminal_as_it_is(stored):
    content = result({"fid": 5.0, "\x1b]0;title\x07<b>": 1.0}, **{"\x1b[31m|field`": "\u202e\n# head"})
    content |= {"<script>\x1b": "\x07"}
    folder = stored(content)
    for text in (compare([folder]), with_results(f"# A card\n\n{results_section([])}\n", [content])):
        body = text.partition("\n# A card")[2] or text.partition("# Comparison")[2]  # YAML escapes by itself
        assert not set(body) & set("\x1b\x07\u202e") and "\n# head" not in body
        assert "\\<script>" in body and "<script>" not in body.replace("\\<", "")
    with pytest.raises(InputError, match="cannot be seen"):
        build("shapes", "fid", [folder], hub=False, baselines=False)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_bounds_that_hold_for_its_best_value(metric):
    best = {"is": 10.0, "neural_divergence": 0.0}.get(metric, 1.0)
    require_possible(metric, {"value": best, "std": 0.0, "low": best, "high": best}, "inception")


# ---- data by its content


@pytest.mark.parametrize("asked", ["shapes", "../shapes", "./shapes/", "/elsewhere/shapes", "aaaa"])
def test_a_data_set_is_one_however_its_path_is_spelled(stored, asked):
    spellings = ("../shapes", "./shapes", "shapes/", "/abs/path/shapes", "C:\\data\\shapes", "..\\shapes")
    runs = [stored(result(reference=path, seed=number)) for number, path in enumerate(spellings)]
    runs.append(stored(result(reference="/moved/shapes-2026", seed=9)))  # the same content under another name
    board = build(asked, "fid", runs, hub=False, baselines=False)
    assert [len(group.rows) for group in board.groups] == [len(runs)] and not board.notes


def test_two_contents_under_one_name_are_told_apart(stored):
    runs = [stored(result({"fid": 9.0})), stored(result(reference="/b/shapes", reference_fingerprint="bbbb"))]
    board = build("shapes", "fid", runs, hub=False, baselines=False)
    assert [[row.place for row in group.rows] for group in board.groups] == [[1], [1]]
    assert "reference_fingerprint" in board.groups[1].differs[0]
    (note,) = board.notes
    assert "2 sets of images with different content are called shapes" in note and "aaaa, bbbb" in note
    assert len(build("bbbb", "fid", runs, hub=False, baselines=False).groups) == 1


@pytest.mark.parametrize("how", ["table", "json", "html"])
def test_an_empty_leaderboard_is_said_in_a_line_and_by_the_exit_status(stored, capsys, tmp_path, how):
    folder, page = stored(result()), tmp_path / "page"
    options = ["--dataset", "cats", "--no-hub", "--format", how, "--output", page]
    status, out, said = run(capsys, "leaderboard", folder, *options)
    assert status == 2 and out == "" and not page.exists()
    note, error = said.splitlines()
    assert (
        "was measured against shapes: left out" in note and "no run, Hub model or publication has fid on cats" in error
    )
