"""The study of held strengths trains its runs apart from one another, and has a cell for each column."""

import torch
from held_strength import line, train


def test_a_run_is_the_same_beside_others():
    images = torch.rand(32, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    both, alone = (train(images, "hinge", 4, [3], starts, 8, averaging=1) for starts in ((0.1, 10.0), (0.1,)))
    assert both[-1].weight[0] != 0.1 and both[-1].weight[0] != both[-1].weight[1]
    torch.testing.assert_close(both[-1].weight[:1], alone[-1].weight, rtol=1e-4, atol=0)
    torch.testing.assert_close(both[-1].cost[:1], alone[-1].cost, rtol=1e-3, atol=1e-9)


def test_a_line_counts_the_runs():
    cells = line(torch.rand(32, 16) * 2 - 1, "non_saturating", 4, 2, (0.1, 1.0), 5)
    assert len(cells) == 7 and cells[:3] == ["non_saturating", "4", "4"] and cells[3].endswith(" of 4")
