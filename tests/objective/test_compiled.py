"""Every loss, penalty and direction of the catalogue is one compiled graph, with the gradients of eager steps."""

from dataclasses import replace

import pytest
import torch
from gans import DISCRIMINATORS, batch
from regularizers import FURTHER_TERMS, METHODS, PENALTIES_BY_METHOD

from licfg_hf import (
    AdversarialLipschitzPenalty,
    EpsCenteredGradientPenalty,
    FeatureMatching,
    LazyPenalty,
    StrengthControlledPenalty,
    get_loss,
    r1_penalty,
)
from licfg_hf.objective.losses import LOSS_NAMES
from licfg_hf.training.step import discriminator_terms, generator_terms
from licfg_hf.training.tasks import GANTask, MicroBatch


def players(critic=DISCRIMINATORS["sngan_cnn"]):
    torch.manual_seed(0)
    generator = torch.nn.Sequential(torch.nn.Linear(6, 64), torch.nn.Unflatten(1, (1, 8, 8)), torch.nn.Tanh())
    return generator, critic()


def update(terms_of, trained, *arguments) -> dict[str, torch.Tensor]:
    """The terms of one player and the gradients of its network."""
    torch.manual_seed(1)  # for what is drawn
    terms = terms_of(*arguments)
    sum(value for value in terms.values() if value.requires_grad).backward()
    return {**terms, **{name: value.grad for name, value in trained.named_parameters() if value.grad is not None}}


class PatchesAndTokens(torch.nn.Module):
    """Two heads, a map and tokens behind fused attention, with features beside."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.last, self.logit = torch.nn.Conv2d(8, 1, 3), torch.nn.Linear(8, 1)

    def forward(self, images):
        features = self.first(images).tanh()
        tokens = features.flatten(2).mT[:, None]
        mixed = torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]
        return {"logits": [self.last(features), self.logit(mixed)], "features": [features]}


def require_equal_when_compiled(loss, terms, critic=DISCRIMINATORS["sngan_cnn"]) -> None:
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    micro_batch = MicroBatch(batch(4)[0], noise={"latents": noise})
    for function, index, further in (
        (discriminator_terms, 1, (terms, micro_batch)),
        (generator_terms, 0, (micro_batch, terms)),
    ):
        found = []
        for compiled in (False, True):
            torch._dynamo.reset()
            networks = players(critic)
            options = {"fullgraph": True, "dynamic": False, "backend": "aot_eager"}
            called = torch.compile(function, **options) if compiled else function
            found.append(update(called, networks[index], *networks, GANTask(6), loss, *further))
        plain, one_graph = found
        assert plain.keys() == one_graph.keys()
        for name, value in plain.items():
            torch.testing.assert_close(one_graph[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: n + text)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", (1.0, 0.5))
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_loss_is_one_graph(name, alpha):
    require_equal_when_compiled(get_loss(name, alpha), [])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PENALTIES_BY_METHOD)
def test_a_penalty_is_one_graph(name, method):
    require_equal_when_compiled(get_loss("hinge"), [LazyPenalty(PENALTIES_BY_METHOD[name](method))])


@pytest.mark.slow
@pytest.mark.parametrize("name", FURTHER_TERMS)
def test_a_further_term_is_one_graph(name):
    require_equal_when_compiled(get_loss("hinge"), [LazyPenalty(FURTHER_TERMS[name]())])


@pytest.mark.slow
@pytest.mark.parametrize("antithetic", (True, False))
@pytest.mark.parametrize("name", ("eps_centered_random", "r1", "real_and_fake"))
def test_a_stochastic_penalty_is_one_graph(name, antithetic):
    penalty = replace(PENALTIES_BY_METHOD[name]("stochastic"), draws=2, antithetic=antithetic)
    require_equal_when_compiled(get_loss("hinge"), [LazyPenalty(penalty)])


@pytest.mark.filterwarnings("ignore:Using .torch.compile:UserWarning")
@pytest.mark.parametrize("name", ("tangent", "finite_difference", "stochastic", "adversarial"))
def test_a_penalty_may_be_the_first_to_call_a_critic_that_is_compiled_by_itself(name):
    """It watches what modules are called; the compiler must not trace how."""
    adversarial = AdversarialLipschitzPenalty(lipschitz_constant=0.0)
    penalty = adversarial if name == "adversarial" else r1_penalty(1.0, method=name)
    points, found = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64), []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
        called = torch.compile(network, backend="aot_eager") if compiled else network
        value = penalty(called, points, -points, rng=torch.Generator().manual_seed(1))
        found.append([value, *torch.autograd.grad(value, network[0].weight)])
    torch.testing.assert_close(*found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("hinge", "relativistic"))
@pytest.mark.parametrize("method", METHODS)
def test_heads_features_and_fused_attention_are_one_graph(name, method):
    terms = [EpsCenteredGradientPenalty(0.5, method=method), FeatureMatching(1.0)]
    named = [LazyPenalty(term, name=type(term).__name__) for term in terms]
    require_equal_when_compiled(get_loss(name), named, PatchesAndTokens)


@pytest.mark.slow
def test_a_controlled_weight_is_an_input_of_one_graph():
    """It moves between the steps, and nothing is compiled anew."""
    torch._dynamo.reset()
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    term = LazyPenalty(StrengthControlledPenalty(r1_penalty(2.0), averaging=1, rate=0.5))
    arguments = (*players(), GANTask(6), get_loss("hinge"), [term], MicroBatch(batch(4)[0], noise={"latents": noise}))
    compiled = torch.compile(discriminator_terms, fullgraph=True, dynamic=False, backend="aot_eager")
    weights = []
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(5):
            plain, one_graph = discriminator_terms(*arguments), compiled(*arguments)
            assert plain.keys() == one_graph.keys()
            for name, value in plain.items():
                torch.testing.assert_close(one_graph[name], value, rtol=1e-4, atol=1e-12)
            numbers = term.after_update(one_graph["penalty"].detach(), one_graph["discriminator_gain"])
            weights.append(numbers["penalty_weight"].item())
    assert len(set(weights)) == 4  # it rests at the first two
