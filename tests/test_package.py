"""What a newcomer meets first: import, metadata, the README's commands, nothing of the machine it was made on."""

import ast
import configparser
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import lightning_taskonomy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightning_taskonomy"
HEAVY = ("torch", "lightning", "numpy", "scipy", "matplotlib", "timm", "numba")


def loaded_by(statement):
    """The heavy packages that a fresh process has loaded after one statement."""
    code = f"import sys; {statement}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(result.stdout.split())


def tracked_files():
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import lightning_taskonomy, lightning_taskonomy.tasks, lightning_taskonomy.cli") == set()


@pytest.mark.parametrize("layer", ["affinity", "pictures", "reports", "solvers"])
def test_analysis_loads_neither_torch_nor_lightning(layer):
    assert loaded_by(f"import lightning_taskonomy.{layer}") & {"torch", "lightning", "timm"} == set()


@pytest.mark.parametrize("name", lightning_taskonomy.__all__)
def test_every_public_name_loads(name):
    value = getattr(lightning_taskonomy, name)
    assert name == "__version__" or value.__name__ == name


def test_names_for_editors_are_those_that_load():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    imported -= {"TYPE_CHECKING", "Any"}
    assert imported | {"__version__"} == set(lightning_taskonomy.__all__)
    assert set(lightning_taskonomy.__all__) <= set(dir(lightning_taskonomy))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = lightning_taskonomy.Nothing


def test_readme_has_the_two_commands_in_code_blocks():
    text = (ROOT / "README.md").read_text()
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.S | re.M))
    commands = [line for line in text.splitlines() if line.startswith("pip install -e")]
    assert commands == [
        "pip install -e . && lightning-taskonomy study --config recipes/quickstart.yaml",
        'pip install -e ".[dev]" && pytest -n 2 --dist loadfile',
    ]
    assert all(command in blocks.splitlines() for command in commands)


def test_links_between_documents_lead_somewhere():
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?://|mailto:|#)([^)#\s]+)", page.read_text()):
            if not (page.parent / link).exists():
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert not broken


def test_every_lower_bound_has_its_reason():
    lines = (ROOT / "setup.cfg").read_text().splitlines()
    bounds = 0
    for before, line in pairwise(lines):
        bound = re.fullmatch(r"(?:python_requires =|   )\s*([\w.\[\]-]*)>=([\d.]+)\S*", line)
        if bound:
            bounds += 1
            assert before.lstrip().startswith("#"), f"{line.strip()} has no comment above it"
    assert bounds >= 15


def test_what_is_imported_is_declared():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = "\n".join(text for name, text in config["options.extras_require"].items() if name != "dev")
    modules = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
    modules |= {name: name.replace("-", "_") for name in ("dash-cytoscape", "faster-coco-eval")}
    declared, optional = (
        {modules.get(name, name) for name in re.findall(r"^([\w-]+)", text, re.M)}
        for text in (config["options"]["install_requires"], extras)
    )
    known = set(sys.stdlib_module_names) | {"lightning_taskonomy"}
    used = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module.partition(".")[0])
    used -= known | optional | {"flask", "werkzeug"}  # these two come with Dash
    assert used | {"wandb"} == declared  # wandb: the logger of the recipes


def test_nothing_of_the_machine_it_was_made_on():
    here = re.escape(str(ROOT.parent)) + "/"
    pattern = re.compile(rf"{here}|/(?:home|root|Users)/\w|https?://(?:localhost|\d+\.\d+)", re.I)
    texts = {".py", ".md", ".cfg", ".toml", ".yaml", ".yml", ".html", ".css", ".js", ".csv", ""}
    offences = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in tracked_files()
        if file.suffix in texts and file != Path(__file__)
        for match in [pattern.search(file.read_text(errors="replace"))]
        if match
    ]
    assert not offences


def test_the_check_is_a_command():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_benchmarks_are_commands_that_say_what_they_compare():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for file in (ROOT / "benchmarks").glob("[!_]*.py"):
        tree = ast.parse(file.read_text())
        assert ast.get_docstring(tree)
        assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body), file
        assert f"python benchmarks/{file.name}" in page


def test_files_that_are_no_code_are_shipped():
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    globs = [
        (PACKAGE.parent / package.replace(".", "/") if package != "*" else PACKAGE, pattern.strip())
        for package, patterns in metadata["options.package_data"].items()
        for pattern in patterns.split(",")
    ]
    shipped = {file for folder, pattern in globs for file in folder.glob(pattern)}
    inside = {file for file in tracked_files() if file.is_relative_to(PACKAGE) and file.suffix != ".py"}
    assert inside and inside <= shipped
