"""What the recipes of functional gradient learning share: xICFG's numbers, its options and its text for the card."""

from typing import Any

from ..objective.functional_gradient import StageConfig
from ..training import StagedFunctionalGradient
from .networks import Arguments
from .options import LONG_RUN, optimizers
from .texts import METHODS

COMPONENT = {"functional_gradient": StageConfig}


def staged(arguments: Arguments) -> StagedFunctionalGradient:
    """The generator's step that the options describe."""
    return StagedFunctionalGradient(StageConfig(**arguments["functional_gradient"]))


# The CFG authors' defaults: 10,000 stages of 15 steps, batches of 64, pools of 640, RMSprop; and Li-CFG's penalty on
# interpolates with scale 0.1 at every update. Its weight is ours: the reference's default is 0.
XICFG: dict[str, Any] = {
    "max_steps": 150_000,
    "batch_size": 64,
    "generator_batch_size": 640,
    **optimizers(2.5e-4, 2.5e-4, name="rmsprop", alpha=0.95, eps=1e-18),
    "ema_decay": None,
    "loss": "non_saturating",
    "penalty": "eps_centered",
    "penalty_weight": 0.1,
    "functional_gradient.steps": 15,
    **LONG_RUN,
    "checkpoint_every": 3000,
    "sample_every": 3000,
}

METHOD = (
    "The generator was not trained by a GAN's minimax game but by functional gradient learning (xICFG; Johnson and "
    "Zhang, ICML 2018), as Li-CFG does: in stages, its samples move along the input gradient of the discriminators "
    "that are trained meanwhile, and it is then regressed on where they went. `model/` is the generator alone; "
    '`flow/` holds the steps of the last stage, which it has not learned yet: pass `flow=load_flow(".")` to the '
    "pipeline, or `licfg-hf sample --flow`."
)
NOTES = [
    "Where the reference code is odd, this differs: convolutions have their biases, the ε-centred penalty is on from "
    "the first step (the reference's driver turns it on late, below an FID of 3), the loss is the logistic one alone "
    "(the reference's additional Wasserstein term has the wrong sign), stored discriminators run in eval mode, and "
    "the discriminator has no BatchNorm unless asked for.",
]


def card(tags: list[str], summary: str, citation: str, notes: list[str] | None = None) -> dict[str, Any]:
    """Variables of the model card."""
    return {
        "tags": ["functional-gradient", *tags],
        "summary": summary,
        "methods": METHODS,
        "training": METHOD,
        "citation": citation,
        "notes": [*NOTES, *(notes or [])],
    }
