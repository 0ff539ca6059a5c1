import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licfg_hf.errors import InputError
from licfg_hf.evaluation.metrics import METRICS, metric_options
from licfg_hf.evaluation.options import options_of
from licfg_hf.evaluation.protocol import PRESETS, EvaluationProtocol, differences, in_words, kind_of, label

IDENTITY = {"seed", "training_seed", "step", "config_hash", "versions", "reference", "weights", "flow"}
IGNORED = {  # the neural divergence takes neither features nor the reference
    "neural_divergence": {
        "extractor", "extractor_hash", "preprocessing", "reference_fingerprint", "reference_split", "reference_count",
    }
}  # fmt: skip
SPECIAL = {
    "held_out": {"neural_divergence"},
    "is_splits": {"is"},
    "kid_subsets": {"kid"},
    "kid_subset_size": {"kid"},
} | {"neighbours": {"precision", "recall", "density", "coverage"}}
NAMES = [field.name for field in dataclasses.fields(EvaluationProtocol) if field.name != "further"]

text = st.text(max_size=8)
counts = st.integers(min_value=1, max_value=100_000)
protocols = st.builds(
    EvaluationProtocol,
    extractor=st.sampled_from(["inception", "digits", "pixels"]),
    extractor_hash=text,
    preprocessing=text,
    reference=text,
    reference_fingerprint=text,
    reference_split=st.sampled_from(["train", "test"]),
    reference_count=counts,
    samples=counts,
    seed=counts,
    weights=st.sampled_from(["ema", "raw", "images", "unknown"]),
    selection=st.sampled_from(["best", "final", None]),
    truncation=st.none() | st.floats(0.1, 1),
    flow=st.booleans(),
    jpeg=st.none() | st.integers(1, 95),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    neighbours=st.integers(1, 10),
    kid_subsets=st.integers(1, 100),
    kid_subset_size=counts,
    is_splits=st.integers(1, 10),
    step=st.none() | counts,
    config_hash=st.none() | text,
    versions=st.dictionaries(text, text, max_size=3),
)
metrics = st.none() | st.sampled_from(list(METRICS))


def named(reasons: list[str]) -> list[str]:
    return [reason.partition(":")[0] for reason in reasons]


@given(protocols)
def test_a_protocol_comes_back_from_json(protocol):
    assert EvaluationProtocol.from_dict(json.loads(json.dumps(protocol.as_dict()))) == protocol


@given(protocols, metrics)
def test_a_protocol_does_not_differ_from_itself(protocol, metric):
    assert differences(protocol, dataclasses.replace(protocol), metric) == []


@given(protocols, protocols, metrics)
def test_differences_are_symmetric_and_name_fields(a, b, metric):
    forth, back = differences(a, b, metric), differences(b, a, metric)
    assert named(forth) == named(back)
    expected = {
        name
        for name in NAMES
        if getattr(a, name) != getattr(b, name)
        and name not in IDENTITY
        and (metric is None or metric in SPECIAL.get(name, {metric}))
        and name not in IGNORED.get(metric, ())
    }
    assert set(named(forth)) == expected and len(forth) == len(expected)
    assert all("\n" not in reason for reason in forth)


unknown = st.dictionaries(st.sampled_from("xy"), st.none() | st.integers(0, 1) | st.lists(st.booleans(), max_size=1))


@given(protocols, protocols, st.sampled_from(NAMES), unknown, unknown, st.sampled_from(list(METRICS)))
def test_results_are_of_one_kind_if_they_have_no_differences(a, b, name, of_a, of_b, metric):
    b = dataclasses.replace(a, **{name: getattr(b, name)}, further=of_b)
    a = dataclasses.replace(a, further=of_a)
    assert (kind_of(a, metric) == kind_of(b, metric)) == (differences(a, b, metric) == [])


@given(protocols, protocols, protocols, metrics)
def test_comparable_is_transitive(a, b, c, metric):
    b = dataclasses.replace(a, **{name: getattr(b, name) for name in IDENTITY})
    assert differences(a, b, metric) == []
    assert differences(a, c, metric) == [] or differences(b, c, metric) != []


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(protocol=protocols)
def test_each_field_matters_unless_it_identifies_the_run(name, protocol):
    value = getattr(protocol, name)
    other = {
        "weights": "raw" if value == "ema" else "ema",
        "selection": None if value else "best",
        "versions": {"torch": "other", **({"x": "y"} if value == {"torch": "other"} else {})},
    }.get(name)
    if name not in ("weights", "selection", "versions"):
        other = {bool: lambda: not value, str: lambda: value + "x"}.get(type(value), lambda: (value or 0) + 1)()
        other = "new" if name in ("config_hash", "held_out") and value is None else other
    changed = dataclasses.replace(protocol, **{name: other})
    for metric in [None, *METRICS]:
        matters = name not in IDENTITY and (metric is None or metric in SPECIAL.get(name, {metric}))
        matters = matters and name not in IGNORED.get(metric, ())
        assert named(differences(protocol, changed, metric)) == ([name] if matters else [])


def example(**changes) -> EvaluationProtocol:
    return EvaluationProtocol(
        **{
            "extractor": "digits",
            "extractor_hash": "0123456789abcdef",
            "preprocessing": "grey 8 px",
            "reference": "digits",
            "reference_fingerprint": "ff",
            "reference_split": "train",
            "reference_count": 1500,
            "samples": 1000,
            "seed": 7,
            "weights": "ema",
            "selection": "final",
            "truncation": None,
            "flow": False,
            "jpeg": None,
            "dtype": "float32",
            "neighbours": 3,
            "kid_subsets": 1,
            "kid_subset_size": 1000,
            "is_splits": 10,
            "step": 2000,
            "config_hash": "c0ffee",
            "versions": {"torch": "2"},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({name: value for name, value in example().as_dict().items() if name != "jpeg"}, "jpeg is missing"),
        (example().as_dict() | {"samples": -1}, "samples of a protocol is at least 1, not -1"),
        (example().as_dict() | {"step": -1}, "step of a protocol is at least 0, not -1"),
        (example().as_dict() | {"samples": "many"}, "samples cannot be 'many'"),
        (example().as_dict() | {"samples": True}, "samples cannot be True"),
        (example().as_dict() | {"truncation": float("nan")}, "truncation cannot be nan"),
        (example().as_dict() | {"flow": 1}, "flow cannot be 1"),
        (example().as_dict() | {"versions": {"torch": 2}}, "versions cannot be"),
        (example().as_dict() | {"weights": "mean"}, "'mean'"),
        (example().as_dict() | {"selection": "luckiest"}, "'luckiest'"),
        ({}, "extractor is missing, extractor_hash is missing, preprocessing is missing and 19 more"),
        ([], "JSON object"),
    ],
)
def test_damaged_protocols_are_one_line_errors(content, message):
    with pytest.raises(InputError) as caught:
        EvaluationProtocol.from_dict(content)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_whole_numbers_may_stand_for_a_truncation():
    assert EvaluationProtocol.from_dict(example().as_dict() | {"truncation": 1}).truncation == 1


def test_reasons_say_both_values():
    reasons = differences(example(), example(jpeg=75, reference_split="test", is_splits=1))
    assert reasons == ["reference_split: 'train' and 'test'", "jpeg: none and 75", "is_splits: 10 and 1"]
    assert differences(example(), example(is_splits=1), "fid") == []
    with pytest.raises(ValueError, match="no metric 'lpips'"):
        differences(example(), example(), "lpips")


def test_published_names_are_for_inception_features_only():
    assert label("fid", "inception") == "FID"
    assert label("is", "inception") == "Inception Score"
    assert label("fid", "digits") == "Fréchet distance (digits)"
    assert label("recall", "inception") == "recall (inception)"


def test_a_protocol_in_words():
    words = in_words(example(), "kid")
    assert "1,000 samples, final checkpoint, no truncation, float32, no JPEG" in words
    assert "against 1,500 images of digits, split train" in words
    assert "features digits (0123456789abcdef) of grey 8 px" in words
    assert words.endswith("full-sample estimate")
    assert in_words(example(kid_subsets=100, kid_subset_size=50), "kid").endswith("mean over 100 subsets of 50")
    assert in_words(example(is_splits=1), "is").endswith("mean over 1 split")
    assert in_words(example(), "recall").endswith("k = 3 neighbours")
    assert in_words(example()).endswith("of grey 8 px") and in_words(example(), "fid").endswith("of grey 8 px")
    images = in_words(example(weights="images", selection=None, step=None, jpeg=75, flow=True, truncation=0.5))
    assert "from a folder of images, through JPEG of quality 75" in images
    assert "truncation 0.5" in in_words(example(truncation=0.5))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_values_that_a_protocol_can_have(name):
    preset = PRESETS[name]
    known = {"features", "data_split", "samples", "is_splits", "jpeg", "weights", "selection", "neighbours"}
    known |= (others := {"metrics", "batch_statistics", "resize_filter"})
    assert "\n" not in preset.source
    for part in (preset, *(preset.on([name], int(size or 0)) for name, _, size in map(_split, preset.by_data))):
        assert set(part.options) <= known and set(part.training) <= {"evaluate_every", "keep_best"}
        assert part.training.get("keep_best") is None or part.options["selection"] == "best"
        options = {name: value for name, value in part.options.items() if name not in others}
        options |= {"extractor": options.pop("features"), "reference_split": options.pop("data_split", "train")}
        example(**options)
        assert set(options_of(part)["metrics"] if "metrics" in part.options else ()) <= set(metric_options())


def _split(place: str) -> tuple[str, str, str]:
    return place.partition("/")


def test_presets_differ_where_their_sources_do():
    assert set(PRESETS) == {"gn-pgn", "ddgan", "studiogan", "lgan", "qin", "biggan", "fair"}
    assert PRESETS["ddgan"].options["jpeg"] == 75 and PRESETS["fair"].options["jpeg"] is None
    assert PRESETS["gn-pgn"].options["selection"] == "best" and PRESETS["fair"].options["selection"] == "final"


def test_a_protocol_is_what_the_source_does_on_the_data():
    gn_pgn = PRESETS["gn-pgn"]
    small, large = gn_pgn.on(["celeba-hq"], 128), gn_pgn.on(["/data/celeba-hq", "another"], 256)
    assert (small.options["samples"], small.options["weights"], small.options["data_split"]) == (
        3000, "ema", "train[27000:]+validation",
    )  # fmt: skip
    assert (large.options["samples"], large.options["weights"], large.options["data_split"]) == (
        10000, "ema", "train+validation",
    )  # fmt: skip
    assert small.training == {"evaluate_every": 1000, "keep_best": "fid"}
    assert gn_pgn.on(["stl10"], 48).options == {
        **gn_pgn.options, "data_split": "unlabeled", "resize_filter": "bilinear",
    }  # fmt: skip
    assert gn_pgn.on(["uoft-cs/cifar10", "cifar10"], 32).options == gn_pgn.options
    assert "data_split" not in PRESETS["ddgan"].on(["celeba-hq"], 256).options
    assert PRESETS["biggan"].on(["imagenet"], 128).training == {"evaluate_every": 2000, "keep_best": "is"}


@pytest.mark.parametrize(("option", "change"), [("samples", 7), ("weights", "raw"), ("jpeg", None), ("is_splits", 3)])
def test_what_is_not_that_of_the_protocol_is_named(option, change):
    ddgan = PRESETS["ddgan"]
    own = {"extractor": "inception", "samples": 50000, "is_splits": 1, "jpeg": 75, "weights": "ema"}
    assert ddgan.deviations("ddgan", example(**own), None) == []
    assert named(ddgan.deviations("ddgan", example(**{**own, option: change}), None)) == [option]


def test_batch_statistics_belong_to_the_protocol():
    assert PRESETS["gn-pgn"].options["batch_statistics"] == "training"
    stored, own = example(), example(batch_statistics=128)
    assert named(differences(stored, own, "fid")) == ["batch_statistics"] == named(differences(own, stored, "fid"))
    assert "BatchNorm with the statistics of each 128 samples" in in_words(own)
    gn = {"extractor": "inception", "samples": 50000, "weights": "raw", "selection": "best"}
    measured = example(**gn, batch_statistics=128)
    assert PRESETS["gn-pgn"].deviations("gn-pgn", measured, "training") == []
    assert named(PRESETS["gn-pgn"].deviations("gn-pgn", example(**gn), None)) == ["batch_statistics"]
