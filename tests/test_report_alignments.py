"""The report's alignments: what is counted, which utterances are drawn, and the pictures, also of odd ones."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest
from fake_bootstrap import make_row, write_bootstrap, write_logmel
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.features import FeatureExtractor, LogMel
from hybrid.errors import DataError
from hybrid.io import read_jsonl, write_jsonl
from hybrid.report import bootstrap
from hybrid.report.alignments import Utterance, base, duration_rows, read_alignments, read_features
from hybrid.report.gather import ReportData, gather
from hybrid.report.spectrogram import LINE, MOST, figure, lines, mel_ticks, png

BASES, WORDS = ["AA", "B", "IY", "S"], ["go", "home", "stop"]


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    exp = tmp_path_factory.mktemp("run")
    write_bootstrap(exp, BASES, WORDS)
    return exp


def alignments(folder, rows):
    write_jsonl(folder / "gmm" / "alignments.jsonl.gz", rows)
    return read_alignments(folder / "gmm" / "alignments.jsonl.gz")


# ------------------------------------------------------------------ reading


def test_everything_is_counted_once(exp):
    path = exp / "gmm" / "alignments.jsonl.gz"
    rows, found = read_jsonl(path), read_alignments(path)
    assert found.total == found.counted == len(rows) == 40
    assert found.loglikes == sorted(row["loglike"] for row in rows)
    counts = Counter((name, frames) for row in rows for name, _, frames in row["phones"])
    assert counts == {(name, frames): n for name, some in found.durations.items() for frames, n in some.items()}


def test_the_drawn_are_the_worst_the_typical_and_two_between(exp):
    found = read_alignments(exp / "gmm" / "alignments.jsonl.gz")
    ranked = sorted(read_jsonl(exp / "gmm" / "alignments.jsonl.gz"), key=lambda row: row["loglike"])
    assert [row.id for row in found.examples] == [ranked[place]["id"] for place in (0, 4, 20, 35)]
    assert [row.id for row in found.lowest] == [row["id"] for row in ranked[:10]]
    first = found.examples[0]
    assert [list(phone) for phone in first.phones] == ranked[0]["phones"] and first.why == "the worst fit"


def test_a_large_file_is_sampled_evenly_and_that_is_said(exp):
    path = exp / "gmm" / "alignments.jsonl.gz"
    rows, found = read_jsonl(path), read_alignments(path, limit=15)
    assert (found.total, found.counted) == (40, 14)  # every third
    assert found.loglikes == sorted(row["loglike"] for row in rows[::3])
    section = bootstrap.alignment_section(ReportData(exp, alignments=found))
    assert "of which 14, spread evenly over the file, were counted" in section


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_utterances_are_drawn_once_each(tmp_path, count):
    rows = [make_row(f"u{k}", np.random.default_rng(k), BASES, WORDS) for k in range(count)]
    ids = [row.id for row in alignments(tmp_path, rows).examples]
    assert len(set(ids)) == len(ids) == count


def test_log_likelihoods_that_are_none(tmp_path):
    row = make_row("u", np.random.default_rng(0), BASES, WORDS)
    found = alignments(tmp_path, [{**row, "loglike": None}, {**row, "id": "v", "loglike": math.nan}])
    assert found.loglikes == [] and found.lowest == []
    assert [drawn.id for drawn in found.examples] == ["u"]
    assert "none has a log-likelihood" in bootstrap.alignment_section(ReportData(tmp_path, alignments=found))


@pytest.mark.parametrize(
    "line, says",
    [
        (b"{", "line 2: not an aligned utterance"),
        (b"[]", "line 2: not an aligned utterance"),
        (b'{"id": "u", "words": []}', "line 2: not an aligned utterance (KeyError: 'phones')"),
        (b'{"id": "u", "words": [["a", 3]], "phones": []}', "line 2: not an aligned utterance"),
        (b'{"id": "u", "words": [], "phones": [["AA", -1, 5]]}', "AA of 5 frames from frame -1"),
        (b"\xff", "line 2: not an aligned utterance"),
    ],
)
def test_odd_rows_are_named(tmp_path, line, says):
    row = make_row("u", np.random.default_rng(0), BASES, WORDS)
    path = tmp_path / "gmm" / "alignments.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n" + line + b"\n"))
    with pytest.raises(DataError, match=re.escape(says)):
        read_alignments(path)
    assert "line 2" in gather(tmp_path).notes[0]


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_named(exp, tmp_path, keep):
    data = (exp / "gmm" / "alignments.jsonl.gz").read_bytes()
    path = tmp_path / "alignments.jsonl.gz"
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DataError, match="after line"):
        read_alignments(path)


# ------------------------------------------------------------------ durations


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60))
def test_quantiles_are_those_of_numpy(frames):
    (row,) = duration_rows({"AA": Counter(frames)})
    expected = np.quantile(frames, [0.05, 0.25, 0.5, 0.75, 0.95], method="inverted_cdf")
    assert list(row.quantiles) == expected.astype(int).tolist()
    assert row.count == len(frames) and row.at_least == pytest.approx(np.mean(np.array(frames) <= 3))
    assert row.flagged == (expected[2] <= 3)


def test_places_in_the_word_are_one_phone_or_four():
    durations = {"AA_B": Counter({3: 5}), "AA_E": Counter({9: 6}), "SIL": Counter({40: 1}), "_B": Counter({1: 1})}
    assert [(row.name, row.count) for row in duration_rows(durations)] == [("SIL", 1), ("AA", 11), ("_B", 1)]
    marked = duration_rows(durations, positions=True)
    assert {row.name: row.flagged for row in marked} == {"SIL": False, "AA_E": False, "AA_B": True, "_B": True}
    assert base("AH_S") == "AH" and base("SIL") == "SIL"


def test_phones_at_the_minimum_are_flagged(tmp_path):
    phones = [["SIL", 0, 30], ["AA_B", 30, 3], ["B_E", 33, 9], ["SIL", 42, 8]]
    found = alignments(tmp_path, [{"id": "u", "loglike": -5.0, "words": [["ab", 30, 12]], "phones": phones}])
    section = bootstrap.duration_section(ReportData(tmp_path, alignments=found))
    assert "Half or more of these are no longer than 3 frames" in section
    assert "AA_B (1)" in section and "B_E (1)" not in section.split("</div>")[0]


# ------------------------------------------------------------------ pictures


def utterance(row):
    return Utterance(row["id"], row.get("loglike"), *([tuple(s) for s in row[key]] for key in ("words", "phones")))


def texts(content):
    return [element.text for element in ET.fromstring(content).iter("text")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 500), max_size=40), st.lists(st.booleans(), min_size=40, max_size=40))
def test_lines_cover_the_utterance(lengths, spoken):
    starts = np.cumsum([0, *lengths]).tolist()
    phones = [("AA", start, frames) for start, frames in zip(starts, lengths)]
    words = [phone for phone, said in zip(phones, spoken) if said]
    spans = lines(Utterance("u", 0.0, words, phones))
    total = sum(lengths)
    assert spans[0][0] == 0 and spans[-1][1] == total
    assert all(end == begin for (_, end), (begin, _) in zip(spans, spans[1:]))
    assert all(0 < end - begin <= LINE for begin, end in spans) or (total == 0 and spans == [(0, 0)])
    assert len(spans) <= 2 * math.ceil(total / LINE) + 1


def test_lines_break_between_words():
    phones = [("SIL", 0, 300), ("AA_B", 300, 10), ("B_I", 310, 10), ("S_E", 320, 10), ("SIL", 330, 240)]
    assert lines(Utterance("u", 0.0, [("word", 300, 30)], phones)) == [(0, 300), (300, 570)]
    assert lines(Utterance("u", 0.0, [("word", 250, 60)], phones)) == [(0, 310), (310, 570)]  # 300 is within the word
    assert lines(Utterance("u", 0.0, [("word", 100, 400)], phones)) == [(0, 300), (300, 570)]  # so are all


def test_a_picture_names_phones_and_words_and_times():
    phones = [("SIL", 0, 30), ("AA_B", 30, 20), ("B_E", 50, 25), ("SIL", 75, 40)]
    content = figure(Utterance("u", -5.0, [("go", 30, 45)], phones), np.zeros((115, 64)), [("1 kHz", 0.5)])
    assert texts(content) == ["1 kHz", "SIL", "AA", "B", "SIL", "go", "0.0 s", "0.5 s", "1.0 s"]
    titles = [element.text for element in ET.fromstring(content).iter("title")]
    assert titles[1] == "AA_B 200 ms, from 0.30 s" and titles[-1] == "go 450 ms, from 0.30 s"
    assert content.count("data:image/png") == 1


def test_short_phones_are_shaded_and_long_names_stay_in_their_box():
    phones = [("AA_B", 0, 3), ("LONGNAME_I", 3, 3), ("B_E", 6, 20)]
    content = figure(Utterance("u", -5.0, [("go", 0, 26)], phones), None)
    assert content.count('fill="var(--warn)"') == 2
    assert "LONGNAME" not in texts(content)  # but under the pointer
    assert "LONGNAME_I 30 ms" in content and "<image" not in content


@pytest.mark.parametrize(
    "words, phones",
    [
        ([], [("SIL", 0, 50)]),
        ([("", 0, 10)], [("", 0, 10)]),
        ([("a", 0, 5)], []),
        ([("<b>&\"'", 3, 200)], [("<i>&\"'_B", 3, 200)]),
        ([("a", 10, 0)], [("A", 0, 10), ("B", 10, 0), ("C", 10, 1)]),
        ([], [("SIL", 0, 40 * LINE)]),
    ],
)
@pytest.mark.parametrize("logmel", [None, np.zeros((0, 64)), np.full((7, 3), np.nan), np.ones((400, 64))])
def test_odd_utterances_are_drawn(words, phones, logmel):
    row = Utterance("u<&>", None, words, phones, "odd")
    content = figure(row, logmel, mel_ticks(64, 20.0, 7600.0))
    assert ET.fromstring(content) is not None
    assert content.count("translate") <= MOST
    assert "nan" not in content


def test_an_utterance_without_frames_is_said_to_be(tmp_path):
    found = alignments(tmp_path, [{"id": "u", "loglike": -5.0, "words": [], "phones": []}])
    material = ReportData(tmp_path, alignments=found)
    assert "This utterance has no frames" in bootstrap.alignment_section(material)
    assert "hold no phone" in bootstrap.duration_section(material)
    empty = ReportData(tmp_path, alignments=alignments(tmp_path, []))
    assert "holds no utterance" in bootstrap.alignment_section(empty)


def test_a_picture_stays_small():
    """A second of noise, which compresses worst, takes less than 4 kB; labels not counted."""
    logmel = np.random.default_rng(0).normal(0, 1, (300, 64))
    content = figure(Utterance("u", 0.0, [], [("SIL", 0, 300)]), logmel)
    assert len(content) < 3 * 5000


@pytest.mark.parametrize("shape", [(1, 1), (64, 300), (5, 7)])
def test_png_as_pillow_reads_it(shape):
    image = pytest.importorskip("PIL.Image")
    levels = np.random.default_rng(0).integers(0, 16, shape).astype(np.uint8)
    read = np.asarray(image.open(io.BytesIO(png(levels))).convert("L"))
    assert np.array_equal(read, 17 * levels)  # 15 of 16 levels is white, 255


@pytest.mark.parametrize("hertz", [500, 1000, 2000, 4000])
def test_frequencies_stand_where_the_front_end_puts_them(hertz):
    samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(8000) / 16000)
    loudest = int(np.argmax(FeatureExtractor(LogMel()).compute(samples, 16000).mean(axis=0)))
    ticks = dict(mel_ticks(64, 20.0, 7600.0))
    assert abs(ticks[f"{hertz / 1000:g} kHz"] * 64 - (loudest + 0.5)) < 0.75


# ------------------------------------------------------------------ features


def test_only_the_shards_that_are_needed_are_read(tmp_path):
    rows = [make_row(f"u{k}", np.random.default_rng(k), BASES, WORDS) for k in range(9)]
    write_logmel(tmp_path, rows, shard_size=3)
    folder = tmp_path / "features" / "train" / "logmel"
    everything = read_features(folder, "logmel", [row["id"] for row in rows])
    assert len(everything) == 9
    (folder / "shards" / "logmel.000001.tar").write_bytes(b"damaged")
    found = read_features(folder, "logmel", ["u7", "u0", "nobody"])
    assert set(found) == {"u0", "u7"} and np.array_equal(found["u7"], everything["u7"])
    with pytest.raises(DataError, match="damaged"):
        read_features(folder, "logmel", ["u4"])
    with pytest.raises(DataError, match="no arrays 'mfcc'"):
        read_features(folder, "mfcc", ["u0"])


@pytest.mark.parametrize(
    "odd, says",
    [
        (lambda features: (features / "features.json").write_text("[]"), "no frequencies at their axis"),
        (lambda features: (features / "features.json").unlink(), "no frequencies at their axis"),
        (lambda features: (features / "train" / "logmel" / "complete.json").unlink(), "without its spectrograms"),
        (lambda features: write_logmel(features.parent, []), "no spectrogram of u0"),
    ],
)
def test_missing_features_are_noted_and_the_alignment_drawn(tmp_path, odd, says):
    rows = [make_row("u0", np.random.default_rng(0), BASES, WORDS)]
    write_logmel(tmp_path, rows)
    found = alignments(tmp_path, rows)
    odd(tmp_path / "features")
    material = ReportData(tmp_path, alignments=found)
    section = bootstrap.alignment_section(material)
    assert says in " ".join(material.notes)
    assert "SIL" in section and ("data:image/png" in section) == ("axis" in says)


def test_spectrograms_of_speed_perturbed_copies_are_found(tmp_path):
    rows = [make_row(name, np.random.default_rng(k), BASES, WORDS) for k, name in enumerate(["u0", "u0_sp1.1"])]
    write_logmel(tmp_path, rows[:1])
    write_logmel(tmp_path, rows[1:], name="train_sp1.1")
    material = ReportData(tmp_path, alignments=alignments(tmp_path, rows))
    section = bootstrap.alignment_section(material)
    assert section.count("data:image/png") == len(material.alignments.examples) == 2 and not material.notes
