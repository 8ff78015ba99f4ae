"""Scores of our n-gram models by KenLM, a second implementation, from the ARPA files that `hybrid lm` writes.

Three things are KenLM's own. It reads orders of 2 and more: a file of 1-grams gets an empty section of 2-grams. A word
that a model without an unknown word lacks has the probability 0 with us, and 10^-100 with KenLM, and backing off is
paid besides. And where a model lists a b c, but not b c, which pruning does, KenLM adds b c with the probability that
it has by backing off, so it finds c behind b as a 2-gram, and we as a 1-gram: the probability is the same.
"""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_tools import TEXTS, arrays

from hybrid.lm import arpa
from hybrid.lm.__main__ import main
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.load import read_any
from hybrid.lm.model import LN10
from hybrid.lm.perplexity import number_text, perplexity, score

kenlm = pytest.importorskip("kenlm", reason="needs KenLM (pip install ufal-kenlm)")

TOKENS = st.sampled_from([*"abcd", "zz", "<unk>"])
MISSING = -100.0  # KenLM's logarithm of a word that the model lacks
TOLERANCE = 2e-5  # of sums of some float32


class Scores(NamedTuple):
    """Of each word and sentence end: logprob, log10 p; lengths, of the n-gram that it was found at; unknown: whether
    the model lacks it."""

    logprob: np.ndarray
    lengths: np.ndarray
    unknown: np.ndarray


def ours(model: NgramArrays, sentences: List[List[str]]) -> Scores:
    scores, orders = score(model, number_text(model, sentences))
    known = {*model.words} - {model.unknown}
    unknown = [word not in known for sentence in sentences for word in [*sentence, "</s>"]]
    return Scores(scores, orders, np.array(unknown))


def theirs(path: Path, sentences: List[List[str]]) -> Scores:
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    model = kenlm.Model(str(path), config)
    rows = [row for sentence in sentences for row in model.full_scores(" ".join(sentence))]
    return Scores(*(np.array(column) for column in zip(*rows)))


def readable(path: Path) -> Path:
    """Return a file with a section of 2-grams, be it empty."""
    text = path.read_text(encoding="utf-8")
    if "\nngram 2=" in text:
        return path
    other = path.with_suffix(".2.arpa")
    text = text.replace("\n\n\\1-grams:", "\nngram 2=0\n\n\\1-grams:").replace("\\end\\", "\\2-grams:\n\n\\end\\")
    other.write_text(text, encoding="utf-8")
    return other


def check(path: Path, sentences: List[List[str]]) -> Scores:
    """Compare every word's score, and the sums of all; return KenLM's."""
    model = read_any(path)
    mine, other = ours(model, sentences), theirs(readable(path), sentences)
    np.testing.assert_array_equal(mine.unknown, other.unknown)
    zero = other.unknown & (model.unknown is None)
    assert (mine.logprob[zero] == -np.inf).all() and (other.logprob[zero] < MISSING / 2).all()
    assert (mine.lengths[zero] == 0).all() and (other.lengths[zero] == 1).all()
    possible = ~zero
    np.testing.assert_allclose(mine.logprob[possible], other.logprob[possible], rtol=0, atol=TOLERANCE)
    added = possible & (mine.lengths != other.lengths)
    assert_added(model, sentences, other.lengths, np.flatnonzero(added))
    result = perplexity(model, sentences)
    assert result.logprob == pytest.approx(LN10 * other.logprob[possible].sum(), rel=1e-6)
    assert result.events == possible.sum()
    assert result.hits == tuple(np.bincount(mine.lengths[possible], minlength=model.order + 1)[1:])
    return other


def assert_added(model: NgramArrays, sentences: List[List[str]], lengths: np.ndarray, places: np.ndarray) -> None:
    """Check that the n-grams that KenLM finds at these places are none of the model's, but end some of the model's."""
    if not len(places):
        return
    listed = {ngram for prob in model.to_model().probs for ngram in prob}
    ends = {ngram[begin:] for ngram in listed for begin in range(1, len(ngram))}
    words = [
        ["<s>", *(word if word in model else model.unknown for word in sentence), "</s>"] for sentence in sentences
    ]
    behind = [sentence[: place + 1] for sentence in words for place in range(1, len(sentence))]
    for place in places:
        ngram = tuple(behind[place][-lengths[place] :])
        assert ngram in ends - listed, ngram


class Texts(NamedTuple):
    """Files: train, two halves of it, and frequent, the words that it has twice; dev: sentences of other lines."""

    train: Path
    halves: Tuple[Path, Path]
    frequent: Path
    dev: List[List[str]]


@pytest.fixture(scope="module")
def texts(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """2,000 lines of commands to train on, 1,000 others to measure."""
    path = shared_data / "text" / "slurp_lm.txt.gz"
    if not path.is_file():
        pytest.skip(f"no text at {path}")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        lines = [line.strip() for line in itertools.islice(stream, 3000)]
    folder = tmp_path_factory.mktemp("texts")

    def put(name: str, rows: List[str]) -> Path:
        (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        return folder / name

    counts: Dict[str, int] = {}
    for word in " ".join(lines[:2000]).split():
        counts[word] = counts.get(word, 0) + 1
    frequent = put("words", [word for word, count in counts.items() if count > 1])
    halves = put("first", lines[:1000]), put("second", lines[1000:2000])
    return Texts(put("train", lines[:2000]), halves, frequent, [line.split() for line in lines[2000:]])


Command = Callable[..., Path]


@pytest.fixture
def lm(tmp_path: Path) -> Command:
    """`hybrid lm`: takes a file's name in the test's folder, the option for it and the command; returns its path."""

    def command(name: str, option: str, *words: Any) -> Path:
        assert main([*map(str, words), option, str(tmp_path / name)]) == 0
        return tmp_path / name

    return command


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_trained_models_score_real_text_alike(texts: Texts, lm: Command, order: int, unknown: bool) -> None:
    more = ["--vocabulary", texts.frequent, "--unknown", "<unk>"] if unknown else []
    expected = check(lm("lm.arpa", "--arpa", "train", "--order", order, "--text", texts.train, *more), texts.dev)
    # The text tries it all: words found at each order, and unknown ones.
    assert {*expected.lengths} == {*range(1, order + 1)} and expected.unknown.any()


@pytest.mark.parametrize("unknown", [False, True])
def test_mixed_and_pruned_models_score_real_text_alike(texts: Texts, lm: Command, unknown: bool) -> None:
    more = ["--vocabulary", texts.frequent, "--unknown", "<unk>"] if unknown else []
    models = [
        lm(f"{order}.arpa", "--arpa", "train", "--order", order, "--text", half, *more)
        for order, half in zip((3, 4), texts.halves)
    ]
    mixed = lm("mixed.arpa", "--arpa", "interpolate", "--models", *models, "--weights", 0.3, 0.7)
    whole = check(mixed, texts.dev)
    most = len(read_any(mixed)) // 3
    pruned = lm("pruned.arpa", "--out", "prune", "--arpa", mixed, "--most", most)
    assert 0.9 * most < len(read_any(pruned)) <= most
    fewer = check(pruned, texts.dev)
    assert {*whole.lengths} == {1, 2, 3, 4} and fewer.lengths.sum() < whole.lengths.sum()


def test_the_comparison_sees_a_wrong_backoff(texts: Texts, lm: Command) -> None:
    path = lm("lm.arpa", "--arpa", "train", "--order", 3, "--text", texts.train)
    model = arpa.read_arrays(path)
    model.backoff[model.number_of["the"]] += 1e-3
    mine, other = ours(model, texts.dev), theirs(path, texts.dev)
    wrong = np.abs(mine.logprob - other.logprob)[~other.unknown] > TOLERANCE
    assert 0 < wrong.sum() < len(wrong) / 4


@settings(max_examples=15, deadline=None)
@given(TEXTS, st.integers(2, 4), st.lists(st.lists(TOKENS, min_size=1, max_size=6), min_size=1))
def test_drawn_models_and_sentences_score_alike(tmp_path_factory, sentences, order, text):
    path = tmp_path_factory.mktemp("kenlm") / "lm.arpa"
    arpa.write(path, arrays(sentences, order, vocabulary="abcd", unknown="<unk>"))
    check(path, text)
