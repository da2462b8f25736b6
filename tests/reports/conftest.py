"""A study's folder as a finished study leaves it, made up: a linear world in which families help themselves."""

import csv
import html
import json
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_taskonomy.files import write_csv
from lightning_taskonomy.manifest import Manifest
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.meta_transfer.comparison import COLUMNS, SELECTION
from lightning_taskonomy.tasks import Task, TaskKind, resolve

NINE = (
    "autoencoding", "edges_2d", "depth_z", "normals", "curvature", "reshading", "vanishing_points",
    "semantic_segmentation", "segmentation_25d", "colorization",
)  # fmt: skip


def label(task: Task, generator: np.random.Generator, size: int) -> np.ndarray:
    """A smooth random label of any dense kind."""
    y, x = np.mgrid[0:size, 0:size] / size
    planes = np.stack(
        [np.sin(3 * generator.normal() * x + 4 * generator.normal() * y + c) for c in range(task.channels)]
    )
    if task.kind is TaskKind.NORMALS:
        planes[2] -= 2
        return (planes / np.linalg.norm(planes, axis=0)).astype(np.float32)
    if task.kind in (TaskKind.SEGMENTATION, TaskKind.GROUPING):
        return planes.argmax(0)
    return (planes * task.scale / 2 + task.shift).astype(np.float32)


def make_study(
    folder: Path, names: tuple[str, ...] = NINE, orders: int = 2, size: int = 24, budgets: tuple[int, ...] = ()
) -> Path:
    """Writes every file that a study may leave."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    tasks = resolve(names)
    targets = [n for n, t in tasks.items() if not t.source_only]
    helps = {
        t: {s: (0.0 if tasks[s].family is tasks[t].family else 1.5) + generator.normal(0, 0.4) + 0.6 for s in names}
        for t in targets
    }
    rows: list[tuple[str, tuple[str, ...], str, float]] = []
    for target in targets:
        rows.append((target, (target,), "task_specific", 0.0))
        rows += [(target, (s,), "transfer", helps[target][s] + 0.5) for s in names if s != target]
        best = sorted((s for s in names if s != target), key=helps[target].__getitem__)[:4]
        for order in range(2, orders + 1):
            rows += [
                (target, group, "transfer", min(helps[target][s] for s in group) + 0.5 - 0.15 * order)
                for group in combinations(best, order)
            ]
    table = ["target,order,sources,kind,affinity,win_rate_vs_task_specific,win_rate_vs_scratch"]
    losses = ["target,order,sources,kind,mean_score"]
    quality, gain, affinity = {}, {}, {}
    for target, group, kind, cost in rows:
        key = (target, group, kind)
        total = sum(np.exp(-r[3]) for r in rows if r[0] == target)
        affinity[key] = float(np.exp(-cost) / total)
        quality[key] = 0.5 if kind == "task_specific" else float(1 / (1 + np.exp(cost)))
        gain[key] = float(1 / (1 + np.exp(cost - 2)))
        start = f"{target},{len(group)},{';'.join(group)},{kind}"
        table.append(f"{start},{affinity[key]!r},{quality[key]!r},{gain[key]!r}")
        losses.append(f"{start},{(0.1 + 0.02 * cost) * (1 + targets.index(target))!r}")
    (folder / "affinity.csv").write_text("\n".join(table) + "\n")
    (folder / "losses.csv").write_text("\n".join(losses) + "\n")
    solutions = []
    for order in range(1, orders + 1):
        for budget in budgets or (1, 4, len(targets)):
            by_family: dict[str, list[str]] = {}
            for name in targets:
                by_family.setdefault(tasks[name].family.value, []).append(name)
            turns = [group[i] for i in range(len(targets)) for group in by_family.values() if i < len(group)]
            supervised = sorted(turns[:budget])
            policy = {}
            for target in targets:
                usable = [r for r in rows if r[0] == target and len(r[1]) <= order and set(r[1]) <= set(supervised)]
                best_row = min(usable, key=lambda r: r[3])
                key = best_row[:3]
                policy[target] = {
                    "sources": list(best_row[1]),
                    "order": len(best_row[1]),
                    "kind": best_row[2],
                    "affinity": affinity[key],
                    "win_rate_vs_task_specific": quality[key],
                    "win_rate_vs_scratch": gain[key],
                }
            rates = {"gain": "win_rate_vs_scratch", "quality": "win_rate_vs_task_specific"}
            means = {f"mean_{n}": float(np.mean([p[rate] for p in policy.values()])) for n, rate in rates.items()}
            shares = {"low": 0.5, "middle": 0.7, "high": 0.85}
            random = {n: {name: means[f"mean_{n}"] * share for name, share in shares.items()} for n in rates}
            values = {target: p["affinity"] for target, p in policy.items()}
            solutions.append(
                {
                    "schema": 1,
                    "kind": "taxonomy",
                    "budget": budget,
                    "max_order": order,
                    "objective": sum(values.values()),
                    "values": values,
                    "proven": True,
                    "gap": 0.0,
                    "seconds": 0.01,
                    "sources": supervised,
                    "label_cost": len(supervised),
                    "policy": policy,
                    **means,
                    "random": {**random, "p_value": 0.001},
                }
            )
    _json(folder / "solutions.json", solutions)
    sanity = [f"{n},{generator.uniform(0.6, 1)},{generator.uniform(0.4, 1)}" for n in targets]
    sanity += [f"{n},0.45," for n, t in tasks.items() if t.source_only]
    (folder / "sanity.csv").write_text(
        "task,win_rate_vs_average,win_rate_vs_random_encoder\n" + "\n".join(sanity) + "\n"
    )
    pairs = [("depth_z", "normals"), ("normals", "curvature")]
    _json(
        folder / "control.json",
        [
            {
                "source": s,
                "target": t,
                "affinity_per_seed": [0.21, 0.24, 0.2],
                "random_per_seed": [0.05, 0.06, 0.04],
                "seeds": [0, 1, 2],
                "shuffled": [0.5, 0.55, 0.48],
                "win_rate_vs_random_encoder": [0.9, 0.86, 0.91],
            }
            for s, t in pairs
        ],
    )
    arrays = {}
    for name in targets:
        if tasks[name].is_dense:
            truth = [label(tasks[name], generator, size) for _ in range(3)]
            arrays[f"{name}/input"] = generator.random((3, 3, size, size), np.float32)
            arrays[f"{name}/target"] = np.stack(truth)
            for column in ("task_specific", "scratch", "transfer"):
                arrays[f"{name}/{column}"] = np.stack([label(tasks[name], generator, size) for _ in range(3)])
    np.savez(folder / "examples.npz", **arrays)
    _json(
        folder / "costs.json",
        {
            "task_specific": {"runs": len(names), "seconds": 120.5},
            "transfer": {"runs": 40, "seconds": 61.0},
            "scratch": {"runs": len(targets), "seconds": 20.0},
        },
    )
    _json(folder / "labels.json", {"labels_per_source": 2000, "labels_per_transfer": 200})
    (folder / "config.yaml").write_text("seed: 0\nname: <quick> & small\n")
    Manifest(
        study="lightning_taskonomy.studies.taxonomy.TaxonomyStudy",
        version=1,
        report="lightning_taskonomy.reports.taxonomy.TaxonomyReport",
        tables={"transfers": "affinity.csv"},
        settings={"tasks": list(names), "seed": 0},
        finished=True,
    ).write(folder)
    _json(
        folder / "failures.json",
        [{"name": "transfer-3", "error": "loss is NaN <script>alert(1)</script>", "trace": "line 1\n<b>"}],
    )
    _json(
        folder / "tasks.json",
        {
            n: {
                "family": t.family.value,
                "kind": t.kind.value,
                "channels": t.channels,
                "source_only": t.source_only,
                "units": t.units,
                "class_names": t.class_names,
            }
            for n, t in tasks.items()
        },
    )
    return folder


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Makes a study's folder."""

    def make(**options: Any) -> Path:
        return make_study(tmp_path / "study", **options)

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with its report, not to be changed."""
    from lightning_taskonomy.reports import report

    folder = make_study(tmp_path_factory.mktemp("finished"))
    report(folder)
    return folder


class MetaStudy:
    """Writes the folder of a Task Meta-Transfer study from made-up measurements, and reads its report."""

    @staticmethod
    def rows(
        measured: dict[str, dict[tuple[str, str], Sequence[float]]],
        study: str = "main",
        at: str = "",
        network: str = "a network",
    ) -> list[list[Any]]:
        """Rows of ``results.csv`` from values by method, case and seed, which tests of a factor do not repeat."""
        metrics, is_factor = {"semantic_segmentation": ("miou", 1)}, study not in ("main", "rank", "split", "amount")
        return [
            [study, at, network, *case, method, "k=3", seed, *metrics.get(case[0], ("mae", 0)), value,
             0.77 if is_factor else value, 1]
            for method, cases in measured.items() for case, values in cases.items() for seed, value in enumerate(values)
        ]  # fmt: skip

    @staticmethod
    def write(
        folder: Path,
        rows: list[list[Any]],
        trials: int | dict[str, int] = 1,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """The files of a study with so many candidates of every cell, or of each by method."""
        selection = [
            [*cell, f"k={k}", 0.5, int(k == 0)]
            for cell in dict.fromkeys(tuple(row[2:6]) for row in rows if row[0] == "main")
            for k in range(trials if isinstance(trials, int) else trials[cell[3]])
        ]
        Manifest(
            study="lightning_taskonomy.studies.meta_transfer.MetaTransferStudy", version=1, finished=True,
            report="lightning_taskonomy.reports.meta_transfer.MetaTransferReport", settings=settings or {},
            tables={"results": "results.csv", "selection": "selection.csv"},
        ).write(folder)  # fmt: skip
        write_csv(folder / "results.csv", COLUMNS, rows)
        write_csv(folder / "selection.csv", SELECTION, selection)

    @staticmethod
    def read(file: Path) -> list[dict[str, str]]:
        """The rows of a CSV."""
        with file.open(newline="") as opened:
            return list(csv.DictReader(opened))

    @staticmethod
    def text(folder: Path) -> str:
        """Writes the report and returns its text."""
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", report(folder).read_text())))


@pytest.fixture
def meta_study() -> MetaStudy:
    """Made-up studies of Task Meta-Transfer."""
    return MetaStudy()
