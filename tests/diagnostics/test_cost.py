import time

import torch

from licfg_hf.diagnostics.cost import discriminator_steps, measure_costs


def test_ratio_of_a_step_that_takes_three_times_as_long():
    costs = measure_costs({"none": lambda: time.sleep(0.01), "slow": lambda: time.sleep(0.03)}, "none", rounds=5)
    assert costs["none"].ratio == 1
    assert 1.5 < costs["slow"].ratio < 6 and costs["slow"].low <= costs["slow"].ratio <= costs["slow"].high


def test_every_technique_takes_a_step():
    steps = discriminator_steps(batch=4, size=8, device=torch.device("cpu"))
    assert len(steps) > 10
    for step in steps.values():
        step()
