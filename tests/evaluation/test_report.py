import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from licfg_hf.errors import InputError
from licfg_hf.evaluation.report import nearest_neighbours, write_report
from licfg_hf.images import image_grid

PROTOCOL = {
    "extractor": "digits", "extractor_hash": "0123456789abcdef", "preprocessing": "grey 8 px as they are",
    "reference": "digits", "reference_fingerprint": "ffee", "reference_split": "train", "reference_count": 1437,
    "samples": 1000, "seed": 3, "weights": "ema", "selection": "final", "truncation": None, "flow": False,
    "jpeg": None, "dtype": "float32", "neighbours": 3, "kid_subsets": 1, "kid_subset_size": 1000, "is_splits": 10,
    "step": 2000, "config_hash": "c0ffee", "versions": {"torch": "2.11", "licfg_hf": "0.1"},
}  # fmt: skip
RESULT = {
    "format": 1,
    "name": "output/licfg_mnist-quickstart",
    "protocol": PROTOCOL,
    "metrics": {
        "fid": {"value": 12.3456},
        "kid": {"value": 0.01234, "std": 0.001},
        "is": {"value": 8.125, "std": 0.1},
        "recall": {"value": 0.5},
        "neural_divergence": {"value": 0.31, "low": 0.28, "high": 0.35},
    },
    "curves": {"precision_recall": [{"k": k, "precision": 1 - 0.5 / k, "recall": 1 - 0.8 / k} for k in (5, 3, 1)]},
    "facts": {"device": "cpu", "seconds": 12.3, "peak_memory_mib": 900.0},
}
HISTORY = [{"step": step, "fid": 2000 / step} for step in (100, 500, 1000, 2000)] + [{"step": 7, "loss": 1.0}]
TITLES = {
    "metrics": "Metrics",
    "samples": "Samples",
    "classes": "Classes",
    "neighbours": "Nearest reference images",
    "precision_recall": "Precision and recall over k",
    "training": "Fréchet distance (digits) over training",
    "interpolation": "Latent interpolation",
    "protocol": "Protocol",
}
PICTURES = [name for name in TITLES if name not in ("metrics", "protocol")]


def pictures(rng: torch.Generator) -> dict[str, Image.Image]:
    """Grids of smooth noise, of the sizes that an evaluation draws."""

    def grid(count: int, columns: int) -> Image.Image:
        noise = torch.randn(count, 1, 3, 3, generator=rng)
        return image_grid(torch.nn.functional.interpolate(noise, 8, mode="bicubic").clamp(-1, 1), columns)

    return {"samples": grid(64, 8), "classes": grid(80, 8), "neighbours": grid(48, 6), "interpolation": grid(32, 8)}


class Page(HTMLParser):
    """What a test asks about a page: attributes by tag, sections, and text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.text += " "

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> list[str]:
        return [section["id"] for section in self.all("section")]


@pytest.fixture
def report(tmp_path, rng) -> Path:
    return write_report(tmp_path / "out", RESULT, pictures(rng), HISTORY)


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_has_every_section_in_order(report):
    page = read(report)
    assert report.name == "report.html" and page.sections == list(TITLES)
    assert all(title in page.text for title in TITLES.values())


def test_metrics_say_how_they_were_measured(report):
    text = " ".join(read(report).text.split())
    assert "Fréchet distance (digits) lower is better 12.35 EMA weights; 1,000 samples" in text
    assert "class score (digits) higher is better 8.125 standard deviation 0.1" in text
    assert "0.31 interval 0.28 to 0.35" in text and "full-sample estimate." in text and "k = 3 neighbours." in text
    assert "FID" not in text  # these are no Inception features
    for field, value in PROTOCOL.items():
        assert field.replace("_", " ") in text and (
            value is None or isinstance(value, (bool, dict)) or str(value) in text
        )
    assert "licfg_hf 0.1, torch 2.11" in text and "peak memory mib 900" in text and "seconds 12.3" in text


def test_pictures_are_within_the_page_and_beside_it(report):
    images = read(report).all("img")
    assert len(images) == len(PICTURES) and all(image["alt"] for image in images)
    for name, image in zip(PICTURES, images, strict=True):
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        within, beside = (
            Image.open(io.BytesIO(base64.b64decode(content))),
            Image.open(report.parent / f"report/{name}.png"),
        )
        assert within.size == beside.size and within.tobytes() == beside.tobytes()
        assert int(image["width"]) * within.height == int(image["height"]) * within.width


def requests(page: Page) -> list[str]:
    """What a browser would fetch."""
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    return [source for source in sources if not source.startswith("data:")]


def test_the_page_needs_no_network_and_no_other_file(report):
    page = read(report)
    assert requests(page) == [] and not page.all("link") and not page.all("script")
    assert (
        "url(" not in report.read_text()
        and "http://" not in report.read_text()
        and "https://" not in report.read_text()
    )
    assert "default-src 'none'" in str(page.all("meta"))


def test_what_is_not_there_is_left_out(tmp_path, report):
    bare = {name: RESULT[name] for name in ("format", "name", "protocol", "metrics")}
    page = read(write_report(report.parent, bare, {}))
    assert page.sections == ["metrics", "protocol"]
    assert list((report.parent / "report").iterdir()) == []  # pictures of the earlier report are gone
    history = [{"step": 1, "fid": float("nan")}, {"step": 2}, {"fid": 3.0}, {"step": 3, "fid": None}]
    assert read(write_report(tmp_path, bare, {}, history)).sections == ["metrics", "protocol"]


def test_curves_are_tables_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = read(write_report(tmp_path, RESULT, {}, HISTORY))
    text = " ".join(page.text.split())
    assert page.sections == ["metrics", "precision_recall", "training", "protocol"] and not page.all("img")
    assert "k precision recall 1 0.5 0.2 3 0.8333 0.7333 5 0.9 0.84" in text
    assert "step Fréchet distance (digits) 100 20 500 4 1000 2 2000 1" in text


def test_text_from_outside_is_only_text(tmp_path):
    evil = "</title><script>alert(1)</script>\"'&$\\no$"
    result = RESULT | {"name": evil, "protocol": PROTOCOL | {"reference": evil, "versions": {evil: evil}}}
    result |= {"facts": {evil: evil}}
    path = write_report(tmp_path, result | {"protocol": result["protocol"] | {"extractor": evil}}, {}, HISTORY)
    page = read(path)
    assert "<script" not in path.read_text() and not page.all("script") and page.text.count(evil) > 8


def test_a_damaged_result_or_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="the result is damaged: x needs a finite value, not 1"):
        write_report(tmp_path, RESULT | {"metrics": {"x": 1}}, {})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the report into"):
        write_report(tmp_path / "file", RESULT, {})


def test_neighbours_are_the_nearest_in_feature_space():
    samples = torch.linspace(-1, 0, 2)[:, None, None, None].expand(2, 1, 32, 32)
    references = torch.tensor([0.2, 0.4, 0.6, 0.8])[:, None, None, None].expand(4, 1, 32, 32)
    picture = nearest_neighbours(
        samples, references, torch.tensor([[0.0], [10.0]]), torch.tensor([[9.0], [0.5], [12.0], [-0.1]]), 2
    )
    assert picture.size == (32 + 8 + 65, 65)
    grey = [[picture.getpixel((x, y)) / 127.5 - 1 for x in (16, 56, 89)] for y in (16, 49)]
    assert grey[0] == pytest.approx([-1, 0.8, 0.4], abs=0.01) and grey[1] == pytest.approx([0, 0.2, 0.6], abs=0.01)


def test_a_copy_among_many_alike_is_found():
    generator = torch.Generator().manual_seed(0)
    features = 1000 + 1e-3 * torch.randn(100, 16, generator=generator)  # products of matrices would lose the distance
    references = torch.zeros(100, 1, 32, 32)
    references[41] = 1
    picture = nearest_neighbours(torch.zeros(1, 1, 32, 32), references, features[41:42], features, 1)
    assert picture.getpixel((50, 16)) == 255


def test_neighbours_need_images_and_features_that_belong_together():
    images, features = torch.zeros(3, 1, 8, 8), torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"count is in 1\.\.3"):
        nearest_neighbours(images, images, features, features, 4)
    with pytest.raises(ValueError, match="a feature vector each"):
        nearest_neighbours(images, images, features[:2], features, 1)
    with pytest.raises(ValueError, match="differ"):
        nearest_neighbours(images, images.expand(3, 3, 8, 8), features, features, 1)


# In a test copy of the page: what the browser made of it, written where --dump-dom shows it.
PROBE = """<script>addEventListener("load", () => {
const sizes = [...document.images].map(image => [image.naturalWidth, image.naturalHeight, image.width, image.height]);
const root = document.documentElement;
const facts = {sizes, hidden: root.scrollWidth - root.clientWidth, wide: root.clientWidth,
  page: getComputedStyle(document.body).backgroundColor,
  fetched: performance.getEntriesByType("resource").map(e => e.name)};
root.dataset.facts = JSON.stringify(facts)})</script></body>"""


def browse(page: Path, folder: Path, width: int, *options: str) -> tuple[Page, dict, Image.Image]:
    """Opens a page from disk in Chromium: its DOM, the facts of the probe, and a screenshot."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("there is no chromium on PATH to look at the report with")
    copy, shot = folder / "copy.html", folder / "shot.png"
    probed = page.read_text(encoding="utf-8").replace("default-src 'none';", "script-src 'unsafe-inline';")
    copy.write_text(probed.replace("</body>", PROBE), encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        *options,
    ]
    command += [f"--window-size={width},1200", "--hide-scrollbars", f"--screenshot={shot}", "--dump-dom"]
    done = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    dom = Page(done.stdout)
    return dom, json.loads(dom.all("html")[0]["data-facts"]), Image.open(shot).convert("RGB")


@pytest.mark.parametrize(
    ("width", "scheme", "background"), [(1100, "light", "rgb(255, 255, 255)"), (500, "dark", "rgb(20, 23, 27)")]
)
def test_a_browser_shows_the_whole_page(report, tmp_path, width, scheme, background):
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    dom, facts, shot = browse(report, tmp_path, width, *dark)
    assert dom.sections == list(TITLES) and all(title in dom.text for title in TITLES.values())
    assert len(facts["sizes"]) == len(PICTURES)
    for natural_width, natural_height, shown_width, shown_height in facts["sizes"]:
        assert min(natural_width, natural_height) > 0
        assert shown_width / shown_height == pytest.approx(natural_width / natural_height, rel=0.02)
    assert facts["hidden"] == 0 and facts["wide"] == width  # nothing to scroll sideways for
    assert all(name.startswith("data:") for name in facts["fetched"]) and requests(dom) == []
    assert facts["page"] == background and shot.getpixel((2, 2)) == tuple(map(int, re.findall(r"\d+", background)))
    assert len(shot.getcolors(maxcolors=1 << 20)) > 50
