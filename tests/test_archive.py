"""Archives of lattices and OpenFst's files: round trips, kaldifst as another reader, and what is said of bad input."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Dict, List, Tuple

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_determinise import best_of_each, every_path, random_lattice, word_paths

from hybrid.decode.archive import read_lattices, read_word_lattices, write_lattices
from hybrid.decode.lattice import Lattice
from hybrid.decode.lattice_parts import expand
from hybrid.decode.openfst import from_openfst, read_openfst, to_openfst, write_openfst
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import ConfigError, DataError
from hybrid.io import Problems

Rounded = List[Tuple[Tuple[int, ...], Tuple[int, ...], int, int]]


def paths_of(lattice: Lattice) -> Rounded:
    return sorted(
        (path.words, path.pdfs, round(1000 * path.graph), round(1000 * path.acoustic))
        for path in every_path(lattice, 1.0, 0.0)
    )


def words_of(lattice: WordLattice) -> Rounded:
    return sorted(
        (path.words, path.pdfs, round(1000 * path.graph), round(1000 * path.acoustic)) for path in word_paths(lattice)
    )


def lattices(seed: int) -> Dict[str, Lattice]:
    rng = np.random.default_rng(seed)
    made = {f"utterance-{k}": random_lattice(rng, coarse=k == 2) for k in range(4)}
    return {name: lattice for name, lattice in made.items() if every_path(lattice, 1.0, 0.0)}


# costs of eighths, so that sums are the same in any order
def eighths(lattice: Lattice) -> Lattice:
    columns = (np.round(8 * column) / 8 for column in (lattice.graph, lattice.acoustic, lattice.final))
    graph, acoustic, final = columns
    return Lattice(
        lattice.frame, lattice.source, lattice.target, lattice.ilabel, lattice.olabel, graph, acoustic, final, True
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_an_archive_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, seed: int, gz: bool) -> None:
    path = tmp_path_factory.mktemp("archive") / ("lat.gz" if gz else "lat")
    written = {name: eighths(lattice) for name, lattice in lattices(seed).items()}
    write_lattices(path, written)
    assert path.read_bytes().startswith(b"\x1f\x8b") == gz
    again = dict(read_lattices(path))
    assert list(again) == list(written)
    for name, lattice in written.items():
        assert paths_of(again[name]) == paths_of(lattice)
        assert (again[name].source < again[name].target).all() and (np.diff(again[name].source) >= 0).all()
    compact = {name: lattice.determinised(lattice_beam=1000.0) for name, lattice in written.items()}
    write_lattices(path, compact)
    found = dict(read_word_lattices(path))
    assert list(found) == list(compact)
    for name, words in compact.items():
        assert words_of(found[name]) == words_of(words)
        assert len(found[name].source) == len(words.source) and found[name].num_frames == words.num_frames


def test_what_stands_in_the_files(tmp_path: Path) -> None:
    """The form of lattice-copy: tabs, the start first, an empty line at the end, no label for a frame without one."""
    text = "a \n0\t1\t4\t7\t1.5,-2.25\n1\t2\t0\t0\t0.5,0\n2\t0.25,0\n\n"
    (tmp_path / "lat").write_text(text)
    lattice = dict(read_lattices(tmp_path / "lat"))["a"]
    assert lattice.ilabel.tolist() == [4, 0] and lattice.olabel.tolist() == [7, 0]
    assert lattice.frame.tolist() == [0, 1, 1] and lattice.final.tolist() == [np.inf, np.inf, 0.25]
    write_lattices(tmp_path / "again", {"a": lattice})
    assert (tmp_path / "again").read_text() == text
    write_lattices(tmp_path / "compact", {"a": lattice.determinised()})
    assert (tmp_path / "compact").read_text() == "a \n0\t1\t7\t2,-2.25,4\n1\t0.25,0,\n\n"


def test_labels_are_mapped_by_the_caller(tmp_path: Path) -> None:
    """Kaldi's labels are transition ids, several a pdf: 1 and 2 of pdf 0, 3 of pdf 1."""
    (tmp_path / "kaldi").write_text("a\n0 1 5 1,2,1_2_3\n1 0,0,3\n\n")
    pdfs = [-1, 0, 0, 1]
    words = dict(read_word_lattices(tmp_path / "kaldi", pdfs))["a"]
    assert words_of(words) == [((5,), (0, 0, 1, 1), 1000, 2000)]
    write_lattices(tmp_path / "out", {"a": words}, labels=[1, 3])
    assert (tmp_path / "out").read_text() == "a \n0\t1\t5\t1,2,1_1_3\n1\t0,0,3\n\n"
    write_lattices(tmp_path / "raw", {"a": expand(words)}, labels=[1, 3])
    assert paths_of(dict(read_lattices(tmp_path / "raw", pdfs))["a"]) == words_of(words)
    with pytest.raises(DataError, match="label 3 where the table has 2"):
        dict(read_word_lattices(tmp_path / "kaldi", pdfs[:3]))
    with pytest.raises(ConfigError, match="label 0 for a pdf"):
        write_lattices(tmp_path / "out", {"a": words}, labels=[0, 3])


def test_weights_that_kaldi_leaves_out_and_states_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "lat").write_text(
        "a\n5 3 1 7\n5 2 1 8 Infinity,Infinity\n3 9 2 0 1,0.5\n2 9 2 0\n9\n4 9 2 0\n7 0,1\n\n\n"
        "b\n0 0.5,1\n1 Infinity,Infinity\n\n"
    )
    found = dict(read_lattices(tmp_path / "lat"))
    assert paths_of(found["a"]) == [((7,), (0, 1), 1000, 500)]
    assert paths_of(found["b"]) == [((), (), 500, 1000)]
    (tmp_path / "compact").write_text("a\n2 1 7\n2 3 8 1,1,5_6\n1 0.5,0,1_1\n3\n\n")
    words = dict(read_word_lattices(tmp_path / "compact"))["a"]
    assert words_of(words) == [((7,), (0, 0), 500, 0), ((8,), (4, 5), 1000, 1000)]


def test_an_epsilon_to_the_end_beside_a_final_weight_stays(tmp_path: Path) -> None:
    text = "a\n0 1 7 1,0,2\n0 1 0 2,0,3\n1 0,0,\n\n"
    (tmp_path / "lat").write_text(text)
    words = dict(read_word_lattices(tmp_path / "lat"))["a"]
    write_lattices(tmp_path / "again", {"a": words})
    assert words_of(dict(read_word_lattices(tmp_path / "again"))["a"]) == words_of(words)
    assert len(words_of(words)) == 2
    chosen = words.select(np.flatnonzero(words.source == 0))  # its last node is the end of two arcs, one with a word
    write_lattices(tmp_path / "again", {"a": chosen})
    assert words_of(dict(read_word_lattices(tmp_path / "again"))["a"]) == words_of(chosen)


RAW = [
    ("a\n0 1 1 1\n1\n", "line 1: the archive ends within this lattice", "a"),
    ("a\n\n", "line 1: an empty lattice", "a"),
    ("a\n0 1 1 1\n\n", "line 1: no path leads to a final state", "a"),
    ("a\n0 1 1 1 Infinity,Infinity\n1\n\n", "line 1: no path leads to a final state", "a"),
    ("a\n0 1 1 1\n1 0 1 1\n1\n\n", "line 1: a cycle through state 0", "a"),
    ("a\n0 1 1 1\n0 2 1 1\n2 1 1 0\n1\n\n", "line 1: ways of", "a"),
    ("a\n0 1 1 1\n1\n1 0,0\n\n", "line 1: state 1 has two final weights", "a"),
    ("a\n0 1 1 1 2 3\n1\n\n", "line 2: 6 fields", "a"),
    ("a\n0 1 1 1\n0 1 1 1 2;3\n1\n\n", "line 3: the weight '2;3'", "a"),
    ("a\n0 1 1 1 x,3\n1\n\n", "line 2: the cost 'x' is no number", "a"),
    ("a\n0 1 1 1 nan,3\n1\n\n", "line 2: the cost 'nan' is no number", "a"),
    ("a\n0 1 1 hello 1,3\n1\n\n", "line 2: the word 'hello' is no whole number.*sym2int", "a"),
    ("a\n0 1 1 -1 1,3\n1\n\n", "line 2: the word '-1' is no whole number", "a"),
    ("a\n0 1 1 ² 1,3\n1\n\n", "line 2: the word '²' is no whole number", "a"),
    ("a\n0 99999999999 1 1\n1\n\n", "line 2: the state '99999999999'", "a"),
    ("a\n0 1 x 1\n1\n\n", "line 2: the ilabel 'x'", "a"),
    ("a\n0 1 5 1,2,1_2\n1\n\n", "line 2: a line of a compact lattice.*read_word_lattices", "a"),
    ("a\n0 1,2,3\n\n", "line 2: a weight of a compact lattice.*read_word_lattices", "a"),
    ("a b\n0 1 1 1\n1\n\n", "line 1: 2 fields where the name", None),
]
COMPACT = [
    ("a\n0 1 5 1,2,1_x\n1\n\n", "line 2: the label 'x'", "a"),
    ("a\n0 1 5 1,2,1__2\n1\n\n", "line 2: the label ''", "a"),
    ("a\n0 1 5 1,2,0\n1\n\n", "line 2: label 0 among the labels of an arc", "a"),
    ("a\n0 1 5 1,2,1_2\n0 1 6 1,2,1\n1\n\n", "line 1: ways of 2 and of 1 frames to state 1", "a"),
    ("a\n0 1 5 1,2,1_2\n0 0,0,1\n1\n\n", "line 1: ways of", "a"),
    ("a\n0 1 5 1,2,3,4\n1\n\n", "line 2: the weight '1,2,3,4'", "a"),
    ("a\n0 1 1 5 1,2\n1\n\n", "line 2: a line of a lattice that is not compact.*read_lattices", "a"),
    ("a\n0 1 1 5\n1\n\n", "line 2: a line of a lattice that is not compact.*read_lattices", "a"),
    ("a\n0 1 5 1,2\n1\n\n", "line 2: a weight of a lattice that is not compact.*read_lattices", "a"),
    ("a\n0 1 5 1,2,3 4 5 6\n1\n\n", "line 2: 7 fields", "a"),
]


@pytest.mark.parametrize(("text", "says", "utterance"), RAW)
def test_bad_archives_of_lattices(tmp_path: Path, text: str, says: str, utterance: str) -> None:
    (tmp_path / "lat").write_text(text)
    with pytest.raises(DataError, match=says) as error:
        dict(read_lattices(tmp_path / "lat"))
    assert error.value.file == str(tmp_path / "lat") and error.value.utterance == utterance and error.value.remedy


@pytest.mark.parametrize(("text", "says", "utterance"), COMPACT)
def test_bad_archives_of_compact_lattices(tmp_path: Path, text: str, says: str, utterance: str) -> None:
    (tmp_path / "lat").write_text(text)
    with pytest.raises(DataError, match=says) as error:
        dict(read_word_lattices(tmp_path / "lat"))
    assert error.value.file == str(tmp_path / "lat") and error.value.utterance == utterance and error.value.remedy


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"a \0B\xd6\xfd\xb2~\x06\0\0\0vector\x08\0\0\0lattice4")
    with pytest.raises(DataError, match=r"a binary archive.*lattice-copy"):
        dict(read_lattices(tmp_path / "binary"))
    with pytest.raises(DataError, match="no such archive"):
        dict(read_lattices(tmp_path / "absent"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a\n0 1 1 1\n1\n\n" * 1000)[:40])
    with pytest.raises(DataError, match="broken gzip"):
        dict(read_lattices(tmp_path / "cut.gz"))
    (tmp_path / "empty").write_text("")
    assert dict(read_lattices(tmp_path / "empty")) == {}
    with pytest.raises(ConfigError, match="cannot name an utterance"):
        write_lattices(tmp_path / "out", {"a b": next(iter(lattices(1).values()))})


def test_one_bad_lattice_is_noted_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "lat").write_text("a\n0 1 1 1\n1\n\nb\n0 1 1 hello\n1\n\nc\n\nd\n0 1 1 2\n1\n\n")
    problems = Problems(tmp_path / "problems.jsonl", "decode")
    assert list(dict(read_lattices(tmp_path / "lat", problems=problems))) == ["a", "d"]
    assert [(row["utterance"], row["reason"][:7]) for row in problems.rows] == [("b", "line 6:"), ("c", "line 9:")]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_kaldifst_reads_ours_and_we_read_its(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("openfst")
    for lattice in lattices(seed).values():
        write_openfst(folder / "ours", lattice)
        theirs = kaldifst.Lattice.read(str(folder / "ours"))
        assert theirs.num_states == len(lattice.final) and theirs.start == 0
        text = re.sub(r"[ \t]+", " ", theirs.to_str(show_weight_one=True))
        links = [line.split() for line in text.splitlines() if len(line.split()) == 5]
        assert [tuple(map(int, fields[:4])) for fields in links] == list(zip(*(
            column[np.argsort(lattice.source, kind="stable")].tolist()
            for column in (lattice.source, lattice.target, lattice.ilabel, lattice.olabel)
        ), strict=True))  # fmt: skip
        assert theirs.write(str(folder / "theirs"))
        assert paths_of(read_openfst(folder / "theirs")) == paths_of(lattice)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 10, 40]))
def test_n_best_lists_are_kaldis(tmp_path_factory: pytest.TempPathFactory, seed: int, number: int) -> None:
    """kaldifst finds the shortest paths; of each word sequence the first of them counts."""
    lattice = random_lattice(np.random.default_rng(seed), frames=4)
    if not every_path(lattice, 1.0, 0.0):
        return
    words = lattice.determinised(lattice_beam=1000.0)
    fst = kaldifst.Lattice()
    for _ in words.frame:
        fst.add_state()
    fst.start = 0
    for arc in range(len(words.source)):
        label = int(words.word[arc])
        weight = kaldifst.LatticeWeight(float(words.graph[arc]), float(words.acoustic[arc]))
        fst.add_arc(int(words.source[arc]), kaldifst.LatticeArc(label, label, weight, int(words.target[arc])))
    fst.set_final(len(words.frame) - 1, kaldifst.LatticeWeight(0.0, 0.0))
    expected = []
    for path in kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(fst, n=number)):
        _, _, labels, weight = kaldifst.get_linear_symbol_sequence(path)
        expected.append((tuple(labels), weight.value1 + weight.value2))
    expected.sort(key=lambda entry: entry[1])
    entries = words.nbest(number)
    assert [entry.cost for entry in entries] == pytest.approx([cost for _, cost in expected], abs=1e-3)
    all_costs = {key: path.cost for key, path in best_of_each(every_path(lattice, 1.0, 0.0)).items()}
    for key, cost in expected:
        assert all_costs[key] == pytest.approx(cost, abs=1e-3)
    # and over links with pdfs, where a word sequence has many paths
    path = tmp_path_factory.mktemp("openfst") / "lattice"
    write_openfst(path, lattice)
    theirs = kaldifst.Lattice.read(str(path))
    best = kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(theirs))
    assert best[3].value1 + best[3].value2 == pytest.approx(entries[0].cost, abs=1e-3)


@pytest.mark.k2
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0]))
def test_posteriors_are_k2s(seed: int, scale: float) -> None:
    import k2
    import torch

    raw = random_lattice(np.random.default_rng(seed))
    if not every_path(raw, 1.0, 0.0):
        return
    words = raw.determinised(scale, lattice_beam=1000.0)
    for lattice in (words, dict(read_back(raw))["a"]):
        labels = lattice.word if isinstance(lattice, WordLattice) else lattice.ilabel
        ends = np.flatnonzero(np.isfinite(lattice.final))
        last = len(lattice.final)
        rows = [
            (source, target, int(label) + 1, -cost) for source, target, label, cost in
            zip(lattice.source.tolist(), lattice.target.tolist(), labels, lattice.costs(scale), strict=True)
        ]  # fmt: skip
        rows += [(int(node), last, -1, -float(lattice.final[node])) for node in ends]
        order = sorted(range(len(rows)), key=lambda k: rows[k][0])
        text = "\n".join(f"{s} {t} {label} {score!r}" for s, t, label, score in (rows[k] for k in order))
        fsa = k2.Fsa.from_str(f"{text}\n{last}\n")
        posteriors = k2.create_fsa_vec([fsa]).get_arc_post(use_double_scores=True, log_semiring=True).exp()
        found = np.empty(len(rows))
        found[order] = posteriors.detach().to(torch.float64).numpy()
        ours, total = lattice.posteriors(scale)
        np.testing.assert_allclose(ours, found[: len(ours)], atol=1e-4)
        assert k2.create_fsa_vec([fsa]).get_tot_scores(True, True).item() == pytest.approx(total, abs=1e-3)


def read_back(lattice: Lattice) -> List[Tuple[str, Lattice]]:
    """Through bytes: what lies on no path is left out, as k2 wants it."""
    return [("a", from_openfst(to_openfst(lattice)))]


@pytest.mark.parametrize(
    ("change", "says"),
    [(lambda data: b"", "not an FST"), (lambda data: b"hello world", "not an FST"), (lambda data: data[:30], "cut off"),
     (lambda data: data[:-5], "cut off"), (lambda data: data.replace(b"lattice4", b"standard"), "the kind vector stan"),
     (lambda data: data[:-4] + b"\x77\0\0\0", "an arc leads out of the 2 states")],
)  # fmt: skip
def test_bad_files_of_openfst(tmp_path: Path, change: object, says: str) -> None:
    one = np.array([0], np.int32)
    lattice = Lattice(
        np.array([0, 1], np.int32), one, one + 1, one + 5, one + 7, np.ones(1, np.float32), np.ones(1, np.float32),
        np.array([np.inf, 0.0], np.float32), True,
    )  # fmt: skip
    data = to_openfst(lattice)
    assert paths_of(from_openfst(data)) == paths_of(lattice)
    swapped = Lattice(  # the end first, so that an arc stands last in the file
        np.array([0, 0], np.int32), one + 1, one, one + 5, one + 7, np.ones(1, np.float32), np.ones(1, np.float32),
        np.array([0.0, np.inf], np.float32), True,
    )  # fmt: skip
    path = tmp_path / "file"
    path.write_bytes(change(to_openfst(swapped)))  # type: ignore[operator]
    with pytest.raises(DataError, match=says) as error:
        read_openfst(path)
    assert error.value.file == str(path) and error.value.remedy


def test_an_expanded_lattice_has_the_same_paths() -> None:
    for lattice in lattices(7).values():
        words = eighths(lattice).determinised(lattice_beam=1000.0)
        assert paths_of(expand(words)) == words_of(words)
        again = expand(words).determinised(lattice_beam=1000.0)
        assert words_of(again) == words_of(words)
