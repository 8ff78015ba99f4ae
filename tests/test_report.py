"""The report: complete, self-contained, safe against what words and ids may hold, and never in the way."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_bootstrap import make_row, make_tree, phone_table, write_bootstrap, write_tree
from fake_run import PHONES, SYSTEMS, WORDS, make_run

from hybrid.io import write_jsonl
from hybrid.report import bootstrap, page, plots, write_report, write_results_md
from hybrid.report.gather import gather
from hybrid.report.html import bytes_text, esc, seconds_text, table
from hybrid.score import results

VOID = {"meta", "br", "img", "hr", "link", "input"}


class _Reader(HTMLParser):
    """Balanced tags, their attributes, and the text of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.problems = [], [], [], []
        self.feed(text)
        self.close()
        self.problems += [f"<{name}> is not closed" for name in self.open]

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name):
        if not self.open or self.open.pop() != name:
            self.problems.append(f"</{name}> does not fit")

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    exp = make_run(tmp_path_factory.mktemp("run") / "an4")
    write_bootstrap(exp, PHONES[1:], WORDS)
    return exp


@pytest.fixture(scope="module")
def text(exp):
    return write_report(exp).read_text(encoding="utf-8")


def test_the_page_is_whole(text):
    reader = _Reader(text)
    assert reader.problems == []
    names = [attributes.get("id") for tag, attributes in reader.tags if tag == "section"]
    assert names == [name for name, _, _ in page.SECTIONS]
    links = {attributes["href"] for tag, attributes in reader.tags if tag == "a"}
    assert links == {f"#{name}" for name in names}
    assert "Not all could be shown" not in text and "could not be made" not in text
    assert not re.search(r"No [\w ]+ yet", text)


def test_the_page_needs_nothing_else(text):
    """No script, no address that a browser would follow or load."""
    reader = _Reader(text)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "embed", "img"}
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name, value in attributes.items():
            if name in ("href", "xlink:href", "src"):
                assert value.startswith(("#", "data:"))
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert {address for address in re.findall(r"https?://[^\"'\s<]+", text)} <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_every_id_is_of_one_element_and_every_reference_has_its_element(text):
    reader = _Reader(text)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [value for _, tag in reader.tags for name, value in tag.items() if name in ("href", "xlink:href")]
    used = {reference[1:] for reference in references if reference.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]*)\)", text))
    assert used <= set(ids)


def test_numbers_of_the_table_are_those_of_the_results(exp, text):
    shown = "".join(_Reader(text).text)
    for row in results.read_results(exp / "results.json"):
        assert f"{row['wer']:.2f}" in shown and f"[{row['low']:.2f}, {row['high']:.2f}]" in shown
    decodes = gather(exp).decodes
    p = re.findall(r"to (\w+): p ((?:< )?[01]\.\d{3})", shown)
    assert len(p) == 3 * (3 + 1 + 1)  # three rows after the first; test, clean of dev, clean tuned on the test
    assert all(0 <= float(value.lstrip("< ")) <= 1 for _, value in p)
    assert {before for before, _ in p} == {"mono", "tri1", "ce"}
    assert f"{len(decodes)} decodes" in shown


def test_figures_take_their_colours_from_the_page(text):
    figures = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    assert len(figures) > 3
    for figure in figures:
        assert "var(--ink)" in figure
        assert not re.findall(r"(?:fill|stroke): #(?!fff)[0-9a-f]{6}", figure)


def test_the_same_numbers_give_the_same_figure():
    content = [("loss", [("train", [1, 2, 3], [3.0, 2.0, 1.5]), ("dev", [1, 2, 3], [3.1, 2.4, 2.0])])]
    assert plots.lines(content, "epoch") == plots.lines(content, "epoch")


def test_an_empty_run_says_what_is_missing(tmp_path):
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert _Reader(text).problems == []
    for said in (
        "No results yet", "No training curves yet", "No GMM", "No senones", "No stage", "No phone confusions",
        "No alignments yet: the gmm stage", "No alignments yet: durations", "No decision tree yet",
    ):  # fmt: skip
        assert said in text
    assert "Not all could be shown" not in text


EVIL = "<script>alert('x')</script>&amp;\"$"


def test_words_ids_and_names_are_text(tmp_path):
    refs = {f"u{EVIL}": [EVIL, "b"], "v": ["$x_1$"]}
    hyps = {f"u{EVIL}": [f"{EVIL}2"], "v": ["<b>", "\\frac"]}
    for system in (f"s{EVIL}"[:2] + "<i>$a", "ce"):
        results.write_decode(
            tmp_path, refs, hyps, system=system, condition="clean", name="test", tuned_on="dev", seed=0,
            speakers={f"u{EVIL}": EVIL, "v": "<u>"}, settings={"acoustic_scale": 1.0, "edges": [EVIL]},
        )  # fmt: skip
    results.collect(tmp_path)
    (tmp_path / "marks").mkdir()
    mark = {"stage": EVIL, "state": EVIL, "command": EVIL, "commit": EVIL, "versions": {EVIL: EVIL}, "seed": EVIL}
    (tmp_path / "marks" / "00-x.json").write_text(json.dumps(mark))
    (tmp_path / "x").mkdir()
    problem = {"stage": EVIL, "utterance": EVIL, "reason": EVIL, "file": EVIL}
    (tmp_path / "x" / "problems.jsonl").write_text(json.dumps(problem) + "\n")
    confusion = {"phones": [EVIL, "$"], "matrix": [[3, 1], [1, 2]]}
    (tmp_path / "x" / "phone_confusion.json").write_text(json.dumps(confusion))
    (tmp_path / "config.json").write_text(json.dumps({EVIL: EVIL}))
    passes = [{"pass": 1, "loglike_per_frame": -60.0, "gaussians": 100, "mllt_gain": 0.5}]
    write_jsonl(tmp_path / "gmm" / EVIL.replace("/", "") / "passes.jsonl", passes)
    phones = phone_table([EVIL, "$"])
    tree = make_tree(phones)
    write_tree(tmp_path / "gmm" / "tri1", tree, phones, np.ones(tree.num_pdfs))
    rows = [make_row(f"{EVIL}{k}", np.random.default_rng(k), [EVIL, "$"], [EVIL]) for k in range(6)]
    write_jsonl(tmp_path / "gmm" / "alignments.jsonl.gz", rows)
    text = write_report(tmp_path, title=EVIL).read_text(encoding="utf-8")
    reader = _Reader(text)
    assert reader.problems == []
    assert not {tag for tag, _ in reader.tags} & {"script", "b2", "u", "i"}
    assert "<script" not in text
    assert "could not be made" not in text
    assert "".join(reader.text).count("<script>alert") > 10
    write_results_md(tmp_path, tmp_path / "RESULTS.md", "title")


@pytest.mark.parametrize(
    "file, content, says",
    [
        ("results.json", "{", "results.json: not JSON"),
        ("results.json", "[{}]", "results.json: not a list of results"),
        ("decode/ce/clean/test/wer.json", "[]", "decode/ce/clean/test/wer.json: not a wer.json"),
        ("ce/log.jsonl", '{"epoch": 1}\n{"epo', "ce/log.jsonl: line 2"),
        ("gmm/mono/passes.jsonl", "\xff", "gmm/mono/passes.jsonl: line"),
        ("marks/03-lm.json", "", "marks/03-lm.json: not JSON"),
        ("prepare/problems.jsonl", "x", "prepare/problems.jsonl: line 1"),
        ("senones/occupancy.json", "x", "senones/occupancy.json: not JSON"),
        ("gmm/alignments.jsonl.gz", "x", "gmm/alignments.jsonl.gz: after line 0"),
        ("gmm/tri1/senones/tree.json", "[]", "gmm/tri1/senones/tree.json: not a tree"),
        ("senones/model/tree.json", '{"root": 0, "context_width": 1, "central_position": 0}', "model/tree.json: no"),
        ("gmm/tri1/passes.jsonl", "[3]\n", "gmm section: a file holds what is not expected"),
        ("ce/log.jsonl", "5\n", "curve section: a file holds what is not expected"),
        ("ce/phone_confusion.json", '{"phones": 3}', "phone section"),
        ("ce/phone_confusion.json", '{"phones": ["a"], "matrix": [["x"]]}', "phone section"),
        (
            "decode/ce/clean/test/wer.json",
            '{"system": "ce", "condition": "clean", "set": "test", "tuned_on": "dev", "confusions": {"sub": [1]}}',
            "confusion section",
        ),
    ],
)
def test_a_broken_file_is_named_and_the_rest_shown(tmp_path, file, content, says):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("latin-1"))
    (tmp_path / "config.json").write_text('{"train.epochs": 4711}')
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert says in "".join(_Reader(text).text)
    assert "4711" in text


def test_marks_without_their_numbers(tmp_path):
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "07-ce.json").write_text('{"name": "ce", "state": "started"}')
    (tmp_path / "marks" / "08-lfmmi.json").write_text("{}")
    shown = "".join(_Reader(write_report(tmp_path).read_text(encoding="utf-8")).text)
    assert "0 of 2 stages done" in shown and "started" in shown and "lfmmi" in shown


def test_the_stage_that_writes_the_page_is_not_counted_as_missing(tmp_path):
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "11-score.json").write_text('{"stage": "score", "number": 11, "state": "done"}')
    (tmp_path / "marks" / "12-report.json").write_text('{"stage": "report", "number": 12, "state": "started"}')
    shown = "".join(_Reader(write_report(tmp_path).read_text(encoding="utf-8")).text)
    assert "1 of 1 stages done" in shown and "writes this page" in shown


def write_passes(exp, offsets, gains=()):
    for k, (system, offset) in enumerate(offsets.items()):
        rows = [{"pass": at, "loglike_per_frame": offset + at, "gaussians": 100 * at} for at in range(1, 6)]
        for at, key, gain in gains:
            if k >= 2:
                rows[at - 1][key] = gain
        write_jsonl(exp / "gmm" / system / "passes.jsonl", rows)


@pytest.mark.parametrize("far, figures", [(0.0, 1), (70.0, 2)])
def test_passes_of_four_systems(tmp_path, far, figures):
    """Systems whose log-likelihoods lie far apart get an axis each."""
    write_passes(tmp_path, {"mono": -60.0, "tri1": -58.0, "tri2": -57.0 - far, "tri3": -56.0 - far})
    content = bootstrap.gmm_section(gather(tmp_path))
    assert content.count("<svg") == figures
    assert ("tri3: log-likelihood a frame" in content) == (figures == 2)
    shown = "".join(_Reader(content).text)
    assert f"{-56.0 - far + 5:.3f}" in shown and "objective gain" not in shown


def test_gains_of_the_transforms(tmp_path):
    gains = [(2, "mllt_gain", 0.73), (4, "mllt_gain", 0.11), (3, "fmllr_gain", 1.5), (4, "fmllr_gain", None)]
    write_passes(tmp_path, {"mono": -60.0, "tri1": -58.0, "tri2": -55.0}, gains)
    content = bootstrap.gmm_section(gather(tmp_path))
    shown = "".join(_Reader(content).text)
    for said in ("objective gain a frame", "2: 0.7300, 4: 0.1100", "3: 1.5000", "tri2 MLLT", "tri2 fMLLR"):
        assert said in shown
    assert "tri1 MLLT" not in shown


def test_a_system_has_its_colour_in_every_panel():
    one = [("a", [1, 2], [1.0, 2.0]), ("b", [1, 2], [2.0, 3.0])]
    drawn = plots.lines([("both", one), ("b alone", one[1:])], "pass", styles={"a": 0, "b": 1})
    paths = re.findall(r"stroke: (var\(--s\d\)); stroke-width: 1.6", drawn)
    assert paths.count("var(--s1)") == 2 and paths.count("var(--s2)") == 3  # lines, and the legend of the first panel


def test_results_md(exp, tmp_path):
    path = tmp_path / "RESULTS.md"
    write_results_md(exp, path, "AN4", "Real speech, 130 test utterances.")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# AN4\n\nReal speech, 130 test utterances.\n")
    assert results.table(results.read_results(exp / "results.json")) in text
    assert text.index("chosen on dev") < text.index("## Set test, scale and penalty chosen on test")
    for said in ("hybrid run an4 --data data --exp exp/an4", "commit 4be2d9c01f6a", "seed 0", "torch 1.13.1"):
        assert said in text
    assert "(end of the grid)" in text
    lines = text.splitlines()
    for k, line in enumerate(lines):
        if line.startswith("|") and lines[k - 1].startswith("|"):
            assert line.count("|") == lines[k - 1].count("|")
    assert [line for line in lines if line.startswith("| lfmmi to ce |")]
    assert [line for line in lines if line.startswith("| all |")]
    assert "No results yet" in _written(tmp_path / "empty", tmp_path / "E.md")
    assert set(SYSTEMS) <= {line.split("|")[1].strip() for line in lines if line.startswith("|")}


def _written(exp, path):
    write_results_md(exp, path, "t")
    return path.read_text()


@pytest.mark.parametrize(
    "value, text", [(3.24, "3.2 s"), (245.0, "4 min 5 s"), (3599.9, "59 min 59 s"), (7380.0, "2 h 3 min"), (None, "-")]
)
def test_seconds(value, text):
    assert seconds_text(value) == text


def test_small_pieces():
    assert bytes_text(2.5e9) == "2.50 GB" and bytes_text(3.1e7) == "31 MB" and bytes_text("x") == "-"
    assert esc('<a b="c">') == "&lt;a b=&quot;c&quot;&gt;"
    assert "&lt;td&gt;" in table(["h"], [["<td>"]])
