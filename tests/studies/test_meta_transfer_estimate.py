"""What a Task Meta-Transfer study would cost: counted, timed by whole cycles, and nothing kept."""

from dataclasses import replace
from pathlib import Path

import torch
import yaml

from lightning_taskonomy.cli import main
from lightning_taskonomy.files import write_json
from lightning_taskonomy.studies.executors import LocalExecutor
from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy


def test_a_dry_run_times_whole_cycles_with_a_workers_threads_and_counts_validations(toy, tmp_path, monkeypatch):
    """Runs of 1 s per training step, 0.5 s per validation step and 12 s for all else."""
    seen, now = [], [0.0]

    def execute(config, folder, **options):
        seen.append((torch.get_num_threads(), config["trainer"]["limit_train_batches"]))
        clock = config["trainer"]["callbacks"][0]["init_args"]["file"]
        steps = config["trainer"]["limit_train_batches"]
        times = {"train": [float(step) for step in range(steps + 1)], "validation": [0.0, 0.5, 1.0]}
        batches = {"train": config["data"]["init_args"]["steps"], "validation": 6}
        write_json(Path(clock), {"times": times, "batches": batches})
        now[0] += 12.0 + steps + 1.0

    monkeypatch.setattr("lightning_taskonomy.studies.probe.execute", execute)
    monkeypatch.setattr("lightning_taskonomy.studies.probe.time.monotonic", lambda: now[0])
    before = torch.get_num_threads()
    study = MetaTransferStudy(**{**toy, "methods": {"mtl": {"auxiliary_steps": 3}, "primary_only": {}}})
    text = study.dry_run(tmp_path, execution=LocalExecutor(workers=1, threads=3))
    assert torch.get_num_threads() == before and {threads for threads, _ in seen} == {3}
    assert all(steps % 4 == 0 and steps >= 8 for _, steps in seen), "whole cycles of 1 + k steps, k = 3 by default"
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    each = 12.0 + 8 * 1.0 + 4 * 6 * 0.5  # 8 steps, 4 evaluations of 6 batches
    assert rows["mtl"] == ["2", str(each)] and rows["primary_only"] == ["2", str(each)]
    assert "on 1 worker," in text
    methods = {**study.methods, "tmt": {"auxiliary_steps": 3, "rank": 2}}
    factors = {"length": {"8": {}, "24": {"steps": 24}}, "rank of phi": {"4": {"methods.tmt.rank": 4}}}
    study = replace(study, methods=methods, factors=factors, factor_methods=["mtl", "tmt"])
    text = study.dry_run(tmp_path, execution=LocalExecutor(workers=1, threads=3))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    longer = each + (24 - 8) * 1.0
    assert rows["primary_only"] == ["2", str(each)] and rows["mtl"] == ["4", str((each + longer) / 2)]
    assert rows["tmt"] == ["6", f"{(2 * each + longer) / 3:.1f}"]


def test_a_dry_run_counts_and_keeps_nothing(toy, tmp_path, capsys):
    methods = {"primary_only": {}, "mtl": {"auxiliary_steps": [1, 3]}}
    recipe = {"study": {"class_path": "MetaTransferStudy", "init_args": {**toy, "methods": methods, "seeds": [1]}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**recipe, "out": str(tmp_path / "out")}))
    assert main(["study", "--config", str(tmp_path / "study.yaml"), "--dry-run"]) == 0
    counts = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert counts["primary_only"] == "4" and counts["mtl"] == "6"
    assert not (tmp_path / "out/runs").exists()
