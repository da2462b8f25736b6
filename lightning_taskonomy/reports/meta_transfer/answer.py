"""What a Task Meta-Transfer study says, in a few lines: the paper's count, then what stands beyond chance."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lightning_taskonomy.reports.meta_transfer.comparison import CONTROLS, Comparison, Place, Wins
from lightning_taskonomy.reports.meta_transfer.words import case_name, method_name, plural, share, value
from lightning_taskonomy.reports.words import join, percent, readable

__all__ = ["answer", "is_papers_table", "pools"]

_NETWORKS = {"SplitVGG", "SplitRes"}
_RIVALS = {"primary_only", "transfer", "mtl", "kendall", "du", "lin"}
_PAPER = "paper: 8 of 12, and 2"
_TASKS = ("depth_z", "normals", "semantic_segmentation")


def answer(comparison: Comparison, settings: Mapping[str, Any]) -> list[str]:
    """The lines at the top of the page.

    Args:
        comparison: What the study measured.
        settings: The study's settings.
    """
    if comparison.subject is None:
        return ["Task Meta-Transfer is not among the methods of this study."]
    wins = comparison.wins()
    lines = [_count(comparison, settings), *(_against(comparison, other) for other in _controls(comparison))]
    if comparison.seeds < 2:
        lines.append("With one seed no interval is known: a difference may be chance.")
    elif wins.best and wins.clear is not None:
        lines.append(
            f"In {wins.clear} of the {plural(wins.best, 'case')} where it is the best, its lead over the next is "
            "beyond the 95 % interval."
        )
    planned = [(place, method) for place in comparison.cases for method in comparison.planned([place])]
    missing = sum(comparison.cell(*place, method) is None for place, method in planned)
    if missing:
        lines.append(f"{missing} of {len(planned)} cells have no finished run: not compared.")
    lines += _beaten(wins)
    gains = [gain for cell in comparison.cells if cell.method == comparison.subject for gain in cell.reductions]
    if gains:
        gain = fmean(gains)
        does, to = ("removes", "of") if gain >= 0 else ("adds", "to")
        lines.append(f"On average it {does} {percent(abs(gain))} {to} the error of Primary Only.")
    return lines + _turned(settings)


def pools(comparison: Comparison) -> list[tuple[str, list[Place]]]:
    """Over which cases differences are pooled: those of each network, and all where there are several networks."""
    networks = list(dict.fromkeys(place[0] for place in comparison.cases))
    single = [(network, [place for place in comparison.cases if place[0] == network]) for network in networks]
    return [*single, ("all networks", list(comparison.cases))] if len(networks) > 1 else single


def is_papers_table(settings: Mapping[str, Any], cases: Sequence[Place]) -> bool:
    """Whether these are the 12 cases of the paper's Table 1.

    They are NYUv2's three tasks with SplitVGG-3 and SplitRes-3, a tenth of the images with primary labels, and its
    rivals.

    Args:
        settings: The study's settings.
        cases: Its cases with one auxiliary task.
    """
    networks = settings.get("networks") or {}
    full: set[str] = set()
    for name in {place[0] for place in cases}:
        backbone = (networks.get(name) or {}).get("backbone") or {}
        arguments = backbone.get("init_args") or {}
        if arguments.get("split") == 3 and arguments.get("width", 64) == 64:
            full.add(_class(backbone))
    pairs = {(primary, other) for primary in _TASKS for other in _TASKS if other != primary}
    return (
        _class(settings.get("data") or {}) == "NYUv2DataModule"
        and settings.get("parallel", 0.1) == 0.1
        and (settings.get("methods") or {}).keys() >= _RIVALS
        and full == _NETWORKS
        and len(cases) == len(pairs) * len(full)
        and {place[1:] for place in cases} == pairs
    )


def _class(description: Mapping[str, Any]) -> str:
    return str(description.get("class_path", "")).rpartition(".")[2]


def _count(comparison: Comparison, settings: Mapping[str, Any]) -> str:
    """In how many cases it is the best, as the paper counts."""
    wins, variants = comparison.wins(), comparison.variants
    single = [place for place in comparison.cases if "+" not in place[2]]
    papers = is_papers_table(settings, single)
    line = (
        f"TMT is the best in {wins.best} of {plural(wins.cases, 'case')} and second best in {wins.second}, among "
        "all methods but the oracle" + (f" and its own variants ({_names(variants)})" if variants else "")
    )
    line += f" ({_PAPER})." if papers and len(single) == len(comparison.cases) else "."
    if variants:
        among = comparison.wins(variants=True)
        line += f" With these it is the best in {among.best} and second best in {among.second}."
    if papers and len(single) < len(comparison.cases):
        table = comparison.wins(single)
        line += (
            f" In the {plural(table.cases, 'case')} with one auxiliary task it is the best in {table.best} and second "
            f"best in {table.second} ({_PAPER})."
        )
    return line


def _names(methods: Sequence[str]) -> str:
    return join([method_name(method) for method in methods])


def _controls(comparison: Comparison) -> list[str]:
    return [other for other in CONTROLS if any(comparison.lead(place, other) for place in comparison.cases)]


def _against(comparison: Comparison, other: str) -> str:
    """In how many cases it leads a control beyond the interval, in how many it is behind, and what all cases say."""
    name = method_name(other)
    leads = [one for place in comparison.cases if (one := comparison.lead(place, other)) is not None]
    with_interval = [one for one in leads if one.half is not None]
    if with_interval:
        ahead, behind = (sum(one.verdict == sign for one in with_interval) for sign in (1, -1))
        text = (
            f"TMT's lead over {name}, paired by seed, excludes zero in {ahead} of "
            f"{plural(len(with_interval), 'case')}, {name}'s lead over TMT in {behind} (95 % t intervals)"
        )
        if len(leads) > len(with_interval):
            text += f"; {plural(len(leads) - len(with_interval), 'further case')} of one seed"
    else:
        text = f"TMT is better than {name} in {sum(one.mean > 0 for one in leads)} of {plural(len(leads), 'case')}"
    for pool, places in pools(comparison)[::-1]:
        one = comparison.pooled(other, places)
        if one is None or (one.half is None and with_interval):
            continue
        does, to = ("removes", "of") if one.mean >= 0 else ("adds", "to")
        where = "" if len(leads) == 1 else "over all of them " if one.cases == len(leads) else f"with {pool} "
        seeds = plural(one.seeds, "seed") + ("" if one.half is not None else ", no interval")
        text += f"; {where}TMT {does} {share(one)} {to} {name}'s error ({seeds})"
        if one.cases == len(leads):
            break
    return text + "."


def _beaten(wins: Wins) -> list[str]:
    """Where it is not the best, and who is."""
    return [
        f"Not the best: {case_name((subject.network, subject.primary, subject.auxiliary))} ({value(subject)}); better: "
        + join([f"{method_name(cell.method)} ({value(cell)})" for cell in ahead])
        + "."
        for subject, ahead in wins.beaten
    ]


def _turned(settings: Mapping[str, Any]) -> list[str]:
    """Which tasks' gradients are turned on purpose, which their names do not say."""
    described = settings.get("networks") or {}
    networks: dict[tuple[str, int], list[str]] = {}
    for network, parts in described.items():
        for task, head in (parts.get("heads") or {}).items():
            if _class(head) == "ConflictingHead":
                rank = (head.get("init_args") or {}).get("rank", 0)
                networks.setdefault((task, rank), []).append(network)
    return [
        f"The gradient of {readable(task)} is turned on purpose (ConflictingHead), for all methods alike: the backbone "
        f"gets it with its sign reversed in all but {plural(rank, 'direction')} of the features"
        + (f", with {join(names)}." if len(names) < len(described) else ".")
        for (task, rank), names in networks.items()
    ]
