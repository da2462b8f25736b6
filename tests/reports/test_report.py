import csv
import json
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from lightning_taskonomy.affinity.table import Transfer
from lightning_taskonomy.errors import InputError
from lightning_taskonomy.reports import report
from lightning_taskonomy.reports.html import Page
from lightning_taskonomy.reports.taxonomy.decisions import headline, telling
from lightning_taskonomy.reports.taxonomy.files import OPTIONAL, read_study
from lightning_taskonomy.reports.words import join, label_share, labels_line, policy_line
from lightning_taskonomy.solvers import TaxonomySolution

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Reader(HTMLParser):
    """Addresses, ids, headings and text of a page; notes every tag that is not closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.ids, self.tags, self.words, self.open, self.wrong = [], [], [], [], [], []
        self.images = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        attributes = dict(attrs)
        self.addresses += [
            v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        ]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag in ("svg", "img"):
            self.images.append(attributes.get("aria-label") or attributes.get("alt"))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.words.append(data)


def taxonomy(budget, order=2, rows=(), sources=None, **changes):
    """A taxonomy of these transfers, with the sources that they read if no others are given."""
    policy = {row.target: row for row in rows}
    shared = {"objective": 0.0, "values": {}, "proven": True, "gap": 0.0, "seconds": 0.0, "label_cost": 0.0}
    means = {"mean_gain": None, "mean_quality": None}
    sources = tuple(sorted({name for row in rows for name in row.sources})) if sources is None else sources
    values = {"budget": budget, "max_order": order, "sources": sources, "policy": policy, **shared, **means, **changes}
    return TaxonomySolution(**values)


@pytest.fixture(scope="module")
def page(finished):
    return Reader((finished / "report" / "index.html").read_text())


def rows(finished, name):
    with (finished / "report" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_asks_for_nothing_from_outside(finished, page):
    text = (finished / "report" / "index.html").read_text()
    for address in page.addresses:
        assert address.startswith(("#", "data:")) or (finished / "report" / address).is_file(), address
        if address.startswith("#"):
            assert address[1:] in page.ids
    assert not re.search(r"url\((?!#)", text) and "@import" not in text
    assert "script" not in page.tags and "iframe" not in page.tags


def test_the_page_is_well_formed_with_unique_ids_and_described_pictures(page):
    assert not page.wrong and not page.open
    assert len(page.ids) == len(set(page.ids))
    assert len(page.images) > 10 and all(page.images)


def test_the_page_has_every_section_and_says_what_to_train(page):
    words = " ".join(page.words)
    titles = ("Answer", "Taxonomies", "Gain and quality", "Labels saved", "Affinity", "Similarity of tasks", "Sanity")
    for title in (*titles, "Predictions", "Positive control over seeds", "Costs", "Configuration", "Failures"):
        assert page.words.count(title) == 2, title  # the table of contents and the heading
    assert re.search(r"With a budget of \d+, train .+ with all labels", words)
    assert (
        "mean gain" in words and "mean quality" in words and "labels that training all 9 targets fully takes" in words
    )
    assert "Not here" not in words
    assert "for nine in ten; by the objective, p = 0.001)." in words


def test_foreign_text_is_escaped(finished, page):
    words = "".join(page.words)
    assert "loss is NaN <script>alert(1)</script>" in words and "name: <quick> & small" in words
    assert "<script" not in (finished / "report" / "index.html").read_text()


def test_tables_hold_what_the_study_measured(finished):
    solutions = json.loads((finished / "solutions.json").read_text())
    written = rows(finished, "solutions")
    assert list(written[0]) == ["order ≤", "budget", "trained fully", "by transfer", "mean gain", "mean quality",
                                "objective", "proven", "seconds"]  # fmt: skip
    assert sorted(float(r["mean quality"]) for r in written) == sorted(s["mean_quality"] for s in solutions)
    policies = rows(finished, "policies")
    assert len(policies) == sum(len(s["policy"]) for s in solutions)
    assert {(r["target"], r["sources"], float(r["gain"])) for r in policies} == {
        (target, ";".join(p["sources"]), p["win_rate_vs_scratch"])
        for s in solutions
        for target, p in s["policy"].items()
    }
    first_order = {r["target"]: r for r in rows(finished, "affinity-first-order")}
    with (finished / "affinity.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["order"] == "1":
                column = "task-specific" if row["kind"] == "task_specific" else row["sources"]
                assert first_order[row["target"]][column] == row["affinity"]
    assert [r["task"] for r in rows(finished, "sanity")] and len(rows(finished, "failures")) == 1
    costs = {r["what ran"]: r for r in rows(finished, "costs")}
    assert float(costs["all"]["seconds"]) == pytest.approx(201.5)


def test_a_source_only_task_that_learnt_nothing_is_called_weak_though_it_has_one_win_rate(finished, page):
    (row,) = [row for row in rows(finished, "sanity") if row["task"] == "colorization"]
    assert (row["wins against the average guess"], row["wins against a random encoder"]) == ("0.45", "")
    (weak,) = [words for words in page.words if words.startswith("Weak: ")]
    assert "colorization" in weak


def test_pictures_stand_beside_the_page(finished):
    names = ("affinity", "taxonomies", "answer-graph", "gain-quality", "budget-curves", "labels-saved", "similarity")
    for name in (*names, "predictions", "control-affinity"):
        picture = matplotlib.image.imread(finished / "report" / f"{name}.png")
        assert picture.shape[0] > 150 and picture.std() > 0.01, name


def test_absent_files_leave_a_sentence(study):
    folder = study()
    shared = ("costs.json", "config.yaml", "failures.json")
    for name in (*OPTIONAL, *shared):
        (folder / name).unlink()
    words = " ".join(Reader(report(folder).read_text()).words)
    for name in {*OPTIONAL, *shared} - {"losses.csv", "tasks.json", "labels.json"}:
        assert f"Not here: the study left no {name}" in words
    assert "no losses.csv" in words
    assert (folder / "report" / "affinity.png").is_file()


def test_empty_files_leave_a_sentence(study):
    folder = study()
    (folder / "solutions.json").write_text("[]")
    (folder / "control.json").write_text("[]")
    (folder / "failures.json").write_text("[]")
    (folder / "costs.json").write_text("{}")
    words = " ".join(Reader(report(folder).read_text()).words)
    assert "solved no taxonomy" in words and "all jobs ended well" in words and "no measurement" in words


def test_a_second_report_replaces_the_first_with_the_same(study):
    folder = study()
    for name in ("solutions.json", "examples.npz", "control.json"):  # what takes long
        (folder / name).unlink()
    before = report(folder).read_text()
    assert report(folder).read_text() == before


def test_unknown_numbers_stand_as_dashes(study):
    folder = study(orders=1, budgets=(2,))
    (folder / "examples.npz").unlink()
    solutions = json.loads((folder / "solutions.json").read_text())
    for row in solutions[0]["policy"].values():
        row.update(win_rate_vs_scratch=None, win_rate_vs_task_specific=None)
    solutions[0].update(mean_gain=None, random={"gain": None, "quality": None, "p_value": 0.5})
    (folder / "solutions.json").write_text(json.dumps(solutions))
    (folder / "control.json").write_text('[{"source": "a", "target": "b", "affinity_per_seed": [0.5, null]}]')
    words = " ".join(Reader(report(folder).read_text()).words)
    assert "nan" not in words.replace("loss is NaN", "") and "–" in words
    (control,) = rows(folder, "control-affinity-numbers")
    assert control["mean"] == "0.5" and control["seeds"] == "1"


def test_no_study_is_refused_in_one_line(tmp_path, study):
    folder = study()
    (folder / "affinity.csv").rename(tmp_path / "kept.csv")
    for where, message in (
        (tmp_path / "absent", "cannot be read .No such file or directory.: give a study's folder or a table"),
        (tmp_path, "holds no study.json"),
        (folder, "holds TaxonomyStudy, which has not written affinity.csv yet; run"),
    ):
        with pytest.raises(InputError, match=message) as error:
            report(where)
        assert "\n" not in str(error.value)
    (tmp_path / "kept.csv").rename(folder / "affinity.csv")
    (folder / "solutions.json").write_text("[{]")
    with pytest.raises(InputError, match=r"solutions\.json cannot be read"):
        report(folder)
    (folder / "solutions.json").write_text('[{"budget": 1}]')
    with pytest.raises(InputError, match=r"solutions\.json: .*of an earlier release"):
        report(folder)
    (folder / "solutions.json").write_text("[]")
    (folder / "examples.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match=r"examples\.npz cannot be read"):
        report(folder)
    (folder / "examples.npz").unlink()
    (folder / "sanity.csv").write_text("task,wins\n")
    with pytest.raises(InputError, match="column 'win_rate_vs_average' is missing"):
        report(folder)


def test_the_study_s_tasks_colour_their_labels(study):
    folder = study()
    results = read_study(folder, folder / "affinity.csv")
    assert results.tasks["depth_z"].as_task().units == "m"
    assert results.source_only == ["colorization"] and "colorization" not in results.targets
    assert results.families["normals"] == "3D"


def test_headline_is_where_budget_begins_to_pay_less():
    def solved(budget, quality, order=2):
        return taxonomy(budget, order, mean_quality=quality, objective=quality or 0.0)

    curve = [solved(b, q) for b, q in ((1, 0.1), (2, 0.25), (4, 0.4), (8, 0.45), (16, 0.5))]
    assert headline([*curve, solved(1, 0.9, order=1)]).budget == 4
    assert headline([solved(3, 0.2)]).budget == 3
    assert headline([solved(3, None), solved(6, None)]).budget == 3


def test_words():
    assert join([]) == "none" and join(["a"]) == "a" and join(["a", "b", "c"]) == "a, b and c"
    assert policy_line(taxonomy(1, 1, sources=("a",))) == "Nothing is left to transfer."


def test_label_share_counts_sources_and_transfers(study):
    folder = study()
    results = read_study(folder, folder / "affinity.csv")
    small = min(results.taxonomies, key=lambda t: t.budget)
    # One source of 2000 labels and eight transfers of 200, against nine targets of 2000.
    assert label_share(small, results.labels) == pytest.approx((2000 + 8 * 200) / (9 * 2000))
    assert label_share(small, {}) is None


def test_page_refuses_a_second_figure_of_the_same_name_and_a_ragged_table(tmp_path):
    page = Page(tmp_path, "title")
    page.table("numbers", ("a", "b"), [("x", 1.5), ("y", None)])
    assert (tmp_path / "numbers.csv").read_text() == "a,b\nx,1.5\ny,\n"
    with pytest.raises(InputError, match="taken"):
        page.table("numbers", ("a",), [])
    with pytest.raises(InputError, match="1 cells under 2"):
        page.table("others", ("a", "b"), [("x",)])


def test_a_page_is_one_file_that_says_what_it_was_given(tmp_path):
    page = Page(tmp_path, "a < b", "sub & title")
    page.section("First & only")
    page.facts([("what", "1 < 2")])
    with page.details("folded"):
        page.text("inside")
        with page.details("twice"):
            page.code("if a < b:\n    {{ c }}")
    page.table("numbers", ("name", "value"), [("<x>", 0.5), ("{% y %}", None)], caption="some")
    text = page.write().read_text()
    read = Reader(text)
    assert not read.wrong and not read.open and "to-first-only" in read.ids
    assert text.count("{{ c }}") == 1 and "if a &lt; b:\n" in text and "{% y %}" in text
    assert read.words.count("a < b") == 2 and {"sub & title", "1 < 2", "<x>", "0.500", "–"} <= set(read.words)
    assert text.count("<details>") == 2 and text.index("inside") < text.index("twice")
    numbers = re.findall(r'<(td|th scope="col")( class="number")?>([^<]*)<', text)
    assert [bool(numeric) for _, numeric, _ in numbers] == [False, True] * 3
    assert "--ink:" in text and "<style>" in text, "the style stands in the page"


def test_published_measurements_give_a_report(tmp_path):
    from pathlib import Path

    source = Path(__file__).resolve().parents[3] / "shared" / "published" / "taskonomy" / "transfers_16k.csv"
    if not source.is_file():
        pytest.skip("the published measurements are not at hand")
    words = " ".join(Reader(report(source, tmp_path / "report").read_text()).words)
    assert "22 targets, 1758 measured ways" in words and "ego_motion+room_layout -> non_fixated_pose" in words
    assert "This is the budget from which on more budget pays less" in words
    written = {r["target"]: r for r in rows(tmp_path, "affinity-first-order")}
    assert len(written) == 22 and np.isclose(float(written["autoencoder"]["task-specific"]), 0.14589701047315953)


def test_stages_that_were_switched_on_have_their_tables(study):
    folder = study()
    for name in ("solutions.json", "examples.npz", "control.json"):
        (folder / name).unlink()
    (folder / "novel.csv").write_text("target,order,sources,gain\nnormals,2,a;b,0.75\nedges_2d,1,a,\n")
    (folder / "fine_tune.csv").write_text(
        "name,target,source,affinity,metric,value\nMIT Places,depth_z,normals,0.3,accuracy,0.5\n"
        "MIT Places,depth_z,edges_2d,0.2,accuracy,0.4\nImageNet,normals,depth_z,0.3,accuracy,0.1\n"
    )
    places = {"name": "MIT Places", "target": "depth_z", "metric": "accuracy", "spearman": 0.857}
    imagenet = {"name": "ImageNet", "target": "normals", "metric": "accuracy", "spearman": None}
    (folder / "fine_tune.json").write_text(json.dumps([places, imagenet]))
    (folder / "labels.json").write_text('{"labels_per_source": 10, "labels_per_transfer": 5}')
    words = " ".join(Reader(report(folder).read_text()).words)
    assert "Not switched on in this study: transitive transfers, stability and spread over seeds." in words
    assert "MIT Places: Spearman's correlation of accuracy there with the affinities to depth z is 0.857." in words
    ranking, other = read_study(folder, folder / "affinity.csv").rankings
    assert ranking.sources == {"normals": (0.3, 0.5), "edges_2d": (0.2, 0.4)} and list(other.sources) == ["depth_z"]
    assert (folder / "report/novel-tasks.png").is_file() and (folder / "report/fine-tuned.png").is_file()
    assert rows(folder, "novel")[0] == {"target": "normals", "order": "2", "sources": "a;b", "gain": "0.75"}
    assert read_study(folder, folder / "affinity.csv").labels == {"labels_per_source": 10, "labels_per_transfer": 5}


def test_ten_tasks_on_two_of_them_take_two_thirds_fewer_labels():
    """With the paper's sizes, 120k images per source and 16k per transfer: (2 x 120 + 8 x 16) / (10 x 120)."""
    names = [f"task_{i}" for i in range(10)]
    kinds = ["task_specific"] * 2 + ["transfer"] * 8
    rows = [
        Transfer(name, 1, (name if kind == "task_specific" else names[0],), kind)
        for name, kind in zip(names, kinds, strict=True)
    ]
    of_two = taxonomy(2, 1, rows)
    share = label_share(of_two, {"labels_per_source": 120_000, "labels_per_transfer": 16_000})
    assert share == pytest.approx(368 / 1200)
    assert labels_line(of_two, share or 0.0).endswith(
        "use 31 % of the labels that training all 10 targets fully takes, 69 % fewer."
    )


def test_of_many_taxonomies_a_telling_few_are_drawn():
    def solved(budget, order):
        return taxonomy(budget, order, mean_quality=min(budget, 7) / 14)

    many = [solved(b, o) for b in range(1, 27) for o in range(1, 6)]
    drawn = telling(many)
    assert {t.max_order for t in drawn} == {1, 2, 5}
    budgets = sorted({t.budget for t in drawn})
    assert len(budgets) == 6 and budgets[0] == 1 and budgets[-1] == 26 and headline(many).budget in budgets
    few = [solved(b, 1) for b in (1, 2, 3)]
    assert telling(few) == few
