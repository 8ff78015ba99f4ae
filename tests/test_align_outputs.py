"""Alignments as files: what is written is read back by other readers, lhotse's and a strict one of TextGrids."""

from __future__ import annotations

import re
from typing import List, Tuple

import lhotse
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.align.ctm import CtmRow, format_ctm, read_ctm
from hybrid.align.outputs import check_formats, tiers_of, write_outputs
from hybrid.align.result import AlignedUtterance, PhoneTime, StateTime, WordTime
from hybrid.align.suspicious import rank, robust_z, write_suspicious
from hybrid.align.textgrid import format_textgrid, tier
from hybrid.corpus.textgrid import Interval, Tier, parse_textgrid, read_textgrid
from hybrid.errors import ConfigError, DataError
from hybrid.io import read_jsonl


def utterance(
    identifier: str = "anna/one", *, start: float = 0.0, speaker: str = "anna", recording: str = "", sure: float = 0.9
) -> AlignedUtterance:
    """sil 0.2 s, `say` s 0.1 ey 0.2, sil 0.1, `"so"` s 0.1 ow 0.3: a second in all."""
    phones = []
    at = 0
    said = [("SIL", 20, None), ("s", 10, 0), ("ey", 20, 0), ("SIL", 10, None), ("s", 10, 1), ("ow", 30, 1)]
    for name, length, word in said:
        t = [round(start + (at + part) / 100, 6) for part in (0, length // 2, length)]
        phones.append(PhoneTime(name, t[0], t[2], word, (StateTime(0, t[0], t[1]), StateTime(1, t[1], t[2]))))
        at += length
    words = [
        WordTime(word, phones[a].start, phones[b].end, sure, source)
        for word, a, b, source in (("say", 1, 2, "lexicon"), ('"so"', 4, 5, "g2p"))
    ]
    return AlignedUtterance(
        identifier, recording or identifier, 0, speaker, 'say "so"', start, round(start + 1.0, 6), -7.25, words, phones
    )


def strict_read(text: str) -> List[Tuple[str, float, float, List[Tuple[float, float, str]]]]:
    """The long form by its letter: every line must be the next one that the form has."""
    lines = iter(text.split("\n"))

    def line(pattern: str) -> str:
        found = re.fullmatch(pattern, next(lines))
        assert found, pattern
        return found[1] if found.groups() else ""

    number = r"(-?\d+(?:\.\d+)?) "
    line('File type = "ooTextFile"'), line('Object class = "TextGrid"'), line("")
    low, high = float(line("xmin = " + number)), float(line("xmax = " + number))
    line("tiers\\? <exists> ")
    count = int(line(r"size = (\d+) "))
    line(r"item \[\]: ")
    tiers = []
    for k in range(1, count + 1):
        line(rf"    item \[{k}\]:"), line('        class = "IntervalTier" ')
        name = line('        name = "((?:[^"]|"")*)" ').replace('""', '"')
        begin, end = float(line("        xmin = " + number)), float(line("        xmax = " + number))
        assert (begin, end) == (low, high)
        intervals = []
        at = begin
        for n in range(1, int(line(r"        intervals: size = (\d+) ")) + 1):
            line(rf"        intervals \[{n}\]:")
            first, last = float(line("            xmin = " + number)), float(line("            xmax = " + number))
            assert first == at and last > first  # no gap, no overlap, nothing empty
            at = last
            intervals.append((first, last, line('            text = "((?:[^"]|"")*)" ').replace('""', '"')))
        assert at == end
        tiers.append((name, begin, end, intervals))
    assert list(lines) == [""]
    return tiers


def test_textgrid_of_a_recording(tmp_path):
    assert write_outputs(tmp_path, [utterance()], {"anna/one": 1.2}, ["textgrid"]) == ["textgrid/"]
    path = tmp_path / "textgrid" / "anna" / "one.TextGrid"
    (words, phones) = strict_read(path.read_text(encoding="utf-8"))
    assert words == (
        "words", 0.0, 1.2, [(0, 0.2, ""), (0.2, 0.5, "say"), (0.5, 0.6, ""), (0.6, 1.0, '"so"'), (1.0, 1.2, "")]
    )
    assert phones[0] == "phones" and [row[2] for row in phones[3]] == ["", "s", "ey", "", "s", "ow", ""]
    assert [(one.name, [(i.start, i.end, i.text) for i in one.intervals]) for one in read_textgrid(path)] == [
        (words[0], words[3]), (phones[0], phones[3])
    ]


def test_several_speakers_have_tiers_of_their_own():
    some = [utterance("r-1", recording="r"), utterance("r-2", start=0.7, speaker="Bo", recording="r")]
    tiers = tiers_of(some, 2.0)
    assert [one.name for one in tiers] == ["Bo - words", "Bo - phones", "anna - words", "anna - phones"]
    assert [row[2] for row in strict_read(format_textgrid(tiers))[0][3]] == ["", "say", "", '"so"', ""]


@pytest.mark.parametrize("speakers", [["anna"], ["anna", "Bo"]])
def test_words_at_the_same_time_have_further_tiers(speakers):
    """0.7 and 0.75 s later words overlap; 2.0 s later: the first tier is free again. Nothing is cut."""
    some = [
        utterance(f"r-{start}", recording="r", start=start, speaker=speaker)
        for speaker in speakers
        for start in (0.7, 0.0, 0.75, 2.0)
    ]
    tiers = {name: rows for name, _, _, rows in strict_read(format_textgrid(tiers_of(some, 3.0)))}
    for speaker in speakers:
        begin = f"{speaker} - " if len(speakers) > 1 else ""
        got = [
            [(row[0], row[2]) for row in tiers[f"{begin}words{number}"] if row[2]] for number in ("", " 2", " 3")
        ]
        assert got == [
            [(0.2, "say"), (0.6, '"so"'), (2.2, "say"), (2.6, '"so"')],
            [(0.9, "say"), (1.3, '"so"')],
            [(0.95, "say"), (1.35, '"so"')],
        ]
        assert [row[2] for row in tiers[f"{begin}phones 2"] if row[2]] == ["s", "ey", "s", "ow"]
    assert len(tiers) == 6 * len(speakers)


times = st.lists(st.integers(0, 3_000_000), min_size=2, max_size=20, unique=True).map(sorted)
labels = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(times, st.data())
def test_any_tier_comes_back(edges, data):
    marked = [
        Interval(a / 1e6, b / 1e6, data.draw(labels))
        for a, b in zip(edges, edges[1:])
        if data.draw(st.booleans())
    ]
    made = tier(data.draw(labels), marked, 0.0, 3.0)
    text = format_textgrid([made, tier("empty", [], 0.0, 3.0)])
    name, _, _, rows = strict_read(text)[0]
    assert name == made.name and [row for row in rows if row[2]] == [(one.start, one.end, one.text) for one in marked]
    assert parse_textgrid(text)[0] == made


def test_gaps_are_not_written():
    with pytest.raises(DataError, match="gaps"):
        format_textgrid([Tier("a", 0, 2, [Interval(0, 1, "x")])])
    with pytest.raises(DataError, match="without a tier"):
        format_textgrid([])


def test_ctm(tmp_path):
    write_outputs(tmp_path, [utterance("b/2"), utterance("a/1", start=2.0, sure=0.123)], {}, ["ctm"])
    assert (tmp_path / "words.ctm").read_text() == (
        'a/1 1 2.200 0.300 say 0.12\na/1 1 2.600 0.400 "so" 0.12\n'
        'b/2 1 0.200 0.300 say 0.90\nb/2 1 0.600 0.400 "so" 0.90\n'
    )
    rows = read_ctm(tmp_path / "phones.ctm")
    assert len(rows) == 12 and rows[0] == CtmRow("a/1", "1", 2.0, 0.2, "SIL", 1.0)
    for before, after in zip(rows[:6], rows[1:6]):
        assert before.start + before.duration == pytest.approx(after.start)


def test_rounding_leaves_neighbours_neighbours():
    text = format_ctm([CtmRow("r", "1", 0.0104, 0.0102, "a"), CtmRow("r", "1", 0.0206, 0.01, "b")])
    assert text == "r 1 0.010 0.011 a\nr 1 0.021 0.010 b\n"


def test_broken_ctm(tmp_path):
    (tmp_path / "a.ctm").write_text(";; note\nr 1 0.0 0.1 a\nr 1 zero 0.1 a\n")
    with pytest.raises(DataError, match="line 3"):
        read_ctm(tmp_path / "a.ctm")


def test_lhotse_reads_the_supervisions(tmp_path):
    one = utterance(start=3.0)
    write_outputs(tmp_path, [one], {}, ["lhotse", "json"])
    (read,) = lhotse.load_manifest(tmp_path / "supervisions.jsonl.gz")
    assert (read.id, read.recording_id, read.speaker) == ("anna/one", "anna/one", "anna")
    assert (read.start, read.duration) == (3, 1)
    assert [(i.symbol, i.start, i.end, i.score) for i in read.alignment["word"]] == [
        ("say", 3.2, 3.5, 0.9), ('"so"', 3.6, 4.0, 0.9)
    ]
    assert [i.symbol for i in read.alignment["phone"]] == ["SIL", "s", "ey", "SIL", "s", "ow"]
    assert [i.symbol for i in read.alignment["state"]][:4] == ["SIL_0", "SIL_1", "s_0", "s_1"]
    assert read.alignment["phone"][0].score is None
    (row,) = read_jsonl(tmp_path / "alignment.jsonl")
    assert AlignedUtterance.from_json(row) == one
    del row["words"][0]["start"]
    with pytest.raises(DataError, match="start"):
        AlignedUtterance.from_json(row)


def test_a_recordings_name_stays_in_the_folder(tmp_path):
    write_outputs(tmp_path / "out", [utterance("../../x")], {"../../x": 1.0}, ["textgrid"])
    assert [path.name for path in tmp_path.rglob("*.TextGrid")] == ["x.TextGrid"]
    assert (tmp_path / "out" / "textgrid" / "x.TextGrid").exists()


def test_unknown_format():
    with pytest.raises(ConfigError, match="'emu'"):
        check_formats(["ctm", "emu"])


# ------------------------------------------------------------------ suspicious transcripts


def usual(count: int = 30) -> List[AlignedUtterance]:
    rng = np.random.default_rng(0)
    rows = [utterance(f"u{number:02d}", speaker=f"s{number % 3}") for number in range(count)]
    return [AlignedUtterance(**{**vars(one), "loglike": -7 + rng.normal() / 2}) for one in rows]


def changed(one: AlignedUtterance, **values) -> AlignedUtterance:
    return AlignedUtterance(**{**vars(one), **values})


def test_nothing_is_suspicious_among_equals(tmp_path):
    rows = rank(usual())
    assert len(rows) == 30 and not any(row.suspicious for row in rows)
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert rank([]) == []
    write_suspicious(tmp_path / "s.tsv", rows)
    assert len((tmp_path / "s.tsv").read_text().splitlines()) == 31


def stretched(one: AlignedUtterance, number: int, seconds: float) -> AlignedUtterance:
    """One phone longer, all after it later."""
    phones = [
        PhoneTime(p.phone, p.start + seconds * (k > number), p.end + seconds * (k >= number), p.word)
        for k, p in enumerate(one.phones)
    ]
    words = [
        WordTime(word.word, own[0].start, own[-1].end, 0.9)
        for k, word in enumerate(one.words)
        for own in [[phone for phone in phones if phone.word == k]]
    ]
    return changed(one, phones=phones, words=words)


@pytest.mark.parametrize(
    "odd, reason",
    [
        (lambda one: changed(one, loglike=-12.0), "log-likelihood -12.0 a frame"),
        (lambda one: changed(one, words=utterance(sure=0.2).words), r"2 of 2 words doubted: say \(0.20\) at 0.20 s"),
        (lambda one: stretched(one, 2, 1.0), "ey of say lasts 1.20 s, at 0.30 s"),
        (lambda one: stretched(one, 3, 2.5), "a silence of 2.6 s between words, at 0.50 s"),
        (lambda one: stretched(one, 5, 0.45), "phones a second of speech, where 5.7 are usual"),
    ],
)
def test_what_is_odd_comes_first_with_its_reason(odd, reason):
    rows = usual()
    rows[7] = odd(rows[7])
    first = rank(rows)[0]
    assert first.id == "u07" and first.suspicious and re.search(reason, "; ".join(first.reasons))
    assert sum(row.suspicious for row in rank(rows)) == 1


def test_a_poor_microphone_is_not_a_wrong_transcript():
    """All utterances of a speaker lie far below the others': none is odd for him."""
    rows = [changed(one, loglike=one.loglike - 20 * (one.speaker == "s1")) for one in usual()]
    assert not any(row.suspicious for row in rank(rows))


def test_robust_z():
    values = np.array([1.0, 2.0, 3.0, 4.0, 1000.0])
    np.testing.assert_allclose(robust_z(values, floor=0.1), (values - 3) / 1.4826)
    np.testing.assert_allclose(robust_z(np.ones(4), floor=0.5), np.zeros(4))
