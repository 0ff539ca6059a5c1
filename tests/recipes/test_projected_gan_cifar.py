import pytest
import torch
from timm_setup import require_timm

from licfg_hf import GANPipeline, ProjectedDiscriminator
from licfg_hf.recipes import main


@pytest.fixture(scope="module", autouse=True)
def timm_is_here():
    require_timm()


FEW = [
    "--preset",
    "quickstart",
    "--max_steps",
    "2",
    "--batch_size",
    "8",
    "--sample_count",
    "4",
    "--evaluate_samples",
    "8",
]


def test_quickstart_trains_says_that_its_backbone_is_random_and_saves_it(tmp_path, capsys):
    main("projected_gan_cifar", [*FEW, "--output_dir", str(tmp_path)])
    assert "random weights" in capsys.readouterr().out
    assert "never trained" in (tmp_path / "README.md").read_text()
    assert GANPipeline.from_pretrained(tmp_path)(batch_size=2).images[0].size == (8, 8)
    discriminator = ProjectedDiscriminator.from_pretrained(tmp_path / "discriminator")
    assert torch.isfinite(discriminator(torch.zeros(2, 1, 8, 8)).logits).all()


def test_weights_that_cannot_be_had_are_one_line(tmp_path, capsys):
    for weights, words in (("timm", "timm cannot load"), (str(tmp_path / "missing.pth"), "no file")):
        with pytest.raises(SystemExit) as stop:
            main("projected_gan_cifar", [*FEW, "--backbone.weights", weights, "--output_dir", str(tmp_path / "new")])
        errors = capsys.readouterr().err
        assert stop.value.code == 2 and words in errors and "Traceback" not in errors
