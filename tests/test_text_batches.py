"""Tokens and batches of text: what is read, what is to be predicted, and that both follow from (seed, epoch)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.text_batches import MaskedTokens, NextTokens, Sentences
from hybrid.data.tokens import END, MASK, SPECIALS, START, UNKNOWN, Tokens
from hybrid.data.utterances import IGNORE
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import write_json

TEXT = ["the cat sat on the mat", "the dog sat", "a cat and a dog ran after the cat"]
SENTENCES = [line.split() for line in TEXT]


def tokens() -> Tokens:
    return Tokens.of_words(SENTENCES)


# ------------------------------------------------------------------ tokens


def test_words_by_frequency_then_by_name():
    assert tokens().names == [*SPECIALS, "the", "cat", "a", "dog", "sat", "after", "and", "mat", "on", "ran"]
    assert Tokens.of_words(SENTENCES, least=2).names[4:] == ["the", "cat", "a", "dog", "sat"]
    assert Tokens.of_words(SENTENCES, most=2).names[4:] == ["the", "cat"]


def test_a_sentence_has_marks_around_it_and_unknown_words_are_one():
    row = tokens().encode("the bird sat".split())
    assert row.dtype == np.int32
    assert row.tolist() == [START, 4, UNKNOWN, 8, END]
    assert tokens().encode([]).tolist() == [START, END]


def test_an_unknown_word_has_a_share_of_what_all_have(tmp_path):
    found = Tokens.of_words(SENTENCES, least=2, vocabulary=["the", "bird", "cow"])
    left = {word for sentence in SENTENCES for word in sentence} - set(found.names) | {"bird", "cow"}
    assert found.unseen == len(left) == 7
    row = found.encode("the bird sat".split())
    assert found.cost(row).tolist() == [0, 0, math.log(7), 0, 0]
    found.save(tmp_path)
    assert Tokens.load(tmp_path).unseen == 7
    assert Tokens.of_words(SENTENCES).unseen == Tokens.of_pieces(SENTENCES * 5, 30).unseen == 1
    (tmp_path / "tokens.json").write_text('{"names": ["<s>", "</s>", "<unk>", "<mask>", "a"], "unseen": 0}')
    with pytest.raises(ModelError, match="<unk> for 0 words"):
        Tokens.load(tmp_path)


def test_words_named_as_specials_are_no_tokens_of_their_own():
    assert Tokens.of_words([["<mask>", "a", "</s>"]]).names == [*SPECIALS, "a"]


def test_pieces_spell_words_that_were_never_seen():
    found = Tokens.of_pieces(SENTENCES * 5, 30)
    row = found.encode(["that", "sad"])
    assert UNKNOWN not in row and "".join(found.names[i] for i in row[1:-1]) == "\u2581that\u2581sad"
    assert found.encode(["xyz"]).tolist() == [START, UNKNOWN, END]
    assert found.encode([""]).tolist() == [START, UNKNOWN, END]


@pytest.mark.parametrize("make", [tokens, lambda: Tokens.of_pieces(SENTENCES * 5, 30)])
def test_saved_and_loaded(tmp_path, make):
    before = make()
    before.save(tmp_path)
    after = Tokens.load(tmp_path)
    assert after.names == before.names
    for words in [*SENTENCES, ["bird"]]:
        assert after.encode(words).tolist() == before.encode(words).tolist()


@pytest.mark.parametrize(
    "content, what",
    [
        ([], "not the tokens"),
        ({"names": "abc"}, "not the tokens"),
        ({"names": ["a", "b"]}, "begin with"),
        ({"names": [*SPECIALS, "a", "a"]}, "stands twice"),
        ({"names": [*SPECIALS, 3]}, "begin with"),
    ],
)
def test_files_that_are_no_tokens(tmp_path: Path, content, what):
    write_json(tmp_path / "tokens.json", content)
    with pytest.raises(ModelError, match=what) as caught:
        Tokens.load(tmp_path)
    assert str(caught.value.file) == str(tmp_path / "tokens.json")


def test_pieces_of_another_model(tmp_path):
    Tokens.of_pieces(SENTENCES * 5, 30).save(tmp_path)
    write_json(tmp_path / "tokens.json", {"names": [*SPECIALS, "a"], "pieces": True})
    with pytest.raises(ModelError, match="not the pieces"):
        Tokens.load(tmp_path)


@pytest.mark.parametrize("options", [{"least": 0}, {"most": -1}])
def test_settings_out_of_range(options):
    with pytest.raises(ConfigError):
        Tokens.of_words(SENTENCES, **options)


def test_no_word_is_left():
    with pytest.raises(DataError, match="no word occurs 9 times"):
        Tokens.of_words(SENTENCES, least=9)


# ------------------------------------------------------------------ batches

words = st.lists(st.sampled_from([word for row in SENTENCES for word in row]), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=20), st.integers(5, 60), st.integers(0, 5))
def test_next_tokens_are_the_sentences(sentences, max_tokens, seed):
    batches = NextTokens(Sentences(sentences, tokens()), max_tokens, seed)
    found = {}
    for batch in batches.epoch(1):
        assert batch.features.numel() <= max_tokens or len(batch.ids) == 1
        assert batch.lengths.tolist() == sorted(batch.lengths.tolist(), reverse=True)
        assert batch.pdfs is not None
        for name, read, wanted, length in zip(batch.ids, batch.features, batch.pdfs, batch.lengths, strict=True):
            assert read[0] == START and wanted[length - 1] == END
            assert read[1:length].tolist() == wanted[: length - 1].tolist()
            assert (wanted[length:] == IGNORE).all()
            found[name] = wanted[: length - 1].tolist()
    encode = tokens().encode
    assert found == {f"sentence-{n}": encode(words)[1:-1].tolist() for n, words in enumerate(sentences, 1)}


def masked(sentences, seed=3, **options) -> MaskedTokens:
    return MaskedTokens(Sentences(sentences, tokens()), 4000, seed, num_tokens=len(tokens()), **options)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=20), st.floats(0.01, 0.99), st.integers(0, 3))
def test_what_is_masked_is_to_be_predicted_and_the_rest_is_read(sentences, share, epoch):
    places = 0
    for batch in masked(sentences, masked=share).epoch(epoch):
        for name, read, wanted, length in zip(batch.ids, batch.features, batch.pdfs, batch.lengths, strict=True):
            row = tokens().encode(sentences[int(name.split("-")[1]) - 1])
            assert length == len(row)
            at = (wanted != IGNORE).numpy()
            assert at.sum() == max(1, round(share * (len(row) - 2)))
            assert not at[0] and not at[length - 1 :].any()
            assert (wanted.numpy()[at] == row[at[:length]]).all()
            assert (read.numpy()[:length][~at[:length]] == row[~at[:length]]).all()
            assert not np.isin(read.numpy()[:length], [START, END, UNKNOWN])[1:-1].any()
            places += at.sum()
    assert places >= len(sentences)


def test_shares_of_masks_of_others_and_of_the_same():
    sentence = SENTENCES[2] * 40
    counts = np.zeros(3)
    for epoch in range(20):
        (batch,) = masked([sentence], masked=0.9).epoch(epoch)
        at = batch.pdfs != IGNORE
        read, wanted = batch.features[at], batch.pdfs[at]
        counts += [int((read == MASK).sum()), int((read == wanted).sum()), 0]
        counts[2] += len(read)
    # A drawn token is the right one by chance in one of ten.
    assert counts[0] / counts[2] == pytest.approx(0.8, abs=0.02)
    assert counts[1] / counts[2] == pytest.approx(0.11, abs=0.02)


def test_an_epoch_is_the_same_again_and_another_is_another():
    def read(epoch, seed=3):
        return [(batch.ids, batch.features.tolist()) for batch in masked(SENTENCES, seed).epoch(epoch)]

    assert read(2) == read(2)
    assert read(2) != read(3) and read(2) != read(2, seed=4)


def test_empty_sentences_are_left_out_and_memory_is_four_bytes_a_token():
    source = Sentences([[], *SENTENCES, []], tokens())
    assert len(source) == 3 and source.lengths.tolist() == [8, 5, 11]
    assert source.row(1).tolist() == tokens().encode(SENTENCES[1]).tolist() and source.row(1).dtype == np.int32
    assert source[-1].features.shape == (11, 1)


@pytest.mark.parametrize(
    "sentences, options, what",
    [([], {}, "no sentence"), ([[]], {}, "no sentence"), ([["a"], ["the"] * 9], {"longest": 10}, "sentence 2 has 11")],
)
def test_text_that_cannot_be_used(sentences, options, what):
    with pytest.raises(DataError, match=what):
        Sentences(sentences, tokens(), **options)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_out_of_range(share):
    with pytest.raises(ConfigError, match="masked"):
        masked(SENTENCES, masked=share)
