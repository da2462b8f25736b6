"""Everything after training, numbers in and decisions out, where torch and lightning cannot be imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "torchmetrics", "timm", "lightning", "pytorch_lightning"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without_torch(code, folder):
    """Runs Python code, and returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED + code], capture_output=True, text=True, cwd=folder,
        env={"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "PATH": "", "MPLCONFIGDIR": str(folder / "matplotlib")},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_torch_is_really_blocked(tmp_path):
    with pytest.raises(AssertionError, match="torch is blocked"):
        without_torch("import torch", tmp_path)


def test_from_scores_to_a_taxonomy_a_tree_and_a_report(tmp_path):
    code = """
import numpy as np
from lightning_taskonomy import TaxonomySolver, TransfersTable
from lightning_taskonomy.affinity import NetworkScores, measure_target
from lightning_taskonomy.affinity.significance import p_value, random_taxonomies
from lightning_taskonomy.affinity.stability import affinity_agreement
from lightning_taskonomy.affinity.tree import similarity_tree
from lightning_taskonomy.cli import main

names, generator, rows = "abcd", np.random.default_rng(0), []
for target in names:
    kinds = {"own": ((target,), "task_specific"), "scratch": ((), "scratch")}
    kinds |= {name: ((name,), "transfer") for name in names if name != target}
    scores = {name: generator.random(50, dtype=np.float32) + 0.1 * place for place, name in enumerate(kinds)}
    rows += measure_target(target, {name: NetworkScores(*kinds[name], scores[name]) for name in kinds})
table = TransfersTable.of(rows)
table.write("affinity.csv")
for backend in ("mip", "scipy"):
    solution = TaxonomySolver(budget=2, backend=backend).solve(table)
    assert solution.proven and len(solution.sources) == 2
random = random_taxonomies(table, 2, count=50)
assert p_value(solution.objective, random.objective) <= 1
assert affinity_agreement(table, table).mean_spearman == 1
assert len(similarity_tree(table, bootstrap=5).order) == 4
assert main(["solve", "taxonomy", "--transfers", "affinity.csv", "--budget", "2", "--report", "report"]) == 0
"""
    without_torch(code, tmp_path)
    assert (tmp_path / "report" / "index.html").is_file()


def test_from_losses_to_a_grouping_and_a_report(tmp_path):
    lines = ["cost,a,b,c", "0.5,4,,", "0.5,,5,", "0.5,,,6", "1,3,3,", "1,,4,4", "1,5,,3", "1,4,4,4"]
    (tmp_path / "losses.csv").write_text("\n".join(lines) + "\n")
    code = """
from lightning_taskonomy.cli import main
options = ["--validation", "losses.csv", "--test", "losses.csv", "--budget", "[1, 1.5]", "--json", "--report", "report"]
assert main(["solve", "grouping", *options, "--approximation", "hoa"]) == 0
"""
    assert without_torch(code, tmp_path).startswith('{"approximation": "hoa"')
    assert (tmp_path / "report" / "index.html").is_file()


def test_the_page_is_made(tmp_path):
    pytest.importorskip("dash_cytoscape", reason="the extra `page` is not installed")
    code = """
from lightning_taskonomy.affinity.groupings import GroupingsTable, Network
from lightning_taskonomy.reports.tables import Tables
from lightning_taskonomy.reports.page.server import make_app
make_app(Tables(title="losses.tsv", groupings=GroupingsTable(("a", "b"), (Network(("a", "b"), 1.0, (0.1, 0.2)),))))
"""
    without_torch(code, tmp_path)
