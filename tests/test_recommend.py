"""The command that recommends a source: from a study's files, and from the images of a new target."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lightning_taskonomy.affinity.chains import Chain, ChainsTable, Distances, Factors, write_factors
from lightning_taskonomy.cli import main
from lightning_taskonomy.files import write_json
from lightning_taskonomy.manifest import Manifest

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
    manifest(tmp_path)
    return tmp_path, features


def manifest(folder, **settings):
    Manifest(study="x.InfluenceStudy", version=1, report="x.InfluenceReport", tables={}, settings=settings).write(
        folder
    )


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


@pytest.fixture
def several(folder):
    """Three more tasks: a model of several sources, the depth of the city's images, and one that is a target only."""
    path, features = folder
    factors = {name: Factors("segmentation", (DOMAINS[name],), (name,), SIZES[name]) for name in features}
    factors["city depth"] = Factors("depth", ("driving",), ("city",), SIZES["city"])
    factors["all"] = Factors("segmentation", ("driving", "underwater"), ("city", "reef"), 4500)
    write_factors(path / "factors.csv", factors)
    manifest(path, sources=["city", "road", "reef", "city depth"], multi_source={"all": ["city", "reef"]})
    return path, features


@pytest.mark.parametrize("by", ["rule", "inclusion"])
def test_only_sources_of_the_study_that_have_not_seen_the_target_are_candidates(several, capsys, by):
    """As section 5.2: a model of several sources is not judged on its parts; other labels of its images are marked."""
    path, features = several
    code, out, _ = run(capsys, path, "--target", "city", "--by", by, "--json", "--out", str(path / "out.csv"))
    answer = json.loads(out)
    by_source = {one["source"]: one for one in answer["candidates"]}
    assert code == 0 and by_source.keys() == {"road", "reef", "city depth"}
    assert {name for name, one in by_source.items() if one["saw_images"]} == {"city depth"}
    assert by_source["city depth"]["distance"] == 0 and answer["measure_next"] != "all"
    header, *rows = [line.split(",") for line in (path / "out.csv").read_text().splitlines()]
    assert {row[1]: row[header.index("saw_images")] for row in rows} == {"road": "0", "reef": "0", "city depth": "1"}
    _, out, _ = run(capsys, path, "--target", "city", "--by", by)
    assert [line.split()[0] for line in out.splitlines() if line.endswith(" ◥")] == ["city"]  # city depth
    assert "◥: saw the target's images for another task" in out
    code, out, _ = run(capsys, path, "--target", "city depth", "--by", "inclusion", "--json")
    marked = {one["source"]: one["saw_images"] for one in json.loads(out)["candidates"]}
    assert marked == {"city": True, "all": True, "road": False, "reef": False}
    code, out, _ = run(capsys, path, "--target", "home", "--by", "inclusion", "--json")
    distances = {one["source"]: one["distance"] for one in json.loads(out)["candidates"]}
    both = np.concatenate([features["city"], features["reef"]])
    assert distances["all"] == pytest.approx(cdist(features["home"], both).min(1).mean(), rel=1e-5)
    assert "home" not in distances


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "city", "--sources", "[all]"], "sources names 'all', which was trained on the target itself"),
        (["--target", "city", "--sources", "[home]"], "sources names 'home', which is not a source of"),
    ],
)
def test_what_the_study_does_not_train_is_no_candidate(several, capsys, words, message):
    code, _, err = run(capsys, several[0], *words)
    assert code == 1 and message in err and len(err.strip().splitlines()) == 1


def test_small_sources_have_no_models_of_several(several, capsys):
    path, _ = several
    table = ChainsTable.read(path)
    ChainsTable(tuple(replace(row, setting="small_source") for row in table.chains)).write(path / "chains.csv")
    code, out, _ = run(capsys, path, "--target", "road", "--setting", "small_source", "--json")
    assert code == 0 and {one["source"] for one in json.loads(out)["candidates"]} == {"city", "reef", "city depth"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("reef.npz", None, "reef.npz cannot be read"),
        ("reef.npz", b"PK", "reef.npz cannot be read"),
        ("reef.npz", {"id": np.arange(3)}, "reef.npz has no array 'features'"),
        ("reef.npz", {"features": np.arange(3.0)}, "reef.npz has no array 'features'"),
        ("reef.npz", {"features": np.full((3, 2), np.nan)}, "features of the source are not all finite"),
        ("reef.npz", {"features": np.ones((3, 5))}, "the target has 2 features per image, the source 5"),
        ("features.json", None, "has no features.json"),
        ("features.json", b"{", "features.json cannot be read"),
        ("features.json", b"[]", "features.json holds a list"),
        ("features.json", b"{}", "features.json: 'encoder' is None, must be the folder of a run"),
        ("features.json", b'{"encoder": "x", "files": {}}', "'images' is None, must be a number of images"),
        ("features.json", b'{"encoder": "x", "images": 3, "files": [1]}', "'files' is [1], must be a file for each"),
        ("features.json", b'{"encoder": "x", "images": 3, "files": {}}', "the features of 'road' were not measured"),
        ("study.json", None, "holds no study.json"),
        ("factors.csv", None, "factors.csv cannot be read (No such file or directory)"),
        ("factors.csv", b"\xff\xfe\x00", "factors.csv cannot be read (not UTF-8 text)"),
        ("factors.csv", b"name,size\n", "is there 0 times"),
        ("distances.csv", b"target,source\na", "is there 0 times"),
        ("distances.csv", None, "distances.csv cannot be read"),
        ("chains.csv", b'"' + b"a" * 200_000, "chains.csv cannot be read (field larger than field limit"),
        ("chains.csv", b"", "is there 0 times"),
    ],
)  # fmt: skip
def test_damaged_files_are_one_line(folder, capsys, name, content, message):
    path, _ = folder
    if content is None:
        (path / name).unlink()
    elif isinstance(content, bytes):
        (path / name).write_bytes(content)
    else:
        np.savez(path / name, **content)
    code, _, err = run(capsys, path, "--target", "road")
    assert code == 1 and message in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["reef.npz", "features.json", "factors.csv", "distances.csv", "chains.csv", "study.json"]
)
def test_files_cut_off_anywhere_are_read_or_refused(folder, capsys, name):
    path, _ = folder
    whole = (path / name).read_bytes()
    for length in np.linspace(0, len(whole) - 1, 12, dtype=int):
        (path / name).write_bytes(whole[:length])
        code, _, err = run(capsys, path, "--target", "road")
        assert (code, len(err.strip().splitlines())) in ((0, 0), (1, 1))


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
