"""The code in README.md and in the plugin guide runs as it stands, and texts for people are plain."""

import ast
import re
import runpy
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import readme
import torch
from accelerate import Accelerator
from gans import DISCRIMINATORS, GENERATORS
from PIL import Image
from tiny import tiny_generator
from torch import nn

import licfg_hf
from licfg_hf import DDGANPipeline, DDGANScheduler, FunctionalGradientFlow, GANPipeline
from licfg_hf.convert import FORMATS
from licfg_hf.data import PRESETS
from licfg_hf.evaluation.metrics import METRICS
from licfg_hf.pipelines.flow import save_flow
from licfg_hf.recipes import NAMES

ROOT = Path(__file__).resolve().parents[1]


def blocks(page: str) -> list[str]:
    return [block.code for block in readme.blocks(page) if block.language == "python"]


def surroundings() -> dict:
    """What a user's own loop has."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(128, 3 * 16 * 16), nn.Unflatten(1, (3, 16, 16)), nn.Tanh())
    critic = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.SiLU(), nn.Linear(8, 1))
    real = torch.randn(4, 3, 16, 16)
    return {name: getattr(licfg_hf, name) for name in licfg_hf.__all__} | {
        "torch": torch,
        "accelerator": Accelerator(cpu=True),
        "generator": generator,
        "discriminator": critic,
        "discriminator_optimizer": torch.optim.Adam(critic.parameters()),
        "adversarial": licfg_hf.get_loss("non_saturating"),
        "loader": [real],
        "real": real,
        "fake": torch.randn(4, 3, 16, 16),
        "latents": torch.randn(4, 128),
        "real_logits": critic(real),
        "fake_logits": critic(-real),
        "loss": licfg_hf.get_loss("non_saturating"),
        "labels": None,
    }


def test_penalty_in_your_own_loop():
    code = next(block for block in blocks("README.md") if "accelerator.backward" in block)
    names = surroundings()
    before = names["discriminator"][1].weight.clone()
    exec(code, names)
    assert not torch.equal(names["discriminator"][1].weight, before)


@pytest.mark.parametrize("kind", ["biggan", "ddgan"])
def test_load_a_model(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = {"biggan": lambda: GANPipeline(GENERATORS["biggan"]().eval()),
                "ddgan": lambda: DDGANPipeline(tiny_generator().eval(), DDGANScheduler())}  # fmt: skip
    pipeline[kind]().save_pretrained(f"output/{kind}_eps_cifar-quickstart")
    exec(next(block for block in blocks("README.md") if f"output/{kind}_eps_cifar-quickstart" in block), {})
    pictures = list(Path("output").glob("*.png"))
    assert pictures and all(min(Image.open(path).size) >= 100 for path in pictures)  # the images have 8 pixels


def test_every_block_of_readme_is_run_or_says_why_not():
    assert all(block.language in ("bash", "python") for block in readme.blocks())
    why = [block.not_run for block in readme.blocks()]
    assert None in why and all(reason is None or len(reason) > 10 for reason in why)
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python tests/readme.py" in text


def test_blocks_of_readme_that_need_a_model_stand_after_the_one_that_trains_it():
    trained = set()
    for block in readme.blocks():
        if block.not_run is None:
            for recipe, preset, rest in re.findall(r"recipes/(\w+)\.py --preset (\w+)(.*)", block.code):
                options = re.findall(r"--(\w+) (\S+)", rest)
                trained.add(f"output/{recipe}-{preset}" + "".join(f"-{name}_{value}" for name, value in options))
            assert set(re.findall(r"output/\w+_cifar-[\w-]+", block.code)) <= trained


def test_every_recipe_stands_in_the_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| `{name}` |" in text and f"`recipes/{name}.py" in text
    for source in FORMATS:
        assert f"| `{source}` |" in text


def test_train_your_own_networks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = next(block for block in blocks("README.md") if "Trainer(" in block)
    exec(code.replace("max_steps=100, batch_size=64", "max_steps=2, batch_size=8"), {})
    assert (tmp_path / "output" / "mine" / "samples.png").is_file()


@pytest.mark.parametrize("index", range(len(blocks("licfg_hf/README.md"))))
def test_the_guides_examples(index, tmp_path):
    code = blocks("licfg_hf/README.md")[index]
    names = surroundings()
    if re.search(r"^loss = loss \+", code, flags=re.MULTILINE):
        names["loss"] = torch.zeros(())
    if "class_labels" in code:
        critic = names["discriminator"]
        names["discriminator"] = lambda images, class_labels=None: critic(images)
    if "load_flow(folder)" in code:
        names["folder"], critic = tmp_path, DISCRIMINATORS["sngan_cnn"]()
        GANPipeline(GENERATORS["dcgan"]().eval()).save_pretrained(tmp_path)
        save_flow(tmp_path / "flow", FunctionalGradientFlow([]), critic, [critic.state_dict()] * 2)
    exec(code, names)


@pytest.mark.parametrize("index", range(len(blocks(".github/CONTRIBUTING.md"))))
def test_the_examples_for_contributors(index):
    names, before = surroundings(), (set(METRICS), set(PRESETS))
    try:
        exec(blocks(".github/CONTRIBUTING.md")[index], names)
        if "LogitDrift" in names:
            (term,) = names["terms"]
            given = (names["discriminator"], names["real"], names["fake"])
            expected = 1e-3 * names["real_logits"].square().mean().item()
            assert term(*given).item() == pytest.approx(expected)
            assert term(*given, real_logits=names["real_logits"]).item() == pytest.approx(expected)
    finally:  # what an example registers is forgotten
        added = [set(known) - kept for known, kept in zip((METRICS, PRESETS), before, strict=True)]
        for known, new in zip((METRICS, PRESETS), added, strict=True):
            for name in new:
                del known[name]
    assert sum(map(len, added)) == ("LogitDrift" not in names)


def test_on_the_package_page_every_link_leads_to_a_file_of_the_repository():
    code = runpy.run_path(str(ROOT / ".ci" / "package_page.py"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    address = "https://host.example/owner/name"
    links = re.findall(r"\]\(([^)\s]+)\)", code["absolute"](text, address, "v1"))
    assert len(links) >= 5 and all(link.startswith(("https://", "#")) for link in links)
    for link in links:
        if link.startswith(address):
            kind, path = re.fullmatch(rf"{address}/(blob|raw)/v1/([^#]+)(?:#.*)?", link).groups()
            assert (ROOT / path).exists() and (kind == "raw") == path.endswith(".png")
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8") + code["addresses"](address))
    assert urls["project"]["urls"]["Repository"] == address


def test_every_public_name_stands_in_the_guide():
    text = (ROOT / "licfg_hf" / "README.md").read_text(encoding="utf-8")
    techniques = {name for name in licfg_hf.__all__ if not name.startswith("DDGAN")}
    missing = {name for name in techniques if name not in text}
    assert missing <= {"RelativisticLoss", "remove_weight_normalization"}


PAGES = sorted(
    path
    for place in (".", "licfg_hf", "recipes", "model_cards", ".github")
    for path in (ROOT / place).rglob("*.md")
    if (path.parent == ROOT or place != ".") and path.parent.name != "templates"
)
_INLINE = re.compile(r"((?:`\w+`(?:,| and|, and)?\s+)+)(?:in|from)\s+`(licfg_hf[\w.]*)`")
_IMPORT = re.compile(r"^[> ]*from (licfg_hf[\w.]*) import (?:\(([^)]*)\)|(.+))", re.MULTILINE)
_DOTTED = re.compile(r"(?<![\w./-])licfg_hf(?:\.\w+)+(?![\w/-])")
_FILES = (".yaml", ".yml", ".json", ".md", ".py", ".html", ".png", ".toml")


def names_in(text: str) -> set[str]:
    """Dotted names of this package that a page imports, writes out, or says to be in a module."""
    found = {name for name in _DOTTED.findall(text) if not name.endswith(_FILES)}
    for module, within, after in _IMPORT.findall(text):
        items = re.sub(r"#.*", "", within or after).split(",")
        found |= {f"{module}.{item.split(' as ')[0].strip()}" for item in items if item.strip()}
    for names, module in _INLINE.findall(text):
        found |= {f"{module}.{name}" for name in re.findall(r"`(\w+)`", names)}
    return found


def exists(name: str) -> bool:
    """Whether a dotted name leads to something: a module, or what stands in one."""
    parts, value = name.split("."), licfg_hf
    for number, part in enumerate(parts[1:], start=2):
        if not hasattr(value, part):
            try:
                import_module(".".join(parts[:number]))
            except ImportError:
                return False
        value = getattr(value, part, None)
    return value is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_of_the_package_in_the_docs_exists(page):
    assert [name for name in sorted(names_in(page.read_text(encoding="utf-8"))) if not exists(name)] == []


def test_names_that_do_not_exist_are_found_wherever_they_stand():
    page = """`Gone` and `manifold` in `licfg_hf.evaluation`, `licfg_hf.lost.Thing`; `licfg_hf.yaml` is a file.
```python
from licfg_hf import GANPipeline, Missing  # and more
from licfg_hf.nowhere import x as y
from licfg_hf.evaluation import (
    kernel_distance,
    Lost,
)
```"""
    wrong = {"evaluation.Gone", "lost.Thing", "Missing", "nowhere", "nowhere.x", "evaluation.Lost"}
    assert {name.removeprefix("licfg_hf.") for name in names_in(page) if not exists(name)} == wrong
    assert "licfg_hf.evaluation.manifold" in names_in((ROOT / "licfg_hf" / "README.md").read_text(encoding="utf-8"))


def sentences(page: str) -> list[str]:
    """The sentences of a page's prose: without metadata, code, tables and headings; a hard line break ends one."""
    text = re.sub(r"\A---\n.*?^---\n", "", page, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.*?^```[^\n]*$|<!--.*?-->", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(?:\s*\|.*|#+ .*)$|  $", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)\s]*\)", "]", text)
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text)]
    ends = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_`\[]*[\w`])")
    return [sentence for paragraph in paragraphs for sentence in ends.split(paragraph) if sentence]


_LONGEST = 45
# Riddles: each of these stood in a text that its readers did not understand.
RIDDLES = re.compile(
    r"that is none|nobody was asked|do not get on|\bwants?\b|\bbe had\b|what it names|with a word\b|harm none|"
    r"could not be read|\bof ours\b|goes on without\b|is none of (?:licfg|them)",
)


def texts_of(module: Path) -> list[str]:
    """The strings of a module that are not docstrings, f-strings with {} where a value stands."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = [node.body[0].value for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node)]
    whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in [*whole, *docs] for part in ast.walk(node)}
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts]
    joined = ["".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
              for node in whole]  # fmt: skip
    return [*joined, *(node.value for node in plain if isinstance(node.value, str))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_have_short_sentences_without_riddles(page):
    found = sentences(page.read_text(encoding="utf-8"))
    assert [sentence for sentence in found if len(sentence.split()) > _LONGEST] == []
    assert [sentence for sentence in found if RIDDLES.search(sentence)] == []


def test_errors_and_notes_are_without_riddles():
    modules = sorted((ROOT / "licfg_hf").rglob("*.py"))
    assert [(path.name, text) for path in modules for text in texts_of(path) if RIDDLES.search(text)] == []


def test_a_long_sentence_and_a_riddle_are_found_wherever_they_stand(tmp_path):
    long = "word " * _LONGEST + "word."
    page = f"---\na: b\n---\n# Title\n\nShort one.\n- {long}\n- A picture\n  that is none.\n\n| {long} |\n"
    page += f"```\n{long}\n```\n"
    found = sentences(page)
    assert [len(sentence.split()) for sentence in found] == [2, _LONGEST + 1, 5]
    assert [bool(RIDDLES.search(sentence)) for sentence in found] == [False, False, True]
    (tmp_path / "module.py").write_text('"""wants"""\nname = 1\nsaid = f"{name} wants"\n', encoding="utf-8")
    assert texts_of(tmp_path / "module.py") == ["{} wants"]
