"""The README's Python example, run as it stands but for its size."""

import re
from pathlib import Path

from lightning_taskonomy import TransfersTable

README = Path(__file__).parents[1] / "README.md"

SMALLER = {
    '"resnet18"': '"test_resnet"',
    "size=128, train_buildings=64, batch_size=16": "size=32, views=2, train_buildings=1, batch_size=2",
    "Trainer(max_epochs=10)": (
        "Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1, limit_test_batches=1, logger=False, "
        "enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator='cpu')"
    ),
}
TABLE = """target,order,sources,kind,affinity,win_rate_vs_task_specific,win_rate_vs_scratch
depth_z,1,depth_z,task_specific,0.5,,0.9
depth_z,1,normals,transfer,0.3,0.4,0.8
normals,1,normals,task_specific,0.5,,0.9
normals,1,depth_z,transfer,0.4,0.4,0.8
"""


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.S | re.M)
    assert 10 <= len([line for line in code.splitlines() if line]) <= 12
    for given, small in SMALLER.items():
        assert given in code
        code = code.replace(given, small)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    (tmp_path / "runs/quickstart/affinity.csv").write_text(TABLE)
    assert len(TransfersTable.read("runs/quickstart/affinity.csv").targets) == 2
    exec(compile(code, str(README), "exec"), {})
    assert "('depth_z', 'normals')" in capsys.readouterr().out
