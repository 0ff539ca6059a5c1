"""The tables and curves of ``ablate_eps``, from the numbers of its finished runs alone."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ablation_arms import Setting
from judge import DELTA, cell
from sweep import Result, arm_folder

from licfg_hf.diagnostics.intervals import mean_interval
from licfg_hf.diagnostics.plots import panel_grid
from licfg_hf.errors import InputError
from licfg_hf.evaluation.extractors import Extractor
from licfg_hf.evaluation.metrics import METRICS
from licfg_hf.evaluation.protocol import EvaluationProtocol, differences, in_words, label, makes_samples
from licfg_hf.files import writing

Found = Sequence[tuple[Setting, Sequence[Result]]]
_QUALITY = ("fid", "precision", "recall", "density", "coverage", "classes_covered")
_DIAGNOSTICS = {"gradient_norm": "E‖grad D‖", "neighbourhood": "latent neighbourhood", "brightness": "brightness"}
_FEWEST_CLASSES, _LEAST_RECALL = 0.5, 0.01  # below these a run counts as collapsed
_STILL_TRAINS = 2.0  # multiple of an arm's best Fréchet distance
_SAY = {"none": "none", "r1": "R1", "zero": "0-centred", "one": "1-centred"}
_MARKERS = {"eps": "o", "minus": "v", "random": "s", "norm": "D"}


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        found: each setting with its results, one for each seed.
        classes: of the data, where the extractor tells them apart; else None.
        extractor: its name.
        accuracy: of the classifier that the study trained, on images that it did not learn; None for another one.
    """

    found: Found
    classes: int | None
    extractor: str
    accuracy: float | None = None

    @property
    def plain(self) -> Found:
        """The settings with the preset's learning rates."""
        return [(setting, own) for setting, own in self.found if setting.factor == 1]

    @property
    def metrics(self) -> list[str]:
        """Those that were measured, in the order of the table."""
        return [name for name in _QUALITY if name != "classes_covered" or self.classes is not None]

    def title(self, metric: str) -> str:
        """Of a column or an axis; the legend names the features."""
        return label(metric, self.extractor) if self.extractor == "inception" else METRICS[metric].title


def require_comparable(results: Sequence[Result], folder: Path, extractor: Extractor) -> None:
    """Checks that all runs were measured in one way.

    Args:
        results: of the study.
        folder: of the study.
        extractor: that the study measures by now.

    Raises:
        InputError: two of them were not, or not by this extractor; the message names the folders.
    """
    found = [(arm_folder(folder, result.arm, result.seed), result) for result in results]
    known = [(place, _protocol(place)) for place, result in found if result.diverged is None]
    for place, protocol in known:
        if protocol.extractor_hash != extractor.digest:
            raise InputError(f"{place} was measured by another {extractor.name}: choose another --output_dir")
        wrong = differences(known[0][1], protocol)
        if wrong:
            raise InputError(f"{known[0][0]} and {place} were measured in different ways ({wrong[0]})")


def _protocol(place: Path) -> EvaluationProtocol:
    try:
        return EvaluationProtocol.from_dict(json.loads((place / "eval.json").read_text(encoding="utf-8"))["protocol"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{place / 'eval.json'} is damaged: remove the arm's folder, and it is trained again"
        ) from error


# ---- numbers --------------------------------------------------------------------------------------------------------


def collapsed(result: Result, classes: int | None) -> bool:
    """Whether a run finished with fewer than half of the classes or next to no recall."""
    if result.diverged is not None:
        return False
    few = classes is not None and result.metrics["classes_covered"] < _FEWEST_CLASSES * classes
    return few or result.metrics["recall"] < _LEAST_RECALL


def worst_drop(history: Sequence[Mapping[str, float]]) -> float | None:
    """The largest Fréchet distance after the best one, as a multiple of it: 1 for a run that ends with its best."""
    values = [line["fid"] for line in history]
    if not values:
        return None
    best = values.index(min(values))
    return max(values[best:]) / values[best]


def spread_along_training(results: Sequence[Result]) -> float | None:
    """Standard deviation over the seeds of the Fréchet distance over its mean, averaged over the evaluations."""
    by_step: dict[float, list[float]] = {}
    for result in _finished(results):
        for line in result.history:
            by_step.setdefault(line["step"], []).append(line["fid"])
    shares = [stdev(values) / mean(values) for values in by_step.values() if len(values) > 1]
    return mean(shares) if shares else None


def still_trains(result: Result, best: float, classes: int | None) -> bool:
    """Whether a run neither diverged nor collapsed, and its Fréchet distance is below twice the best of its arm."""
    fine = result.diverged is None and not collapsed(result, classes)
    return fine and result.metrics["fid"] < _STILL_TRAINS * best


def _finished(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.diverged is None]


def _values(results: Sequence[Result], name: str) -> list[float]:
    """A number of each finished run that has it, finite."""
    found = [{**result.measured, **result.metrics} for result in _finished(results)]
    return [numbers[name] for numbers in found if numbers.get(name) is not None and math.isfinite(numbers[name])]


# ---- tables ---------------------------------------------------------------------------------------------------------


def report(study: Study, folder: Path) -> str:
    """Markdown tables: quality, stability, diagnostics and, where they were asked for, learning rates.

    Args:
        folder: of the study, where the protocol of the runs is read.
    """
    parts = [
        "# The centre of the gradient penalty",
        _table("Quality and diversity", study.plain, _quality_columns(study)),
        *_comparisons(study),
        _table("Stability", study.plain, _stability_columns(study)),
        _table("The critic, the latents and the samples", study.plain, _diagnostic_columns()),
    ]
    if any(setting.factor != 1 for setting, _ in study.found):
        parts.append(_learning_rates(study))
    return "\n\n".join([*parts, _legend(study, folder), ""])


Columns = Mapping[str, Callable[[Sequence[Result]], str]]


def _table(title: str, found: Found, columns: Columns) -> str:
    lines = [f"| arm | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    lines += [f"| {s.name} | {' | '.join(make(own) for make in columns.values())} |" for s, own in found]
    return "\n".join([f"## {title}", "", *lines])


def _quality_columns(study: Study) -> Columns:
    columns: dict[str, Any] = {"finished": lambda own: f"{len(_finished(own))} of {len(own)}"}
    for name in study.metrics:
        columns[study.title(name)] = lambda own, name=name: cell(_values(own, name))
    return {**columns, "device-minutes": _minutes}


def _minutes(results: Sequence[Result]) -> str:
    """Of a run, on the average; no interval, because a machine's other work is in it."""
    known = [result.device_minutes for result in _finished(results) if result.device_minutes is not None]
    return f"{mean(known):.3g}" if known else "-"


def _stability_columns(study: Study) -> Columns:
    def share(own: Sequence[Result], is_so: Callable[[Result], bool]) -> str:
        return f"{sum(map(is_so, own))} of {len(own)}"

    def spread(own: Sequence[Result]) -> str:
        found = spread_along_training(own)
        return "-" if found is None else f"{found:.2g}"

    def drop(own: Sequence[Result]) -> str:
        return cell([value for result in _finished(own) if (value := worst_drop(result.history)) is not None])

    return {
        "diverged": lambda own: share(own, lambda result: result.diverged is not None),
        "collapsed": lambda own: share(own, lambda result: collapsed(result, study.classes)),
        "spread over seeds along training": spread,
        "worst after the best": drop,
    }


def _diagnostic_columns() -> Columns:
    def omega(own: Sequence[Result]) -> str:
        ends = [result.logits[-1] for result in _finished(own) if result.logits]
        return f"[{min(end[1] for end in ends):.3g}, {max(end[2] for end in ends):.3g}]" if ends else "-"

    measured = {title: lambda own, name=name: cell(_values(own, name)) for name, title in _DIAGNOSTICS.items()}
    return {**measured, "Ω": omega}


def fid_ratio(results: Sequence[Result], against: Sequence[Result]) -> str:
    """A mean Fréchet distance as a multiple of another arm's, with its 95 % interval: pairs of runs of one seed."""
    logs = [math.log(own / other) for own, other in _pairs(results, against, "fid") if own > 0 < other]
    return _compared(logs, lambda value: f"{math.exp(value):.2f}")


def recall_difference(results: Sequence[Result], against: Sequence[Result]) -> str:
    """A mean recall minus another arm's, with its 95 % interval: pairs of runs of one seed."""
    differences = [own - other for own, other in _pairs(results, against, "recall")]
    return _compared(differences, lambda value: f"{value:+.3f}")


def _compared(values: Sequence[float], say: Callable[[float], str]) -> str:
    if not values:
        return "-"
    middle, half = mean_interval(values)
    interval = f"{say(middle - half)} to {say(middle + half)}; " if len(values) > 1 else ""
    return f"{say(middle)} ({interval}n = {len(values)})"


def _pairs(results: Sequence[Result], against: Sequence[Result], name: str) -> list[tuple[float, float]]:
    """A number of the runs of either arm that finished, for the seeds that both have; none of an arm with itself."""
    if results is against:
        return []
    others = {result.seed: result.metrics[name] for result in _finished(against)}
    return [(own.metrics[name], others[own.seed]) for own in _finished(results) if own.seed in others]


def _comparisons(study: Study) -> list[str]:
    """Tables of every arm against those whose penalty has no scale, and against the arm that controls belong to."""
    controlled = {(s.group, s.scale) for s, _ in study.plain if s.penalty not in ("eps", *_SAY)}
    references = [
        (s, own)
        for s, own in study.plain
        if s.scale is None or (s.penalty == "eps" and (s.group, s.scale) in controlled)
    ]
    if len(study.plain) == 1 or not references:
        return []

    def columns(compare: Callable[..., str], words: str) -> Columns:
        return {words.format(setting.name): partial(compare, against=own) for setting, own in references}

    return [
        _table(f"{study.title('fid')} against another arm's", study.plain, columns(fid_ratio, "÷ {}")),
        _table("Recall against another arm's", study.plain, columns(recall_difference, "− {}")),
        "In both, the mean over the seeds with which both arms finished, of ratios (geometric) or of differences, its "
        "95 % interval (Student) and the number of these seeds. An interval that holds 1, or 0, agrees with no "
        "difference; about one in twenty misses it by chance, for nothing is corrected for the number of intervals.",
    ]


def _learning_rates(study: Study) -> str:
    factors = sorted({setting.factor for setting, _ in study.found})
    rows: dict[str, dict[float, Sequence[Result]]] = {}
    for setting, own in study.found:
        rows.setdefault(setting.at_factor(1.0).name, {})[setting.factor] = own
    columns = [f"x {factor:g}" for factor in factors]
    lines = [f"| arm | {' | '.join(columns)} | still trains at |", "| --- |" + " --- |" * (len(factors) + 1)]
    for name, by_factor in rows.items():
        if len(by_factor) > 1:
            cells, trains = _rates_row(by_factor, factors, study.classes)
            lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(trains) or 'none'} |")
    return "\n".join(["## Learning rates", "", *lines])


def _rates_row(
    by_factor: Mapping[float, Sequence[Result]], factors: Sequence[float], classes: int | None
) -> tuple[list[str], list[str]]:
    """The cells of an arm, and the multiples at which all its seeds still train."""
    best = min((value for own in by_factor.values() for value in _values(own, "fid")), default=0.0)
    cells, trains = [], []
    for factor in factors:
        own = by_factor.get(factor, ())
        fine = sum(still_trains(result, best, classes) for result in own)
        cells.append(f"{fine} of {len(own)}: {cell(_values(own, 'fid'))}" if own else "-")
        if own and fine == len(own):
            trains.append(f"x {factor:g}")
    return cells, trains


def _legend(study: Study, folder: Path) -> str:
    runs = [(setting, result) for setting, own in study.found for result in _finished(own)]
    lines = [
        "± is a 95 % interval (Student) over the seeds that did not diverge, the noise of their samples included; "
        "without it there is one seed."
    ]
    if runs:
        protocol = _protocol(arm_folder(folder, runs[0][1].arm, runs[0][1].seed))
        lines.append(f"Final step, {makes_samples(protocol)}: {in_words(protocol, 'precision')}.")
    if study.extractor != "inception":
        lines.append("**This is not FID**: compare these numbers only with each other.")
    if study.accuracy is not None:
        lines.append(
            f"The classifier, trained on four fifths of the training images, has accuracy {study.accuracy:.4f} on the "
            "others."
        )
    half = "fewer than half of the classes are covered, or " if study.classes is not None else ""
    if study.classes is not None:
        lines.append("A class counts as covered if it gets at least a quarter of its fair share of the samples.")
    return " ".join(
        [
            *lines,
            f"Diverged: a loss or a sample became NaN or infinite. Collapsed: {half}recall is below "
            f"{_LEAST_RECALL:g}. Spread: standard deviation over the seeds of the Fréchet distance over its mean, "
            "averaged over the evaluations along training. Worst after the best: largest Fréchet distance after a "
            "run's best evaluation, over that best; 1 for a run that ends with its best. E‖grad D‖: last "
            "discriminator, on interpolates of training images and samples. Latent neighbourhood: median radius "
            f"within which an image moves by at most {DELTA:g}, to first order. (The Li-CFG paper was not available "
            "to us; this definition is our own.) Brightness: mean value of the samples minus that of training images, "
            "of 255. Ω: means over the last logged steps of a batch's smallest and largest output of the critic, the "
            "outermost of the seeds. Device-minutes: mean of the finished runs.",
            *(
                [
                    "Learning rates: multiples of the preset's, of both networks; runs that still train (neither "
                    "diverged nor collapsed, Fréchet distance below twice the best of the arm), then the mean "
                    "distance; the last column has the multiples at which all seeds do."
                ]
                if any(setting.factor != 1 for setting, _ in study.found)
                else []
            ),
        ]
    )


# ---- curves ---------------------------------------------------------------------------------------------------------


def plot_against_scale(study: Study, path: Path) -> None:
    """Every number against the scale of the ε-centred penalty; other penalties stand to the left, controls beside it.

    Large points are means, bars 95 % intervals over the seeds, small points seeds; a colour for each architecture and
    weight.
    """
    found = [(setting, own) for setting, own in study.plain if _finished(own)]
    if not found:
        return
    numbers = [*study.metrics, *_DIAGNOSTICS]
    figure, panels = panel_grid(len(numbers), columns=3, size=(4.6, 3.2))
    places = _places([setting for setting, _ in found])
    groups = dict.fromkeys(setting.group for setting, _ in found)
    weighted = [group for group in groups if group[1] is not None]
    # Arms without a penalty belong to every weight.
    colours = {group: f"C{weighted.index(group)}" if group in weighted else "0.4" for group in groups}
    for panel, name in zip(panels, numbers, strict=True):
        for group, colour in colours.items():
            _draw_group(panel, [(s, own) for s, own in found if s.group == group], name, places, colour)
        _label_places(panel, places)
        panel.set_ylabel(_DIAGNOSTICS.get(name) or study.title(name), fontsize=9)
        panel.grid(alpha=0.25)
        _frame(panel, [value for _, own in found for value in _values(own, name)], name in ("fid", "gradient_norm"))
    handles = _legend_handles(panels[0], [setting for setting, _ in found], colours)
    words = "large: means; small: seeds; bars: 95 % intervals over the seeds, cut off at the frame"
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=9, title=words)
    with writing(path) as file:
        figure.savefig(file, dpi=100)


def _places(settings: Sequence[Setting]) -> dict[str, float]:
    """Where each kind of penalty stands on an axis in decades of the scale."""
    scales = [setting.scale for setting in settings if setting.scale is not None] or [1.0]
    plain = list(dict.fromkeys(setting.penalty for setting in settings if setting.scale is None))
    left = math.log10(min(scales)) - 0.5 - 0.5 * len(plain)
    places = {name: left + 0.5 * index for index, name in enumerate(plain)}
    for setting in settings:
        if setting.scale is not None:
            offset = 0.18 * list(_MARKERS).index(setting.penalty)  # controls of one scale stand side by side
            places[setting.kind] = math.log10(setting.scale) + offset
    return places


def _label_places(panel: Any, places: Mapping[str, float]) -> None:
    plain = {_SAY[name]: place for name, place in places.items() if name in _SAY}
    scales = {name.removeprefix("eps"): place for name, place in places.items() if name.startswith("eps")}
    ticks = {**plain, **scales}
    panel.set_xticks(list(ticks.values()), list(ticks), rotation=40, ha="right", fontsize=8)
    if plain and len(places) > len(plain):
        panel.axvline(max(plain.values()) + 0.25, color="0.8", linewidth=1)
    panel.set_xlabel("penalty, and scale of the ε-centred one and its controls", fontsize=8)


def _frame(panel: Any, values: Sequence[float], logarithmic: bool) -> None:
    """Limits that the values decide: intervals over two or three seeds would squeeze them to a line."""
    if not values:
        return
    low, high = min(values), max(values)
    if logarithmic and low > 0:
        panel.set_yscale("log")
        panel.set_ylim(low / 1.3, high * 1.3)
    else:
        margin = 0.15 * (high - low) or 0.05 * abs(high) or 0.1
        panel.set_ylim(low - margin, high + margin)


def _draw_group(panel: Any, found: Found, name: str, places: Mapping[str, float], colour: str) -> None:
    line = []
    for setting, own in found:
        values = _values(own, name)
        if not values:
            continue
        average, half = mean_interval(values)
        marker, place = _MARKERS.get(setting.penalty, "o"), places[setting.kind]
        bar = None if len(values) == 1 else half
        panel.errorbar(place, average, yerr=bar, marker=marker, color=colour, capsize=3, markersize=6)
        panel.plot([place] * len(values), values, ".", color="0.1", markersize=4, zorder=5)
        if setting.penalty == "eps":
            line.append((place, average))
    panel.plot([place for place, _ in line], [value for _, value in line], color=colour, linewidth=1)


def _legend_handles(panel: Any, settings: Sequence[Setting], colours: Mapping[Any, str]) -> list[Any]:
    words = {"eps": "ε-centred", "minus": "minus ones", "random": "random direction", "norm": "norm alone"}
    used = [name for name in _MARKERS if any(setting.penalty == name for setting in settings)]
    handles = [panel.plot([], [], _MARKERS[name], color="0.3", label=words[name])[0] for name in used]
    weighted = [group for group in colours if group[1] is not None]
    if len(weighted) > 1 or len({architecture for architecture, _ in colours}) > 1:
        for group, colour in colours.items():
            weight = "no penalty" if group[1] is None else f"weight {group[1]:g}"
            handles += panel.plot([], [], "-", color=colour, label=" ".join(filter(None, (group[0], weight))))
    return handles


def plot_along_training(study: Study, path: Path) -> None:
    """The Fréchet distance along the training, a panel for each arm and a line for each seed."""
    found = [(setting, own) for setting, own in study.found if any(result.history for result in own)]
    if not found:
        return
    values = [line["fid"] for _, own in found for result in own for line in result.history]
    figure, panels = panel_grid(len(found), columns=4, size=(3.3, 2.6))
    for index, (panel, (setting, own)) in enumerate(zip(panels, found, strict=True)):
        for result in own:
            steps, curve = [line["step"] for line in result.history], [line["fid"] for line in result.history]
            (drawn,) = panel.plot(steps, curve, marker=".", linewidth=1.2, label=f"seed {result.seed}")
            if result.diverged is not None and steps:
                panel.plot(steps[-1], curve[-1], "x", color=drawn.get_color(), markersize=9)
        panel.set_yscale("log")
        panel.set_ylim(min(values) / 1.2, max(values) * 1.2)
        panel.set_title(setting.name, fontsize=9)
        panel.set_xlabel("step (x: diverged)", fontsize=8)
        panel.grid(alpha=0.25)
        if index % 4 == 0:
            panel.set_ylabel(study.title("fid"), fontsize=8)
    panels[0].legend(fontsize=7)
    with writing(path) as file:
        figure.savefig(file, dpi=100)
