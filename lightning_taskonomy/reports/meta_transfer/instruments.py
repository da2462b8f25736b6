"""Is it working? What was logged while φ was learnt, from ``instruments.csv``: drawn, summed up, and flagged."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean

from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports.html import Cell, Page
from lightning_taskonomy.reports.meta_transfer.comparison import IDENTITY, INSTRUMENTS, SUBJECT, Comparison, Place
from lightning_taskonomy.reports.meta_transfer.differences import Difference, paired
from lightning_taskonomy.reports.meta_transfer.instrument_figures import Curve, Panel, instrument_panels
from lightning_taskonomy.reports.meta_transfer.words import case_name, lead, method_name, plural, task_names
from lightning_taskonomy.reports.reading import read_number, read_rows
from lightning_taskonomy.reports.words import join

__all__ = ["DOMINANCE", "FILE", "SHORT_STEP", "instruments", "read_instruments"]

FILE = "instruments.csv"

SHORT_STEP, DOMINANCE = 0.01, 10.0
"""A virtual step below this share of the real one leaves φ unbounded; above this ratio one direction rules φ. The
callback warns at the same values: it needs torch, which reports do without, so they stand here once more."""
_PLAIN, _PROJECTED = "plain_cosine", "projected_cosine"
_PANELS = {
    "step_ratio": ("Virtual over real step", True, SHORT_STEP),
    "stretch": ("Stretch ‖φg‖ / ‖g‖", True, 1.0),
    "dominance": ("Dominance: eigenvalue 1 / mean |λ|", True, DOMINANCE),
    "successive_cosine": ("Cosine of successive meta-gradients", False, 0.0),
    _PROJECTED: ("Cosine with the held-out primary gradient", False, 0.0),
}
"""By kind of instrument: title, whether the axis is logarithmic, and the value that it is compared with."""
_READING = (
    "Step ratio: the length of the virtual step over that of the network's next step. Near 1 the primary loss at Θ⁺ "
    f"shows what a step does; below {SHORT_STEP:g} it is linear in φ, so that nothing bounds φ.",
    "Stretch: how much longer φ makes the auxiliary gradient; 1 is the identity.",
    f"Dominance: the largest eigenvalue of U·Uᵀ over the mean |λ|; above {DOMINANCE:g} φ passes little but one "
    "direction.",
    "Successive cosine: between a meta-gradient of φ and the next; near 0 they are mostly noise.",
    "Plain and projected cosine: of the auxiliary gradient, before and after φ, with the primary gradient on "
    "validation images. Where the projected one is higher, the learnt φ is better than the identity at that step.",
)

Series = dict[int, dict[int, float]]
"""By seed and step."""
Readings = dict[Place, dict[str, dict[tuple[str, str], Series]]]
"""By case, method, and (kind of instrument, auxiliary task); the task is empty where the instrument is of all."""


def read_instruments(folder: Path, comparison: Comparison) -> Readings:
    """What the runs with the chosen settings of the main study logged; empty for a folder without instruments.

    Raises:
        InputError: A column is missing, or a cell is not a number.
    """
    main = {run.key[:4]: run.settings for run in comparison.runs if run.study == "main"}
    readings: Readings = {}
    for row in read_rows(folder / FILE, INSTRUMENTS):
        *of_all, kind = row["instrument"].split("/")
        place, method = (row["network"], row["primary"], row["auxiliary"]), row["method"]
        value, step = read_number(row, "value", folder / FILE), read_number(row, "step", folder / FILE)
        if row["study"] != "main" or main.get((*place, method), row["settings"]) != row["settings"]:
            continue
        if kind in (*_PANELS, _PLAIN) and math.isfinite(value):
            series = readings.setdefault(place, {}).setdefault(method, {}).setdefault((kind, "/".join(of_all)), {})
            series.setdefault(_seed(row["seed"], folder), {})[int(step)] = value
    return readings


def instruments(page: Page, readings: Readings) -> None:
    """The section: how to read it, what is out of range, a table, and a figure per case."""
    for line in _READING:
        page.text(line)
    for line in _flags(readings):
        page.text(line)
    rows: list[list[Cell]] = []
    for place, methods in readings.items():
        for method, series in methods.items():
            spans = [_span(_values(series, kind), ".2f" if "cosine" in kind else ".3g") for kind in (*_PANELS, _PLAIN)]
            gain = _gain(series)
            of = "–" if gain is None else f"{lead(gain, digits=3)} ({plural(gain.seeds, 'seed')})"
            rows.append([case_name(place), method_name(method), *spans, of])
    header = ["case", "method", "step ratio", "stretch", "dominance", "successive cosine", "projected cosine"]
    header += ["plain cosine", "projected less plain"]
    page.table(
        "instruments", header, rows,
        caption="From the lowest to the highest value of all steps and seeds. The last column is the mean over steps "
        "with half of its 95 % t interval over seeds; ▲ and ▼ exclude zero.",
    )  # fmt: skip
    first, *others = readings
    for number, place in enumerate((first, *others)):
        with page.details(case_name(place)) if number else nullcontext():
            _figure(page, f"instruments_{number + 1}", place, readings[place])


def _figure(page: Page, name: str, place: Place, methods: Mapping[str, Mapping[tuple[str, str], Series]]) -> None:
    tasks = {task for series in methods.values() for _, task in series if task}
    panels = []
    for kind, (title, log, line) in _PANELS.items():
        curves = []
        for method, of_method in methods.items():
            for (this, task), series in of_method.items():
                if this == kind or (kind, this) == (_PROJECTED, _PLAIN):
                    label = method_name(method) + (f", {task_names(task)}" if task and len(tasks) > 1 else "")
                    curves.append(_curve(label, series, is_plain=this == _PLAIN))
        if curves:
            panels.append(Panel(title=title, log=log, line=line, curves=tuple(curves)))
    page.figure(
        instrument_panels(panels), name,
        alt=f"What was logged over the steps of {case_name(place)}; the ranges are in the table above",
        caption=f"{case_name(place)}: the mean over seeds, and a band from the lowest to the highest seed. Dotted: the "
        "plain auxiliary gradient. The grey line is what a curve is compared with.",
    )  # fmt: skip


def _curve(label: str, series: Series, *, is_plain: bool) -> Curve:
    """Mean, lowest and highest over the seeds, at the steps that all of them have, or else at all."""
    common = set.intersection(*(set(one) for one in series.values())) or {
        step for one in series.values() for step in one
    }
    steps = sorted(common)
    columns = [[one[step] for one in series.values() if step in one] for step in steps]
    return Curve(
        label=label, steps=tuple(steps), mean=tuple(map(fmean, columns)), low=tuple(map(min, columns)),
        high=tuple(map(max, columns)), is_plain=is_plain,
    )  # fmt: skip


def _flags(readings: Readings) -> list[str]:
    """What is out of range, and a sentence on whether φ turns the auxiliary gradient the right way."""
    short, dominant, gains = [], [], []
    for place, methods in readings.items():
        for method, series in methods.items():
            ratios, ratio = _values(series, "step_ratio"), _values(series, "dominance")
            name = f"{method_name(method)} on {case_name(place)}"
            if ratios and min(ratios) < SHORT_STEP and method != IDENTITY:  # nothing is learnt there
                short.append(f"{name} (down to {min(ratios):.2g})")
            if ratio and max(ratio) > DOMINANCE:
                dominant.append(f"{name} (up to {max(ratio):.3g})")
            if method == SUBJECT and (gain := _gain(series)) is not None:
                gains.append(gain)
    lines = []
    if short:
        lines.append(f"⚠ Step ratio below {SHORT_STEP:g}: {join(short)}. The virtual step is too short to bound φ.")
    if dominant:
        lines.append(f"⚠ Dominance above {DOMINANCE:g}: {join(dominant)}. One direction rules φ.")
    with_interval = [gain for gain in gains if gain.half is not None]
    if with_interval:
        up, down = (sum(gain.verdict == sign for gain in with_interval) for sign in (1, -1))
        lines.append(
            "The gradient that TMT projects agrees better with the held-out primary gradient than the plain one in "
            f"{up} of {plural(len(with_interval), 'case')}, worse in {down} (mean over steps, 95 % t "
            "intervals over seeds)."
        )
    return lines


def _values(series: Mapping[tuple[str, str], Series], kind: str) -> list[float]:
    """All values of a kind, of all tasks, seeds and steps."""
    return [
        value for (this, _), seeds in series.items() if this == kind for one in seeds.values() for value in one.values()
    ]


def _gain(series: Mapping[tuple[str, str], Series]) -> Difference | None:
    """Projected less plain cosine: per seed the mean over tasks and the steps that have both."""
    by_seed: dict[str, defaultdict[int, list[float]]] = {kind: defaultdict(list) for kind in (_PLAIN, _PROJECTED)}
    for (kind, task), seeds in series.items():
        for seed, plain in seeds.items() if kind == _PLAIN else ():
            projected = series.get((_PROJECTED, task), {}).get(seed, {})
            steps = plain.keys() & projected.keys()
            by_seed[_PLAIN][seed] += [-plain[step] for step in steps]
            by_seed[_PROJECTED][seed] += [-projected[step] for step in steps]
    means = {kind: {seed: fmean(values) for seed, values in seeds.items() if values} for kind, seeds in by_seed.items()}
    return paired(means[_PROJECTED], means[_PLAIN])


def _span(values: Iterable[float], form: str) -> str:
    """``0.8 to 1.2``; a dash where nothing was logged."""
    ordered = sorted(values)
    if not ordered:
        return "–"
    low, high = f"{ordered[0]:{form}}", f"{ordered[-1]:{form}}"
    return low if low == high else f"{low} to {high}"


def _seed(text: str, folder: Path) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{folder / FILE}: seed {text!r} is not a whole number; run the study again") from error
