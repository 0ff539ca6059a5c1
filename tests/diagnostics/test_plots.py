import json

import pytest
from PIL import Image

from licfg_hf.diagnostics.plots import plot_history
from licfg_hf.errors import InputError

pytest.importorskip("matplotlib")


def test_draws_the_lines_of_a_run(tmp_path):
    records = [
        {"step": step, "loss": 1 / (step + 1), "gradient_norm/real/q10": 0.5, "gradient_norm/real/q90": 2.0 + step,
         "gradient_norm/real/mean": 1.0}
        for step in range(5)
    ]  # fmt: skip
    plot_history(records, tmp_path / "plots" / "run.png")
    picture = Image.open(tmp_path / "plots" / "run.png").convert("L")
    assert picture.size == (900, 300) and picture.getextrema()[0] < 50
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    plot_history(tmp_path / "metrics.jsonl", tmp_path / "again.png")
    with pytest.raises(InputError, match="no numbers"):
        plot_history([{"step": 1}], tmp_path / "nothing.png")
