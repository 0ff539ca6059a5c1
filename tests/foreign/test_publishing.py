"""What strangers push and convert: folders that would not load, secrets, cards of others, wrapped checkpoints."""

import json
import re
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import TINY, tiny_discriminator, tiny_generator

from licfg_hf import DDGANPipeline, DDGANScheduler, GANPipeline, SNGANDiscriminator, SNGANGenerator
from licfg_hf.cli import main as command
from licfg_hf.convert import convert, mapping
from licfg_hf.convert.formats import ddgan
from licfg_hf.errors import InputError
from licfg_hf.hub.cleaning import Cleaner
from licfg_hf.hub.contents import collect, left_out
from licfg_hf.hub.hub_models import entries_of
from licfg_hf.hub.publish import Destination
from licfg_hf.hub.ranking import Omissions, Query
from licfg_hf.objective.functional_gradient import FunctionalGradientFlow
from licfg_hf.pipelines.flow import save_flow

FP16 = "diffusion_pytorch_model.fp16.safetensors"
WEIGHTS = "diffusion_pytorch_model.safetensors"
HOSTILE = "\x1b]0;PWNED\x07\x1b[31mEVIL\x1b[2J\u202e\nerror: all is well"


SIZES = {"sample_size": 16, "base_channels": 4, "architecture": "cnn"}
GENERATOR = {**SIZES, "out_channels": 1, "channel_multipliers": (2, 1), "latent_dim": 6}


def generator() -> SNGANGenerator:
    torch.manual_seed(0)
    return SNGANGenerator(**GENERATOR).eval()


def discriminator() -> SNGANDiscriminator:
    torch.manual_seed(0)
    return SNGANDiscriminator(**SIZES, channel_multipliers=(1, 2))


@pytest.fixture
def gan(tmp_path) -> Path:
    """A pipeline with a discriminator and a flow beside it."""
    folder = tmp_path / "model"
    GANPipeline(generator()).save_pretrained(folder)
    critic = discriminator()
    critic.save_pretrained(folder / "discriminator")
    flow = FunctionalGradientFlow([critic], step_size=0.1)
    save_flow(folder / "flow", flow, critic, [critic.state_dict()])
    (folder / "config.yaml").write_text("batch_size: 4\n")
    return folder


def pushed(folder: Path) -> dict:
    return collect(folder, Destination("u/x"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# What from_pretrained would not load


def shards(place: Path, network) -> list[Path]:
    (place / WEIGHTS).unlink()
    network.save_pretrained(place, max_shard_size="1KB")
    return sorted(place.glob("*-of-*"))


def cut(path: Path, bytes_left: int) -> None:
    path.write_bytes(path.read_bytes()[:bytes_left])


def reweight(path: Path, edit) -> None:
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


def config(**values):
    return lambda folder: change(folder / "model" / "config.json", **values)


def index(**values):
    return lambda folder: change(folder / "model_index.json", **values)


SPOILED = {
    "a missing shard": lambda folder: shards(folder / "model", generator())[1].unlink(),
    "an index without its shards": lambda folder: [p.unlink() for p in shards(folder / "model", generator())],
    "shards without their index": lambda folder: (
        shards(folder / "model", generator()),
        (folder / "model" / f"{WEIGHTS}.index.json").unlink(),
    ),
    "a damaged index": lambda folder: (
        shards(folder / "model", generator()),
        (folder / "model" / f"{WEIGHTS}.index.json").write_text("[]"),
    ),
    "an index of files elsewhere": lambda folder: (
        shards(folder / "model", generator()),
        change(folder / "model" / f"{WEIGHTS}.index.json", weight_map={"linear_in.weight": "../../x.safetensors"}),
    ),
    "an old index beside whole weights": lambda folder: (folder / "model" / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"linear_in.weight": "gone.safetensors"}})
    ),
    "a header that is cut": lambda folder: cut(folder / "model" / WEIGHTS, 100),
    "weights that are cut": lambda folder: cut(folder / "model" / WEIGHTS, -8),
    "no bytes at all": lambda folder: cut(folder / "model" / WEIGHTS, 0),
    "a config without weights": lambda folder: (folder / "model" / WEIGHTS).unlink(),
    "a discriminator without weights": lambda folder: (folder / "discriminator" / WEIGHTS).unlink(),
    "a flow without a discriminator": lambda folder: change(folder / "flow" / "flow.json", steps=2),
    "a flow of weights that are cut": lambda folder: cut(folder / "flow" / "discriminator-00" / WEIGHTS, 200),
    "weights of a variant only": lambda folder: (folder / "model" / WEIGHTS).rename(
        folder / "model" / FP16
    ),
    "a damaged variant": lambda folder: (folder / "model" / FP16).write_bytes(b"x"),
    "a pickle in place of weights": lambda folder: (folder / "model" / WEIGHTS).rename(
        folder / "model" / "diffusion_pytorch_model.bin"
    ),
    "a weight too few": lambda folder: reweight(folder / "model" / WEIGHTS, lambda w: w.pop("linear_in.weight")),
    "a weight of another shape": config(latent_dim=7),
    "a class that is not the network's": config(_class_name="BigGANGenerator"),
    "a class that nobody has": config(_class_name="NoSuchClass"),
    "options that make no network": config(sample_size=-3),
    "a config that is no object": lambda folder: (folder / "model" / "config.json").write_text("[]"),
    "a config that is no JSON": lambda folder: (folder / "model" / "config.json").write_text("{"),
    "a component too few": index(model=[None, None]),
    "a component that is missing": index(unet=["diffusers", "UNet2DModel"]),
    "a component of code that nobody has": index(model=["my_code", "Mine"]),
    "a component that is no network": index(model=["os", "system"]),
    "a discriminator as generator": index(model=["licfg_hf.models.sngan", "SNGANDiscriminator"]),
    "a pipeline of another library": index(_class_name="DDPMPipeline"),
    "an index that is no object": lambda folder: (folder / "model_index.json").write_text("[]"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=list(SPOILED))
def test_a_push_refuses_what_would_not_load(gan, spoil):
    pushed(gan)
    spoil(gan)
    with pytest.raises(InputError) as caught:
        pushed(gan)
    assert "\n" not in str(caught.value)


def test_a_scheduler_that_cannot_be_is_refused_before_anything_is_allocated(tmp_path):
    DDGANPipeline(tiny_generator().eval(), DDGANScheduler()).save_pretrained(tmp_path)
    pushed(tmp_path)
    change(tmp_path / "scheduler" / "scheduler_config.json", num_train_timesteps=10**8)
    with pytest.raises(InputError, match="num_train_timesteps is in 1 to"):
        pushed(tmp_path)


class Mine(SNGANGenerator):
    """A user's own network."""


def test_a_users_own_class_is_pushed_where_its_code_is(tmp_path, monkeypatch):
    GANPipeline(Mine(**GENERATOR)).save_pretrained(tmp_path)
    library = json.loads((tmp_path / "model_index.json").read_text())["model"][0]
    assert "model/config.json" in pushed(tmp_path)
    monkeypatch.delitem(sys.modules, library)
    with pytest.raises(InputError, match="to push a class of your own, import its module first"):
        pushed(tmp_path)


def test_one_network_alone_is_tried_too(tmp_path):
    tiny_discriminator().save_pretrained(tmp_path)
    assert set(pushed(tmp_path)) == {"README.md", "config.json", WEIGHTS}
    change(tmp_path / "config.json", base_channels=8)
    with pytest.raises(InputError, match="are not those of its config"):
        pushed(tmp_path)
    change(tmp_path / "config.json", base_channels=4, _class_name="Mine")
    with pytest.raises(InputError, match="is not in licfg_hf"):
        pushed(tmp_path)


def test_variants_and_shards_are_sent_and_load_and_left_over_shards_stay(gan):
    GANPipeline.from_pretrained(gan, dtype=torch.float16).save_pretrained(gan, variant="fp16")
    pieces = shards(gan / "model", generator())
    (gan / "model" / "diffusion_pytorch_model-00009-of-00009.safetensors").write_bytes(b"of an earlier model")
    files = pushed(gan)
    sent = {name for name in files if name.startswith("model/")}
    names = ["config.json", "diffusion_pytorch_model.fp16.safetensors", f"{WEIGHTS}.index.json"]
    assert sent == {f"model/{name}" for name in (*names, *(path.name for path in pieces))}
    assert left_out(gan, files) == ["model/diffusion_pytorch_model-00009-of-00009.safetensors"]
    assert GANPipeline.from_pretrained(gan, variant="fp16", dtype=torch.float16).model.dtype == torch.float16


# What others wrote

INDEX = """\
license: mit
base_model: someone/else
model-index:
- name: a
  results:
  - task: {type: unconditional-image-generation}
    dataset: {name: CIFAR-10, type: cifar10, revision: abc}
    metrics:
    - {type: fid, value: 3.2, verified: true}
    source: {name: the paper, url: 'https://example.org'}
- name: b
  results:
  - task: {type: unconditional-image-generation}
    dataset: {name: STL-10, type: stl10}
    metrics:
    - {type: fid, value: 31.0}
"""


def test_results_and_metadata_of_others_stay_in_the_card(gan):
    (gan / "README.md").write_text(f"---\n{INDEX}---\n# Converted weights\n")
    card = pushed(gan)["README.md"].decode()
    metadata, theirs = yaml.safe_load(card.split("---")[1]), yaml.safe_load(INDEX)
    assert metadata.pop("tags") == ["gan", "licfg"] and metadata == theirs
    assert card.endswith("# Converted weights\n")


def test_own_results_stand_before_those_of_others_and_go_alone(gan):
    from test_publish import RESULT

    from licfg_hf.hub.card import with_results

    (gan / "README.md").write_text(f"---\n{INDEX}---\n# Converted weights\n")
    (gan / "eval.json").write_text(json.dumps(RESULT))
    card = pushed(gan)["README.md"].decode()
    index = yaml.safe_load(card.split("---")[1])["model-index"]
    assert [model["name"] for model in index] == ["run", "a", "b"]
    assert len(ModelCard(card).data.eval_results) == 4  # of which each can be read
    assert (
        yaml.safe_load(with_results(card, []).split("---")[1])["model-index"] == yaml.safe_load(INDEX)["model-index"]
    )


@pytest.mark.parametrize("index", ["words", "{a: 1}", "[1, {results: 2}, {name: x, results: [{metrics: 5}]}]", "[]"])
def test_an_index_of_any_form_is_no_traceback(gan, index):
    (gan / "README.md").write_text(f"---\nmodel-index: {index}\n---\n# Title\n")
    assert b"# Title" in pushed(gan)["README.md"]


# What stays here


def test_pictures_that_are_not_known_and_all_else_stay_and_are_named(gan, capsys):
    for name in ("samples.png", "samples_private.png", "me.png"):
        Image.new("L", (8, 8)).save(gan / name)
    for name in ("notes\x1b[31m.txt", "checkpoints/step-1/state.pt", "model/optimizer.pt"):
        (gan / name).parent.mkdir(parents=True, exist_ok=True)
        (gan / name).write_text("x")
    command(["push", str(gan), "--repo_id", "u/x", "--dry_run"])
    said = capsys.readouterr().out
    sent = {line.split()[-1] for line in said.splitlines() if re.match(r" *[\d,]+  ", line)}
    assert "samples.png" in sent and not sent & {"samples_private.png", "me.png"}
    left = next(line for line in said.splitlines() if line.startswith("stays here"))
    assert left == r"stays here: checkpoints/, me.png, model/optimizer.pt, notes\x1b[31m.txt, samples_private.png"


SECRETS = (
    "hub_token: hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "openai: sk-proj-abcd1234efgh5678ijkl",
    "note: sk-abcdefghijklmnopqrstuvwxyzabcdef",
    "git: ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "git: github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
    "aws: AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "wandb_api_key: 0123456789abcdef0123456789abcdef01234567",
    "WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----",
    "data: https://me:hunter2@example.org/pictures",
    "password: hunter2",
    "command: train --hub_token=abcd1234efgh",
    "slack: xoxb-1234567890-abcdef",
)
TEXTS = {
    "config.yaml": "a: 1\n{}\n",
    "README.md": "# Title\n{}\n",
    "training.json": '{{"step": 1,\n"x": "{}"}}\n',
    "report.html": "<p>\n{}</p>\n",
    "model/config.json": None,
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_found_with_file_and_line_and_not_repeated(tmp_path, name, secret):
    from licfg_hf.hub.cleaning import require_no_secrets

    text = (TEXTS[name] or '{{\n"x": "{}"}}').format(secret)
    with pytest.raises(InputError, match=re.escape(f"{name}, line 2, has what looks like")) as caught:
        require_no_secrets(Path(name), text)
    assert secret.split()[-1] not in str(caught.value)


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_that_would_go_is_searched(gan, name):
    if TEXTS[name] is None:
        change(gan / name, note=SECRETS[0])
    else:
        (gan / name).write_text(TEXTS[name].format(SECRETS[0]))
    with pytest.raises(InputError, match="a token of Hugging Face"):
        pushed(gan)


@pytest.mark.parametrize(
    "text",
    [
        "token: null\nuse_token: false\nnum_tokens: 100000\ntokens: [1, 2]\n",
        "commit: 0123456789abcdef0123456789abcdef01234567\nconfig_hash: 0123456789abcdef\n",
        "url: https://example.org:443/a@b\nrisk-based-something-long-enough-to-look-like: one\n",
        "from huggingface_hub import hf_hub_download  # sk-learn\n",
    ],
)
def test_what_only_resembles_a_secret_goes(gan, text):
    (gan / "config.yaml").write_text(f"# {text}" if "import" in text else text)
    (gan / "README.md").write_text(
        f'# Title\n{text}\n```python\nlogin(token=os.environ["HF_TOKEN"])\n```\nPass your token, or a token of 2024.\n'
    )
    assert "config.yaml" in pushed(gan)


def test_relative_folders_keep_their_last_part_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clients" / "acme").mkdir(parents=True)
    settings = {
        "data": "../some client/pictures",
        "init_from": "private/some client/run",
        "output_dir": "some client/run",
        "evaluate_features": "inception:./some client/w.pth",
        "windows": "..\\some client\\x",
        "there": "clients/acme",
        "list": ["~/some client/a.yaml"],
    }
    kept = {"data": "uoft-cs/cifar10", "text": "resize/crop/flip", "url": "https://example.org/a/b", "half": "1/2"}
    cleaner = Cleaner(tmp_path, [settings, kept])
    assert cleaner.value(kept) == kept
    assert list(cleaner.value(settings).values()) == [
        "pictures", "run", "run", "inception:w.pth", "x", "acme", ["a.yaml"],
    ]  # fmt: skip
    line = "- Command: `train --data '../some client/pictures' --init_from=private/client/run`\n"
    card = cleaner.card(f"- Data: ../some client/pictures, 3 images\n{line}")
    assert card == "- Data: pictures, 3 images\n- Command: `train --data pictures --init_from=run`\n"


def test_one_card_with_very_many_results_does_not_hold_a_leaderboard_up():
    entry = {"type": "fid", "value": 1.0, "args": {"format": 1, "protocol": {"reference": "cifar10"}}}
    index = [{"name": "x", "results": [{"dataset": {"name": "cifar10"}, "metrics": [entry] * 50_000}]}]
    notes, began = Omissions(), time.monotonic()
    assert entries_of("a/b", index, Query(("cifar10",), "cifar10", "fid"), notes) == []
    assert time.monotonic() - began < 30
    assert any("only the first 1,000 were read" in note for note in notes.lines())


# What reaches the terminal


def strings(content, path=()):
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, (dict, list)):
            yield from strings(value, (*path, key))
        else:
            yield (*path, key)


def replaced(content, path, value):
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_no_escapes_reach_the_terminal(tmp_path, name, capfd):
    folder = tmp_path / "model"
    DDGANPipeline(tiny_generator().eval(), DDGANScheduler()).save_pretrained(folder)
    content = json.loads((folder / name).read_text())
    spoiled = [replaced(content, path, HOSTILE) for path in strings(content)] + [content | {HOSTILE: HOSTILE}]
    for one in spoiled:
        (folder / name).write_text(json.dumps(one))
        for words in (["sample", str(folder), "--output", str(tmp_path / "x.png"), "--count", "1"],
                      ["push", str(folder), "--repo_id", "u/x", "--dry_run"]):  # fmt: skip
            try:
                command(words)
            except SystemExit as error:
                assert error.code == 2
            said = "".join(capfd.readouterr())
            assert not set(said) & set("\x1b\x07\u202e") and "\nerror: all is well" not in said, (words, one)


# Wrapped checkpoints


def foreign(network, names, read=mapping.torch_layer) -> dict[str, torch.Tensor]:
    """A network's weights under the names of another code base."""
    entries, state = network.state_dict(), {}
    for path, layer in network.named_modules():
        if path and mapping.own_entries(layer):
            for entry, source in read(layer, names[path]).items():
                ((key, shape),) = source.keys.items()
                value = entries[f"{path}.{entry}"]
                state[key] = (value if tuple(value.shape) == shape else value.T).clone()
    return state


def gngan_generator() -> dict[str, torch.Tensor]:
    names = {"linear_in": "linear", "norm_out": "main.6", "conv_out": "main.8"}
    for index in range(2):
        names |= {f"blocks.{index}.norm": f"main.{3 * index}", f"blocks.{index}.conv": f"main.{3 * index + 2}"}
    return foreign(SNGANGenerator(**SIZES, channel_multipliers=(4, 2, 1), latent_dim=6), names)


def gngan_discriminator() -> dict[str, torch.Tensor]:
    names = {"head.linear": "linear", "blocks.0.0": "main.0", "blocks.1.0": "main.2", "blocks.1.2": "main.4"}
    return foreign(discriminator(), names)


def converted(source: str, content, folder: Path, config: Path | None = None) -> list[str]:
    torch.save(content, folder / "weights.pth")
    return convert(source, folder / "weights.pth", folder / "new", config)


def prefixed(prefix: str, state: dict) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


WRAPPED = {
    "compiled": lambda g, d: prefixed("_orig_mod.", g),
    "distributed and compiled": lambda g, d: prefixed("module._orig_mod.", g),
    "compiled and distributed": lambda g, d: prefixed("_orig_mod.module.", g),
    "distributed twice": lambda g, d: prefixed("module.module.", g),
    "a compiled part": lambda g, d: {key.replace("main.", "main._orig_mod.", 1): value for key, value in g.items()},
    "in a state_dict": lambda g, d: {"state_dict": g, "epoch": 3},
    "two levels down": lambda g, d: {"epoch": 3, "model": {"weights": g}},
    "a part of a larger module": lambda g, d: {"state_dict": prefixed("generator.", g)},
    "both in a larger module": lambda g, d: {"state_dict": prefixed("netG.", g) | prefixed("netD.module.", d)},
    "both by other names": lambda g, d: {"G": g, "D": d},
    "no counts of batches": lambda g, d: {key: value for key, value in g.items() if "num_batches" not in key},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=list(WRAPPED))
def test_wrapped_checkpoints_are_converted(tmp_path, wrap):
    state = gngan_generator()
    content = wrap(state, gngan_discriminator())
    converted("gngan", content, tmp_path)
    loaded = GANPipeline.from_pretrained(tmp_path / "new").model
    assert torch.equal(loaded.linear_in.weight, state["linear.weight"])
    assert torch.equal(loaded.blocks[1].conv.weight, state["main.5.weight"])
    both = {"netG.linear.weight", "D"} & {*content, *content.get("state_dict", {})}
    assert (tmp_path / "new" / "discriminator").is_dir() == bool(both)


@pytest.mark.parametrize("content", ["generator.", "netG.generator."])
def test_advice_on_keys_of_no_format_names_no_other_format(tmp_path, content):
    state = prefixed(content, {"layer1.conv.weight": torch.zeros(3, 3), "layer1.conv.bias": torch.zeros(3)})
    with pytest.raises(InputError, match="or of another known format") as caught:
        converted("gngan", state, tmp_path)
    assert "--from" not in str(caught.value)


def test_two_generators_by_other_names_are_refused_by_their_names(tmp_path):
    with pytest.raises(InputError, match=r"several networks \(first, second\)"):
        converted("gngan", {"first": gngan_generator(), "second": gngan_generator()}, tmp_path)


@pytest.mark.parametrize(
    "wrap", [lambda state: {"state_dict": state}, lambda state: {"ema": prefixed("module.", state)}]
)
def test_a_ddgan_in_a_state_dict_is_not_said_to_have_what_it_has_not(tmp_path, wrap):
    network = tiny_generator()
    names = {f"latent_mapping.{index}": f"z_transform.{index}" for index in range(len(network.latent_mapping))}
    for index, (module, inside) in enumerate(ddgan._module_order(network.config)):
        names |= mapping.within(module, f"all_modules.{index}", inside)
    state = foreign(network, names, ddgan._layer)
    config = tmp_path / "options.json"
    options = {"image_size": 8, "num_channels": 1, "num_channels_dae": 8, "ch_mult": [1, 2], "num_res_blocks": 1}
    options |= {"attn_resolutions": [4], "nz": 6, "z_emb_dim": 16, "n_mlp": TINY["latent_layers"]}
    config.write_text(json.dumps(options))
    lines = converted("ddgan", wrap(state), tmp_path, config)
    assert (
        not any("netG_dict" in line for line in lines) and "netG_dict" not in (tmp_path / "new/README.md").read_text()
    )
    loaded = DDGANPipeline.from_pretrained(tmp_path / "new").unet
    assert torch.equal(loaded.conv_in.weight, network.conv_in.weight)
