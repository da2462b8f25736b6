"""The command that recommends a source: from a study's files, and from the images of a new target."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lightning_taskonomy.affinity.chains import Chain, ChainsTable, Distances, Factors, write_factors
from lightning_taskonomy.cli import main
from lightning_taskonomy.files import write_json

DOMAINS = {"city": "driving", "road": "driving", "reef": "underwater", "home": "indoor"}
SIZES = {"city": 3000, "road": 500, "reef": 1500, "home": 9000}


@pytest.fixture
def folder(tmp_path):
    """A study of four data sets of one task type: gains fall by three points per unit of distance."""
    generator = np.random.default_rng(0)
    middles = {"city": (0, 0), "road": (1, 0), "reef": (6, 1), "home": (3, 3)}
    features = {
        name: (np.array(middle) + 0.1 * generator.normal(size=(30, 2))).astype(np.float32)
        for name, middle in middles.items()
    }
    for name, rows in features.items():
        np.savez(tmp_path / f"{name}.npz", features=rows, id=np.arange(30))
    files = {name: f"{name}.npz" for name in features}
    write_json(tmp_path / "features.json", {"encoder": "runs/none", "images": 30, "files": files})
    distances = Distances.measure(features)
    distances.write(tmp_path / "distances.csv")
    factors = {n: Factors("segmentation", (DOMAINS[n],), (n,), SIZES[n]) for n in features}
    write_factors(tmp_path / "factors.csv", factors)
    chains = []
    for target in ("city", "road", "reef"):
        chains.append(Chain(target, "imagenet", "pretrained", "small", 0, "miou", True, 0.5))
        for source in features:
            if source != target and (target, source) != ("road", "home"):
                gain = 20 - 3 * distances.of(target, source)
                chains.append(Chain(target, source, "chain", "small", 0, "miou", True, 0.5 * (1 + gain / 100)))
    ChainsTable(tuple(chains)).write(tmp_path / "chains.csv")
    return tmp_path, features


def run(capsys, folder, *words):
    code = main(["recommend", str(folder), *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_by_inclusion_the_nearest_source_comes_first(folder, capsys):
    path, features = folder
    code, out, _ = run(capsys, path, "--target", "reef", "--by", "inclusion", "--json", "--out", str(path / "out.csv"))
    answer = json.loads(out)
    expected = {name: cdist(features["reef"], rows).min(1).mean() for name, rows in features.items() if name != "reef"}
    assert code == 0
    assert [one["source"] for one in answer["candidates"]] == sorted(expected, key=lambda name: expected[name])
    assert {one["source"]: one["distance"] for one in answer["candidates"]} == pytest.approx(expected, rel=1e-5)
    assert (path / "out.csv").read_text().splitlines()[1].split(",")[1] == answer["candidates"][0]["source"]


def test_by_the_rule_measured_gains_stay_and_others_are_predicted(folder, capsys):
    path, features = folder
    code, out, _ = run(capsys, path, "--target", "road", "--json")
    by_source = {one["source"]: one for one in json.loads(out)["candidates"]}
    assert code == 0
    for source in ("city", "reef"):
        distance = cdist(features["road"], features[source]).min(1).mean()
        assert by_source[source]["measured"] and by_source[source]["gain"] == pytest.approx(20 - 3 * distance, abs=1e-3)
    home = by_source["home"]
    assert not home["measured"] and home["interval"][0] <= home["gain"] <= home["interval"][1]
    assert home["gain"] == pytest.approx(20 - 3 * cdist(features["road"], features["home"]).min(1).mean(), abs=3)
    assert json.loads(out)["measure_next"] == "home"


def test_what_a_person_reads(folder, capsys):
    code, out, _ = run(capsys, folder[0], "--target", "road")
    assert code == 0 and "sources for road, the best first:" in out and "measure next: home" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "raod"], "target 'raod' is not in .*did you mean 'road'"),
        (["--target", "road", "--sources", "[rife]"], "sources names 'rife'"),
        (["--target", "road", "--by", "magic"], "by is 'magic'; allowed: 'rule' and 'inclusion'"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, words, message):
    import re

    code, _, err = run(capsys, folder[0], *words)
    assert code == 1 and re.search(message, err) and len(err.strip().splitlines()) == 1


def test_a_folder_without_features(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path, "--target", "a")
    assert code == 1 and "factors.csv" in err


@pytest.mark.parametrize("by", ["rule", "inclusion"])
def test_a_new_target_needs_no_training(folder, capsys, tiny_fit, tmp_path, rooms, by):
    """Its features are those of the study's encoder; for the rule it must be said what it is."""
    from lightning_taskonomy.training import execute

    path, _ = folder
    encoder = path / "runs" / "none"
    execute(tiny_fit("depth_z"), encoder, test=False)
    from lightning_taskonomy.studies.influence.features import pooled_features

    described = json.loads((path / "features.json").read_text())
    for name in DOMAINS:  # of one network's features there can be distances
        data = {**rooms, "init_args": {**rooms["init_args"], "seed": len(name)}}
        pooled_features(str(encoder), data, 6, str(path / described["files"][name]))
    options = [f"--data.{key}={value}" for key, value in rooms["init_args"].items()]
    words = ["--target", "mine", "--by", by, "--data", "RoomsDataModule", *options, "--json"]
    code, out, err = run(capsys, path, *words)
    if by == "rule":
        assert code == 1 and "needs its task_type and domain" in err
        code, out, err = run(capsys, path, *words, "--task_type", "segmentation", "--domain", "indoor")
    assert code == 0, err
    assert {one["source"] for one in json.loads(out)["candidates"]} == set(DOMAINS)
    assert {round(one["distance"], 6) for one in json.loads(out)["candidates"]} != {0.0}
