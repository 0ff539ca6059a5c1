"""Generated images have the labels of the real ones beside them, or labels of their own."""

import pytest
import torch
from torch import nn

from licfg_hf import GANTask, GradientPenalty, get_loss, r1_penalty
from licfg_hf.errors import InputError
from licfg_hf.objective.classification import AuxiliaryClassification
from licfg_hf.objective.consistency import BalancedConsistencyRegularization, ConsistencyRegularization
from licfg_hf.objective.functional_gradient import FunctionalGradientFlow
from licfg_hf.recipes import main
from licfg_hf.training import LazyPenalty
from licfg_hf.training.stages import TransportedTask
from licfg_hf.training.step import discriminator_terms, generator_terms

CLASSES = 5
OWN = GANTask(latent_dim=2, num_classes=CLASSES, fake_labels="uniform")
FEW = ["--max_steps", "2", "--batch_size", "8", "--sample_count", "4", "--evaluate_samples", "8"]


class LabelImages(nn.Module):
    """A generator whose images are their label everywhere."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, latents, class_labels):
        return self.scale * class_labels.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


class Recording(nn.Module):
    """A critic y * sum(x), which keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.calls = []

    def forward(self, images, class_labels):
        self.calls.append((images.detach(), class_labels))
        return self.scale * class_labels.float()[:, None] * images.flatten(1).sum(1, keepdim=True)


def micro_batch(task=OWN, count=32, seed=0):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return task.draw(labels.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2), labels, rng)


def test_labels_are_drawn_uniformly_and_independently_of_the_real_ones():
    drawn = micro_batch(count=20_000)
    own, real = drawn.fake_conditioning["class_labels"], drawn.conditioning["class_labels"]
    assert torch.equal(real, torch.arange(20_000) % 2) and own.dtype == torch.int64
    together = torch.bincount(own * 2 + real, minlength=2 * CLASSES) / 20_000
    assert (together - 1 / (2 * CLASSES)).abs().max() < 0.01  # five standard deviations


def test_without_the_option_a_generated_image_has_the_label_of_the_real_one():
    drawn = micro_batch(GANTask(latent_dim=2, num_classes=CLASSES))
    assert drawn.of_fakes == {} and drawn.fake_conditioning is not drawn.conditioning
    assert torch.equal(drawn.fake_conditioning["class_labels"], torch.arange(32) % 2)
    assert torch.equal(drawn.noise["latents"], micro_batch().noise["latents"])


def test_every_image_is_made_and_judged_with_its_own_label():
    critic, drawn = Recording(), micro_batch()
    terms = [LazyPenalty(r1_penalty(1.0)), LazyPenalty(ConsistencyRegularization(points=("real",)))]
    discriminator_terms(LabelImages(), critic, OWN, get_loss("hinge"), terms, drawn)
    generator_terms(LabelImages(), critic, OWN, get_loss("hinge"), drawn)
    own = drawn.of_fakes["class_labels"]
    with_own = [torch.equal(labels, own) for _, labels in critic.calls]
    assert any(with_own) and not all(with_own)
    for (images, labels), fake in zip(critic.calls, with_own, strict=True):
        if fake:
            assert torch.equal(images, LabelImages()(None, own).detach())
        else:
            assert torch.equal(labels, torch.arange(32) % 2) and images.max() <= 1


def test_a_flow_moves_generated_images_with_their_labels():
    drawn, step_size = micro_batch(), 0.5
    flow = FunctionalGradientFlow([Recording()], step_size)
    moved = TransportedTask(OWN, flow, torch.Generator()).generate(LabelImages(), drawn)
    expected = (1 + step_size) * LabelImages()(None, drawn.of_fakes["class_labels"])
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize(
    ("term", "pairs"),
    [
        *((GradientPenalty(1.0, points=points), True) for points in ("interpolate", "fake", "real_and_fake")),
        *((GradientPenalty(1.0, points=points), False) for points in ("real", "perturbed")),
        (ConsistencyRegularization(), False),
        (BalancedConsistencyRegularization(), True),
        (AuxiliaryClassification(1.0), True),
        (lambda *arguments, **options: None, True),
    ],
)
def test_a_term_says_whether_it_shows_the_critic_generated_points(term, pairs):
    assert LazyPenalty(term).pairs_fakes is pairs


def test_a_term_that_needs_one_label_for_both_is_refused_before_the_training(tmp_path, capsys):
    start = ["--preset", "quickstart", *FEW, "--normalizer", "spectral", "--labels.of_fakes", "uniform"]
    for name, options in (
        ("biggan_eps_cifar", []),
        ("licfg_biggan_cifar", []),
        ("biggan_pgn_cifar", ["--consistency", "both"]),
    ):
        with pytest.raises(SystemExit) as stop:
            main(name, [*start, *options, "--output_dir", str(tmp_path / name)])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and "--labels.of_fakes" in error and "Traceback" not in error


def test_recipes_train_with_labels_of_their_own(tmp_path):
    start = ["--preset", "quickstart", *FEW, "--labels.of_fakes", "uniform"]
    options = ["--penalty", "r1", "--consistency", "real", "--normalizer", "spectral"]
    main("biggan_pgn_cifar", [*start, *options, "--output_dir", str(tmp_path / "one")])
    staged = ["--penalty", "none", "--functional_gradient.steps", "1", "--generator_batch_size", "8"]
    main("licfg_biggan_cifar", [*start, *staged, "--output_dir", str(tmp_path / "two")])
    assert all((tmp_path / name / "model_index.json").is_file() for name in ("one", "two"))


def test_another_word_is_refused():
    with pytest.raises(InputError, match="fake_labels"):
        GANTask(2, 3, **{"fake_labels": "drawn"})
