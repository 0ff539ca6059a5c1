"""Presets and recipes as files, and options that are known before PyTorch is imported."""

import inspect
import subprocess
import sys

import pytest

from licfg_hf.errors import InputError
from licfg_hf.named import named
from licfg_hf.recipes import NAMES, PresetFolder, get_recipe, read_recipe
from licfg_hf.recipes.outline import outline
from licfg_hf.recipes.recipe import _CONFIGS
from licfg_hf.recipes.recipe_files import PRESETS

COMPONENTS = sorted({path for name in NAMES for path in get_recipe(name).components.values()} | set(_CONFIGS))


def folder_of(folder, **presets: str) -> PresetFolder:
    folder.mkdir(exist_ok=True)
    for name, text in presets.items():
        (folder / f"{name}.yaml").write_text(text)
    return PresetFolder(folder)


def test_every_preset_of_this_package_can_be_read():
    assert sum(len(get_recipe(name).presets) for name in NAMES) == 94
    for name in NAMES:
        assert all(dict(get_recipe(name).presets[preset]) for preset in get_recipe(name).presets)


def test_a_preset_stands_on_one_beside_it_or_on_one_of_another_recipe(tmp_path):
    presets = folder_of(
        tmp_path / "own",
        base="max_steps: 5\ngenerator_optimizer.learning_rate: 2e-4",
        beside="extends: base\nmax_steps: 6",
        other="extends: there/big\nseed: 1",
        published="extends: ddgan_eps_cifar/cifar10\nseed: 1",
    )
    folder_of(tmp_path / "there", big="batch_size: 99")
    assert list(presets) == ["base", "beside", "other", "published"]
    assert presets["beside"] == {"max_steps": 6, "generator_optimizer.learning_rate": 2e-4}
    assert presets["other"] == {"batch_size": 99, "seed": 1}
    assert presets["published"]["max_steps"] == 351_000 and presets["published"]["seed"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: nowhere", "extends nowhere, which does not exist"),
        ("extends: ../base", "write PRESET or RECIPE/PRESET"),
        ("extends: [base]", "write PRESET or RECIPE/PRESET"),
        ("extends: middle", "which extends base: a preset may build on one other"),
        ("- a", "holds no options"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_preset_is_one_line(text, words, tmp_path):
    presets = folder_of(tmp_path, base="max_steps: 5", middle="extends: base", wrong=text)
    with pytest.raises(InputError) as refusal:
        presets["wrong"]
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_folder_without_presets_and_a_recipe_of_other_words_are_one_line(tmp_path):
    with pytest.raises(InputError, match="holds no preset at all"):
        PresetFolder(tmp_path)
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(tmp_path)
    (tmp_path / "recipe.yaml").write_text("title: Mine\ncomponent: {}")
    with pytest.raises(InputError, match="knows no 'component'"):
        read_recipe(tmp_path)
    (tmp_path / "recipe.yaml").write_text("title: Mine\ncomponents: {}")
    with pytest.raises(InputError, match="needs build"):
        read_recipe(tmp_path)


def test_a_folder_of_ones_own_is_a_recipe(tmp_path):
    folder_of(tmp_path / "mine", tiny="extends: licfg_lsun/quickstart\nmax_steps: 7")
    (tmp_path / "mine" / "recipe.yaml").write_text((PRESETS / "licfg_mnist" / "recipe.yaml").read_text().replace(
        "presets: [mnist, mnist-small, quickstart]", "presets: [tiny]"
    ))  # fmt: skip
    _, options = get_recipe(str(tmp_path / "mine")).parse([])
    assert (options.max_steps, options.output_dir) == (7, "output/mine-tiny")


@pytest.mark.parametrize("path", COMPONENTS)
def test_an_outline_has_the_arguments_of_its_class(path):
    drawn, real = outline(path), named(path, "class")
    assert drawn is not real and drawn.__doc__ == real.__doc__
    arguments, wanted = (
        {name: (parameter.default, parameter.kind) for name, parameter in inspect.signature(kind).parameters.items()}
        for kind in (drawn, real)
    )
    assert arguments.keys() == wanted.keys()
    for name, (default, kind) in wanted.items():
        assert arguments[name][1] is kind
        assert arguments[name][0] == default or repr(arguments[name][0]) == repr(default), name


@pytest.mark.parametrize("name", NAMES)
def test_options_are_read_without_pytorch(name):
    code = (
        "import sys\nfrom licfg_hf.recipes import get_recipe\n"
        f"parser, options = get_recipe({name!r}).parse(['--seed', '3'])\nparser.format_help()\n"
        "print([heavy for heavy in ('torch', 'diffusers', 'datasets', 'accelerate') if heavy in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
