"""``licfg-hf bench`` from the command line, on networks that take milliseconds."""

import json
import subprocess
import sys

import pytest
import torch

from licfg_hf.bench import measure
from licfg_hf.bench.catalogue import DEFAULT, MODELS, TECHNIQUES, Model
from licfg_hf.cli import main as command

SHAPE = {"generator.base_channels": 8, "generator.latent_dim": 4, "discriminator.base_channels": 8}
DDGAN = {
    "generator.base_channels": 8, "generator.latent_embedding_dim": 16, "generator.latent_dim": 4,
    "generator.latent_layers": 1, "discriminator.base_channels": 4, "discriminator.time_embedding_dim": 16,
}  # fmt: skip
TINY = {
    "tiny": Model("tiny", "sngan_pgn_cifar", "quickstart", (1, 8, 8), options={**SHAPE, "generator_batch_size": 128}),
    "tiny-conditional": Model("tiny", "biggan_eps_cifar", "quickstart", (1, 8, 8), 3, SHAPE),
    "tiny-ddgan": Model("tiny", "ddgan_eps_cifar", "quickstart", (1, 8, 8), options=DDGAN),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, model in TINY.items():
        monkeypatch.setitem(MODELS, name, model)
    monkeypatch.setattr(measure, "_LEAST_SECONDS", 0.0)


def bench(folder, *arguments, model="tiny", rounds=1) -> dict:
    given = ["--model", model, "--batch_size", "4", "--rounds", str(rounds), "--device", "cpu", "--output"]
    command(["bench", *given, str(folder), *arguments])
    return json.loads((folder / "bench.json").read_text(encoding="utf-8"))


def rows(result: dict, step: str = "discriminator") -> dict:
    return {row["technique"]: row for row in result["results"] if row["step"] == step and not row["compiled"]}


def test_every_technique(tmp_path, capsys):
    result = bench(tmp_path, "--techniques", "all")
    for step in ("discriminator", "generator", "iteration"):
        found = rows(result, step)
        assert set(found) == {"none", *TECHNIQUES}
        assert not [row for row in found.values() if "problem" in row]
        none = found["none"]
        assert none["ratio"]["median"] == none["flops_ratio"] == none["peak_bytes_ratio"] == 1
        assert all(row["seconds"]["median"] > 0 and row["peak_bytes"] > 0 for row in found.values())
        assert all(len(row["times"]) == 1 and row["steps_per_time"] == 1 for row in found.values())
    critic = rows(result)
    assert 1 < critic["r1"]["flops_ratio"] < critic["eps"]["flops_ratio"] < critic["alp"]["flops_ratio"]
    assert critic["eps"]["flops"] == critic["zero"]["flops"] == critic["wgan_gp"]["flops"]
    assert critic["eps"]["peak_bytes_ratio"] > 1
    assert all(rows(result, "generator")[name]["flops_ratio"] == 1 for name in ("eps", "r1", "bcr"))
    whole = {name: row["flops"] for name, row in rows(result, "iteration").items()}
    parts = [rows(result, step)["eps"]["flops"] for step in ("discriminator", "generator")]
    assert whole["eps"] == 2 * parts[0] + parts[1]
    printed = capsys.readouterr().out
    assert printed.startswith((tmp_path / "bench.md").read_text(encoding="utf-8"))
    assert printed.count("| eps:tangent |") == 3


def test_the_protocol_goes_with_the_numbers(tmp_path):
    about = bench(tmp_path, "--techniques", "none", "--steps", "generator")["protocol"]
    assert (
        about["model"] == "tiny" and about["networks"]["recipe"] == "sngan_pgn_cifar" and len(about["parameters"]) == 2
    )
    assert about["image"] == [1, 8, 8] and about["batch_size"] == 4 and about["generator_batch_size"] == 8
    assert about["rounds"] == 1 and about["dtype"] == "float32"
    assert about["threads"] == torch.get_num_threads() and about["versions"]["torch"] == torch.__version__
    assert about["device"].startswith("cpu") and about["date"]
    assert "CPU allocator" in about["memory"] and "order" in about and "statistic" in about


def test_medians_have_quartiles(tmp_path, capsys):
    result = bench(tmp_path, "--techniques", "eps", "--steps", "discriminator", rounds=6)
    row = rows(result)["eps"]
    assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert len(row["times"]) == 6 and row["resident_bytes"] > 0 and " to " in capsys.readouterr().out


@pytest.mark.parametrize("model", ["tiny-conditional", "tiny-ddgan"])
def test_other_networks_and_bf16(model, tmp_path):
    result = bench(tmp_path, "--techniques", "spectral+eps,r1", "--dtype", "bf16", "--steps", "iteration", model=model)
    assert result["protocol"]["dtype"] == "bf16"
    assert not [row for row in result["results"] if "problem" in row]


def test_what_is_not_possible_is_said_and_does_not_stop_the_rest(tmp_path, capsys):
    result = bench(tmp_path, "--techniques", "gn+eps:tangent,r1", "--steps", "discriminator")
    found = rows(result)
    assert "forward-mode" in found["gn+eps:tangent"]["problem"]
    assert "problem" not in found["r1"]
    assert f"| gn+eps:tangent | not possible: {found['gn+eps:tangent']['problem']} |" in capsys.readouterr().out


def test_a_step_that_fails_leaves_the_others(tmp_path, monkeypatch):
    from licfg_hf.training import AdversarialStep

    def after_updates(self, context, batch, rng):
        if context.terms:
            raise torch.OutOfMemoryError("tried to allocate 3 TiB")
        return real(self, context, batch, rng)

    real = AdversarialStep.after_updates
    monkeypatch.setattr(AdversarialStep, "after_updates", after_updates)
    result = bench(tmp_path, "--techniques", "eps")
    problems = {row["step"]: row.get("problem") for row in result["results"] if row["technique"] == "eps"}
    assert problems == {"discriminator": None, "generator": "out of memory", "iteration": "out of memory"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "bigan"], "no model 'bigan'; there are: ddgan, "),
        (["--techniques", "eps,epsilon"], "no technique 'epsilon'; there are: none, "),
        (["--steps", "critic"], "--steps are among discriminator, generator, iteration, not critic"),
        (["--techniques", "eps,,r1"], "--techniques has an empty name in 'eps,,r1'"),
        (["--techniques", "eps,eps"], "--techniques names eps twice"),
        (["--steps", "generator,generator"], "--steps names generator twice"),
        (["--output", ""], "--output is empty: name a folder"),
        (["--trainer", "--compile"], "--compile cannot be combined with --trainer"),
        (["--trainer", "--techniques", "eps"], "--techniques cannot be combined with --trainer"),
        (["--trainer", "--rounds", "3"], "--rounds cannot be combined with --trainer"),
        (["--steps_of_trainer", "10"], "--steps_of_trainer needs --trainer"),
        (["--rounds", "0"], "--rounds is at least 1, not 0"),
        (["--trainer", "--dtype", "bf16"], "float32"),
        (["--model", "tiny-ddgan", "--batch_size", "6"], "multiple of 4"),
        (["--output", __file__], "is a file: name a folder"),
    ],
)
def test_a_wrong_option_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command(["bench", "--model", "tiny", "--device", "cpu", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench(tmp_path, "--device", "cuda")
    assert capsys.readouterr().err == "error: there is no device 'cuda' here; there is: cpu\n"


def test_help_comes_without_pytorch():
    code = """
import sys
from licfg_hf.cli import main
try:
    main(["bench", "--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("False\n")
    assert all(name in shown for name in (*MODELS.keys() - TINY.keys(), *DEFAULT, "--compile", "--trainer"))


@pytest.mark.slow
def test_compiled_steps(tmp_path):
    result = bench(tmp_path, "--techniques", "eps", "--compile", "--steps", "discriminator")
    compiled = {row["technique"]: row for row in result["results"] if row["compiled"]}
    assert set(compiled) == {"none", "eps"}
    assert not [row for row in compiled.values() if "problem" in row]
    assert compiled["eps"]["compile_seconds"] > 0 and compiled["eps"]["flops"] is None
    assert compiled["none"]["ratio_to_compiled"]["median"] == 1


def test_what_cannot_be_compiled_is_said(tmp_path, monkeypatch):
    from torch._dynamo.exc import Unsupported

    def refuse(terms, **options):
        def compiled(*arguments):
            raise Unsupported("no such thing")

        return compiled

    monkeypatch.setattr(torch, "compile", refuse)
    result = bench(tmp_path, "--techniques", "none", "--compile")
    problems = [row["problem"] for row in result["results"] if row["compiled"]]
    assert len(problems) == 3 and all("no such thing" in problem for problem in problems)
