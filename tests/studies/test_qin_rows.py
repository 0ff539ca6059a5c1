"""Every row of Qin et al. is trained by the arms that its command selects, with what was published."""

import pytest
from lipschitz_arms import DATA, STUDIES
from lipschitz_losses import RECIPE, row_of
from published import another, unexplained, with_value, words_of
from torch.nn.utils import parametrize

from licfg_hf.models import SNGANDiscriminator
from licfg_hf.objective.weights import spectral_normalize
from licfg_hf.recipes.published import differences, option_value, published_rows

QIN = {name: row for name, row in published_rows().items() if name.startswith("qin-")}
ARMS = {name: row for name, row in QIN.items() if row.options and "fig1" not in row.command}
GRIDS = ("loss", "normalizer_k", "loss_alpha")


def runs(row):
    """The options of every arm, once for each data set that the command stands for."""
    return [[each.as_dict() for each in RECIPE.chosen(words)] for words in words_of(row.command[1:])]


@pytest.mark.parametrize("name", ARMS)
def test_the_arms_of_a_row_take_what_it_says_and_reach_all_of_its_cells(name):
    row = ARMS[name]
    for arms in runs(row):
        assert [unexplained(row, options, {}) for options in arms] == [[]] * len(arms)
        for option in GRIDS:
            if (setting := row.options.get(option)) is not None:
                assert {option_value(options, option) for options in arms} == set(setting.said[""])
        grid = row.results.get("fid")
        if isinstance(grid, dict):
            column = {"k_sn": "normalizer_k", "alpha": "loss_alpha"}[grid["by"]]
            assert [options[column] for options in arms] == list(map(float, grid["values"]))


@pytest.mark.parametrize("name", ARMS)
def test_a_change_of_any_compared_value_of_an_arm_is_seen(name):
    row = ARMS[name]
    options = next(RECIPE.chosen(words_of(row.command[1:])[0])).as_dict()
    known = {item.name for item in differences(row, options, {}) if item.kind == "own"}
    assert {"loss_alpha", "batch_size", "max_steps", "discriminator_optimizer.name"} & row.options.keys() - known
    for option in row.options.keys() - known:
        changed = with_value(options, option.split("."), another(option_value(options, option)))
        assert option in {item.name for item in differences(row, changed, {}) if item.kind == "differs"}, option


def test_every_row_has_a_command_and_tables_are_whole():
    assert all(row.command and not row.not_covered for row in QIN.values())
    grids = [
        row.results["fid"]["values"] for name, row in QIN.items() if name.startswith(("qin-table3", "qin-table4"))
    ]
    assert sum(map(len, grids)) == 105 + 30 + 30
    assert sum(name.startswith("qin-table5") for name in QIN) == 15


def test_an_arm_knows_its_row():
    for words, name in (
        (["--preset", "celeba", "--studies", "table5", "--losses", "COS"], "qin-table5-celeba-cos"),
        (["--preset", "mnist", "--studies", "table3", "--losses", "EXP"], "qin-table3-mnist-exp"),
        (["--preset", "celeba", "--studies", "fig4", "--losses", "WGAN", "--k_gp", "1"], "qin-fig4-wgan-gp"),
        (["--preset", "cifar10", "--studies", "table4a", "--losses", "LS#"], "qin-table4a-ls-sharp"),
    ):
        (first, *_) = RECIPE.chosen(words)
        assert row_of(first.as_dict()).name == name
    (first, *_) = RECIPE.chosen(["--preset", "quickstart"])
    assert row_of(first.as_dict()) is None


def test_differences_name_what_is_our_choice_and_what_was_changed(capsys):
    RECIPE.run(["--preset", "mnist", "--studies", "table3", "--losses", "NS", "--batch_size", "32", "--differences"])
    text = capsys.readouterr().out
    assert "Stands for `qin-table3-mnist-ns`" in text and "- batch_size is 32; published: 64" in text
    for own in (
        "generator_optimizer.arguments.alpha is 0.99",
        "arguments.eps is 1e-08",
        "generator.latent_dim is 128",
    ):
        assert own in text.split("Not published, so the choice is this library's:")[1]


@pytest.mark.parametrize("preset", DATA)
def test_the_critic_has_the_four_layers_of_the_paper(preset):
    def layers(*words):
        (options, *_) = RECIPE.chosen(["--preset", preset, "--studies", "table3", "--losses", "NS", *words])
        critic = spectral_normalize(SNGANDiscriminator(options.image_size, 3, **options.discriminator.as_dict()))
        return sum(parametrize.is_parametrized(layer, "weight") for layer in critic.modules())

    assert layers() == 4 == ARMS["qin-table4a-ns"].facts["discriminator.layers"].said[""][0]
    sngan = ["--discriminator.strided_only", "false", "--discriminator.channel_multipliers", "null"]
    assert layers(*sngan) == 8


def test_the_studies_have_the_cells_of_the_paper():
    count = {name: len(study.cells()) for name, study in STUDIES.items()}
    paper = {"table2": 8, "table3": 105, "table4a": 30, "table4b": 30, "table5": 15, "fig4": 42, "fig5": 4}
    assert count.items() >= paper.items()
    assert {setting.alpha for setting in STUDIES["fig1"].settings} == {1e-10, 1.0, 1e10}


def test_a_dry_run_without_images_lists_every_cell_of_the_paper_and_writes_nothing(capsys, tmp_path):
    studies = ["table2", "table3", "table4a", "table4b", "table5", "fig1", "fig4", "fig5"]
    RECIPE.run(["--studies", *studies, "--dry_run", "--output_dir", str(tmp_path / "new")])
    lines = capsys.readouterr().out.splitlines()
    counts = {line.split(",")[0]: int(line.split(": ")[1].split()[0]) for line in lines if " cells" in line}
    assert counts == {
        **{"table2": 8, "table3": 105, "table4a": 30, "table4b": 30, "table5": 15},
        **{"fig1": 6, "fig4": 42, "fig5": 4},
    }
    cells = [line for line in lines if line.startswith("  ")]
    # Table 3 has all of Table 2, the SN half of Fig. 4 and WGAN of Table 5.
    assert len(cells) == sum(counts.values()) and len(set(cells)) == len(cells) - 8 - 21 - 3
    assert "  celeba: WGAN, k_GP 1, alpha 1" in cells and "  mnist|cifar10|celeba: COS, k_SN 50, alpha 1e-11" in cells
    assert not (tmp_path / "new").exists()
