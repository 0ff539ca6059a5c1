"""What is not of this package in a recipe: penalties, networks and recipes of a user's own, by their names."""

import json
import subprocess
import sys

import pytest
import yaml

from licfg_hf.cli import main as command
from licfg_hf.recipes import get_recipe, main
from licfg_hf.recipes.objective import ObjectiveConfig

FEW = ["--preset", "quickstart", "--max_steps", "2", "--batch_size", "8", "--sample_count", "4"]
FEW += ["--evaluate_samples", "8"]
OWN = '''
import torch
from torch import nn

from licfg_hf.models import DCGANGenerator
from licfg_hf.recipes import Recipe, main, register_recipe
from licfg_hf.training import GANTask


class Drift:
    """The critic stays near zero."""

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, discriminator, real, fake, *, real_logits=None, fake_logits=None, rng=None, **conditioning):
        return self.weight * discriminator(real, **conditioning).pow(2).mean()


class Critic(nn.Module):
    def __init__(self, in_channels=1, width: int = 8):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, images):
        return self.body(images)


class Plain(Critic):
    def __init__(self):
        super().__init__()


def build(images, arguments):
    generator = DCGANGenerator(sample_size=8, out_channels=1, **arguments["generator"])
    return generator, Plain(**arguments["discriminator"]), GANTask(generator.latent_dim)


sizes = {"generator.base_channels": 8, "generator.channel_multipliers": [2, 1], "max_steps": 2, "batch_size": 8}
RECIPE = register_recipe(Recipe(
    name="own_recipe",
    title="Own",
    components={"generator": DCGANGenerator, "discriminator": Plain},
    build=build,
    presets={"tiny": sizes | {"sample_count": 4}},
))

if __name__ == "__main__":
    main(RECIPE)
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "strangers_parts.py"
    path.write_text(OWN)
    return path


def penalty(path: str, **arguments) -> str:
    return json.dumps([{"class_path": path, "init_args": arguments}])


def refused(capsys, *options: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main("sngan_pgn_cifar", [*FEW, "--normalizer", "none", *options])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    return said


def test_own_parts_train_and_the_saved_config_repeats_it(own, tmp_path):
    penalties = [{"class_path": "Drift", "init_args": {"weight": 0.01}}, {"class_path": "r1", "interval": 2}]
    penalties[1]["init_args"] = {"weight": 0.5}
    options = ["--penalties", json.dumps(penalties), "--normalizer", "none"]
    options += ["--discriminator.class_path", "strangers_parts.Critic", "--discriminator.width", "4"]
    command(["train", "sngan_pgn_cifar", *FEW, "--import", str(own), *options, "--output_dir", str(tmp_path / "one")])
    line = json.loads((tmp_path / "one" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"penalty", "penalty_2"} <= line.keys()
    saved = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    assert saved["penalties"] == penalties and saved["import"] == [str(own)]
    assert saved["discriminator"] == {"width": 4, "class_path": "strangers_parts.Critic"}
    card = (tmp_path / "one" / "README.md").read_text()
    assert "Penalty: drift" in card and "R1 penalty" in card
    main("sngan_pgn_cifar", ["--config", str(tmp_path / "one" / "config.yaml"), "--output_dir", str(tmp_path / "two")])
    again = json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[-1])
    assert again["penalty"] == line["penalty"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("eps_centered", {"weight": 0.2, "scale": 0.3, "direction": "random", "points": "real", "method": "tangent"}),
        ("one_sided", {"weight": 0.2, "center": 0.5, "points": "fake", "method": "exact"}),
        ("dragan", {"weight": 0.2, "method": "exact"}),
        ("r2", {"weight": 0.2, "method": "exact"}),
        ("max", {"weight": 0.2, "points": "interpolate", "method": "exact"}),
    ],
)
def test_the_short_options_are_an_entry_of_the_list(name, arguments):
    short = ObjectiveConfig(penalty=name, penalty_interval=3, **{f"penalty_{k}": v for k, v in arguments.items()})
    entry = {"class_path": name, "init_args": arguments, "interval": 3}
    assert short.build()[1] == ObjectiveConfig(penalties=[entry]).build()[1]


def test_a_penalty_may_have_parts_of_its_own_and_the_list_can_be_added_to():
    augmentation = {"class_path": "licfg_hf.FlipAndShift", "init_args": {"flip": 0.25}}
    _, options = get_recipe("sngan_pgn_cifar").parse([
        *FEW, f"--penalties+={json.dumps({'class_path': 'r1', 'init_args': {'weight': 1}})}",
        "--penalties+=" + json.dumps({
            "class_path": "ConsistencyRegularization", "init_args": {"weight": 2, "augmentation": augmentation},
        }),
    ])  # fmt: skip
    first, second = ObjectiveConfig(penalties=options.penalties).build()[1]
    assert (first.penalty.weight, first.penalty.points) == (1.0, "real")
    assert (second.penalty.weight, second.penalty.augmentation.flip) == (2.0, 0.25)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (penalty("EpsCenteredGradientPenalty", wieght=1.0), "has no argument wieght: is weight meant?"),
        (penalty("GradientPenalty", weight="heavy"), "weight"),
        (penalty("GradientPenalty"), "weight"),
        (penalty("r1", weight=-1), "weight"),
        (penalty("nowhere.Penalty"), "No module named 'nowhere'"),
        (penalty("Nowhere"), "--import the module"),
        (penalty("subprocess.Popen", args=["touch", "evil"]), "is not a penalty"),
        (penalty("os.system", command="touch evil"), "is not a penalty"),
        ('[{"class": "r1"}]', "'class' is not one of them"),
        ('[{"interval": 2}]', "class_path is missing"),
        ('[{"class_path": "r1", "interval": 0}]', "interval"),
        ('[{"class_path": "r1", "init_args": 3}]', "init_args"),
        ('[{"class_path": "r1", "init_args": {"weight": 0.1}, "target": 1.5}]', "target is at most 1"),
        ('[{"class_path": "r1", "init_args": {"weight": 0.1}, "target": "much"}]', "target is a finite number"),
        ('[{"class_path": "r1", "init_args": {"weight": 0.0}, "target": 0.2}]', "weight 0 has no strength"),
        ('[{"class_path": "one_centered", "init_args": {"weight": 1.0}, "target": 0.2}]', "center 1"),
        ("r1", "is a list"),
    ],
)
def test_a_wrong_entry_is_one_line(text, words, capsys, tmp_path):
    assert words in refused(capsys, "--penalties", text, "--output_dir", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--loss", "wasserstein"], "rho is 1/3 at every weight"),
        (["--loss", "least_squares"], "least_squares_zero_centered"),
        (["--normalizer", "gradient", "--penalty_method", "tangent"], "GN and PGN have no forward-mode derivative"),
        (["--penalty_target", "0"], "between 0 and 1"),
    ],
)
def test_a_strength_that_cannot_be_held_is_one_line(options, words, capsys):
    assert words in refused(capsys, "--penalty", "r1", "--penalty_target", "0.2", *options)


def test_a_target_is_short_for_the_class():
    short = ObjectiveConfig(penalty="r1", penalty_weight=0.5, penalty_target=0.2, penalty_interval=4)
    entry = {"class_path": "r1", "init_args": {"weight": 0.5}, "interval": 4, "target": 0.2}
    inner = {"class_path": "r1", "init_args": {"weight": 0.5}}
    written = {
        "class_path": "StrengthControlledPenalty",
        "init_args": {"penalty": inner, "target": 0.2},
        "interval": 4,
    }
    assert short.build()[1] == ObjectiveConfig(penalties=[entry]).build()[1]
    assert short.build()[1] == ObjectiveConfig(penalties=[written]).build()[1]


def test_both_ways_at_once_are_one_line(capsys):
    assert "replaces --penalty_weight" in refused(
        capsys, "--penalties", penalty("r1", weight=1.0), "--penalty_weight", "3"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--import", "nowhere_at_all"], "No module named 'nowhere_at_all'"),
        (["--import", "./nowhere.py"], "there is no file"),
        (["--import"], "needs a module"),
        (["--discriminator.class_path", "nowhere.Net"], "No module named 'nowhere'"),
        (["--discriminator.class_path", "argparse.Namespace"], "is no network"),
        (["--generator.class_path", "torch.nn.Identity"], "has no latent_dim"),
    ],
)
def test_what_cannot_be_imported_is_one_line(options, words, capsys):
    assert words in refused(capsys, *options)


def test_a_module_that_fails_is_one_line_for_every_command(capsys, tmp_path):
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('not\\ntoday')")
    for words in (["compare", "x"], ["sample", "x"], ["train", "licfg_mnist"], ["bench"]):
        with pytest.raises(SystemExit):
            command([*words, "--import", str(tmp_path / "broken_module.py")])
        said = capsys.readouterr().err
        assert "RuntimeError: not" in said and said.count("\n") == 1


def test_normalizers_of_a_plain_discriminator_are_one_line(own, capsys):
    words = refused(capsys, "--import", str(own), "--discriminator.class_path", "Critic", "--normalizer", "spectral")
    assert "normalize Critic in its own __init__" in words


def run(folder, *words: str) -> str:
    result = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return next(line for line in (folder / "out" / "README.md").read_text().splitlines() if "Command" in line)


def test_a_recipe_of_ones_own_runs_and_its_card_says_how(own, tmp_path):
    """Its discriminator has no options and is a plain module; the command is what was really typed."""
    script = tmp_path / "mine.py"
    script.write_text(own.read_text())
    assert run(tmp_path, "mine.py", "--output_dir", "out") == "- Command: `python mine.py --output_dir out`"
    (tmp_path / "out").rename(tmp_path / "before")
    words = ["-m", "licfg_hf", "train", "own_recipe", "--import=mine.py", "--output_dir", "out"]
    assert run(tmp_path, *words) == f"- Command: `python {' '.join(words)}`"
