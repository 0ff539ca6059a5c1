"""The comparison with plain re-implementations of the public references runs, and compares like with like."""

import json

import pytest
import reference_speed
import torch

from licfg_hf.models.ddgan import FIRDownsample, FIRUpsample


@pytest.mark.parametrize("how, own", [(reference_speed.UP, FIRUpsample), (reference_speed.DOWN, FIRDownsample)])
def test_both_forms_of_the_filter_are_the_librarys(how, own):
    images = torch.randn(2, 3, 8, 8)
    for fir in (reference_speed.native_fir, reference_speed.grouped_fir):
        torch.testing.assert_close(reference_speed.Resample(fir, **how)(images), own()(images))


@pytest.mark.slow
def test_every_work_runs_with_networks_of_the_products_size(tmp_path):
    # PlainPlayers refuses other numbers of parameters.
    reference_speed.main(["--quick", "--rounds", "1", "--out", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["works"]) == list(reference_speed.WORKS) and report["quick"]
    for work in report["works"].values():
        assert {side: len(times) for side, times in work["seconds"].items()} == dict.fromkeys(
            ("product", *work["ratio"]), 1
        )
        assert all(0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"] for ratio in work["ratio"].values())


def test_a_work_that_is_none_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        reference_speed.main(["--only", "stylegan", "--out", str(tmp_path / "report.json")])
    errors = capsys.readouterr().err
    assert errors.startswith("error: --only takes works of ddgan") and errors.count("\n") == 1
    assert not list(tmp_path.iterdir())
