"""The demo's grammar, voices, lexicon, corpus and media noise."""

from __future__ import annotations

import builtins
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from hybrid.data.noise import NoiseLibrary, rms
from hybrid.data.rooms import RATE, stable_rng
from hybrid.errors import ConfigError, DataError, MissingDependency
from hybrid.recipes.demo import synth
from hybrid.recipes.demo.corpus import build_corpus
from hybrid.recipes.demo.grammar import RULES, sentence, vocabulary
from hybrid.recipes.demo.media import build_noises, household, music, other_rooms
from hybrid.recipes.demo.pronounce import ACCENTS, SILENCE, align, build_lexicon, to_phones
from hybrid.recipes.demo.synth import Voice, speak
from hybrid.recipes.demo.voices import VARIANTS, speakers

MINUTES = {"train": 0.3, "dev": 0.1, "test": 0.15}
VOICE = Voice("x", "en-us", "m3")


@pytest.fixture(scope="module")
def espeak():
    pytest.importorskip("espeakng_loader", reason="needs espeakng-loader, the extra of the demo")


@pytest.fixture(scope="module")
def corpus(espeak, tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("demo"), 1, MINUTES)


def test_grammar_says_several_hundred_words():
    rng = np.random.default_rng(0)
    words = vocabulary()
    assert 500 <= len(words) <= 700
    assert all(word.replace("'", "").isalpha() and word.islower() for word in words)
    sentences = [sentence(rng) for _ in range(3000)]
    assert {len(text.split()) for text in sentences} <= set(range(1, 10))
    said = Counter(word for text in sentences for word in text.split())
    assert set(said) <= words and len(said) > 0.95 * len(words)
    assert len(set(sentences)) > 1200
    assert all(f"<{rule}>" in "".join(RULES.values()) for rule in RULES if rule != "command")


def test_no_voice_is_in_two_sets():
    variants = [variant for members in VARIANTS.values() for variant in members]
    assert len(variants) == len(set(variants))
    voices = speakers("train", 1, 96)
    assert len({voice.name for voice in voices}) == 96
    assert {voice.variant for voice in voices} == set(VARIANTS["train"])
    assert speakers("test", 1, 12) == speakers("test", 1, 12) != speakers("test", 2, 12)


def test_every_voice_is_installed(espeak):
    for members in VARIANTS.values():
        for variant in members:
            assert rms(speak(Voice("x", "en-us", variant), "hello").audio) > 1e-3
    with pytest.raises(DataError, match="no voice"):
        speak(Voice("x", "martian", "m3"), "hello")


def test_the_same_text_sounds_the_same_whatever_came_before(espeak):
    voices = [VOICE, *(Voice("x", "en-us", variant) for variant in ("f2", "klatt5", "iven"))]  # f2 is breathy
    first = [speak(voice, "set a timer").audio for voice in voices]
    for voice, audio in reversed(list(zip(voices, first, strict=True))):
        speak(Voice("y", "en", "f4"), "what is the weather like in london")
        np.testing.assert_array_equal(audio, speak(voice, "set a timer").audio)


@pytest.mark.parametrize("accent", ACCENTS)
def test_times_of_words_and_phones(espeak, accent):
    spoken = speak(Voice("x", accent, "m3"), "turn off the lights in the dining room")
    phones, words = align(spoken, accent)
    assert [word for word, *_ in words] == "turn off the lights in the dining room".split()
    assert words[4][3] == ("IH", "N") and words[5][3][0] == "DH"  # "in the" is one word to the synthesiser
    duration = len(spoken.audio) / RATE
    for timed in (phones, words):
        ends = [start + length for _, start, length, *_ in timed]
        assert all(length > 0 for symbol, _, length, *_ in timed if symbol != SILENCE)
        assert all(a <= b[1] + 1e-6 for a, b in zip(ends, timed[1:], strict=False))
        assert ends[-1] <= duration + 1e-3
    # Fricatives have no pitch and little below 1 kHz; vowels have much: the times are true ones.
    low = {"S": [], "vowel": []}
    for symbol, start, length in (phone for phone in phones if phone[0] != SILENCE):
        part = spoken.audio[round(start * RATE) : round((start + length) * RATE)]
        spectrum = np.abs(np.fft.rfft(part)) ** 2
        share = spectrum[: len(part) * 1000 // RATE].sum() / spectrum.sum()
        if symbol == "S" or symbol[0] in "AEIOU" and len(part) > 800:
            low["S" if symbol == "S" else "vowel"].append(share)
    assert max(low["S"]) < 0.3 < np.median(low["vowel"])


def test_unknown_phonemes_are_an_error():
    with pytest.raises(DataError, match="no phone"):
        to_phones("!!", "en")
    assert to_phones("||", "en") == ()


def test_every_word_has_a_pronunciation(espeak, corpus, tmp_path):
    path = build_lexicon(tmp_path / "lexicon.txt", vocabulary(), corpus["train"])
    entries = [line.split() for line in path.read_text().splitlines()]
    assert {word for word, *_ in entries} == vocabulary()
    assert all(phones for _, *phones in entries)
    assert len({tuple(entry) for entry in entries}) == len(entries)
    phones = {phone for _, *phones in entries for phone in phones}
    assert 35 <= len(phones) <= 39 and SILENCE not in phones
    lexicon = [tuple(entry) for entry in entries]
    assert ("music", "M", "Y", "UW", "Z", "IH", "K") in lexicon
    assert ("the", "DH", "AH") in lexicon
    heard = {tuple(p) for part in corpus.values() for cut in part for p in cut.custom["pronunciations"]}
    assert len(heard & set(lexicon)) > 0.9 * len(heard)
    with pytest.raises(DataError, match="no pronunciation"):
        build_lexicon(tmp_path / "x", ["'"])


def test_corpus(corpus, espeak):
    speakers_of = {name: {cut.supervisions[0].speaker for cut in cuts} for name, cuts in corpus.items()}
    assert not speakers_of["train"] & speakers_of["test"] and not speakers_of["train"] & speakers_of["dev"]
    words = vocabulary()
    for name, cuts in corpus.items():
        total = sum(cut.duration for cut in cuts) / 60
        assert MINUTES[name] <= total <= 2 * MINUTES[name]
        for cut in cuts:
            (supervision,) = cut.supervisions
            assert cut.id == supervision.id == cut.recording.id
            assert set(supervision.text.split()) <= words
            assert [item.symbol for item in supervision.alignment["word"]] == supervision.text.split()
            phones = supervision.alignment["phone"]
            assert phones and all(0 <= item.start and item.end <= cut.duration for item in phones)
            audio = cut.load_audio()[0]
            assert len(audio) == cut.num_samples and 0.01 < np.abs(audio).max() < 1
            first, last = supervision.alignment["phone"][0], supervision.alignment["phone"][-1]
            inside = audio[round(first.start * RATE) : round(last.end * RATE)]
            assert rms(inside) > 5 * rms(audio[: round((first.start - 0.05) * RATE)])  # a pause before, of hiss
            assert rms(audio[:800]) > 0


def test_processes_and_resuming_do_not_matter(corpus, tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
        again = build_corpus(tmp_path, 1, MINUTES, executor=executor)
    for name, cuts in corpus.items():
        assert list(cuts.ids) == list(again[name].ids)
    files = sorted(tmp_path.rglob("*.flac"))
    data = {file: file.read_bytes() for file in files}
    files[0].unlink()
    files[3].write_bytes(data[files[3]][:1000])
    files[5].write_bytes(data[files[5]][:-10])
    build_corpus(tmp_path, 1, MINUTES)
    assert {file: file.read_bytes() for file in sorted(tmp_path.rglob("*.flac"))} == data
    for name, cuts in corpus.items():
        for one, other in zip(cuts, again[name], strict=True):
            np.testing.assert_array_equal(one.load_audio(), other.load_audio())


@pytest.mark.parametrize("minutes", [{"train": 0}, {"test": -1}])
def test_impossible_sizes(tmp_path, minutes):
    with pytest.raises(ConfigError):
        build_corpus(tmp_path, 1, minutes)


def test_without_the_synthesiser(monkeypatch, tmp_path):
    synth.forget()
    real = builtins.__import__

    def missing(name, *rest):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    for build in (lambda: build_corpus(tmp_path, 1), lambda: build_noises(tmp_path, 1)):
        with pytest.raises(MissingDependency, match="espeakng-loader") as error:
            build()
        assert "pip install" in str(error.value)


def test_media(espeak, tmp_path):
    pieces = {
        part: {"music": (1, 2.0), "babble": (1, 2.0), "dialogue": (1, 2.0), "household": (1, 1.0)}
        for part in ("train", "test")
    }
    folders = build_noises(tmp_path, 1, pieces=pieces)
    samples = {}
    for part, folder in folders.items():
        library = NoiseLibrary.from_folder(folder)
        assert sorted(library.kinds) == ["babble", "dialogue", "household", "music"]
        for kind, (noise,) in library.kinds.items():
            samples[part, kind] = noise.read()
            assert 0.005 < rms(samples[part, kind]) < 0.5
            assert len(samples[part, kind]) == (RATE if kind == "household" else 2 * RATE)
    for kind in ("music", "babble", "dialogue", "household"):
        assert not np.array_equal(samples["train", kind], samples["test", kind])
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")}
    build_noises(tmp_path, 1, pieces=pieces)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.flac")} == stamps


@pytest.mark.parametrize("index", range(8))
def test_household_sounds(index):
    audio = household(stable_rng("house", index), RATE, index)
    assert audio.shape == (RATE,) and np.isfinite(audio).all() and rms(audio) > 1e-3


def test_music_has_notes():
    audio = music(stable_rng("tune"), 2 * RATE)
    spectrum = np.sort(np.abs(np.fft.rfft(audio)) ** 2)[::-1]
    assert spectrum[:200].sum() > 0.7 * spectrum.sum()  # most of the energy in few lines


def test_other_rooms_are_other_rooms():
    rooms = other_rooms(1)
    place = rooms.open(rooms.choose(stable_rng(1))).place(stable_rng(2), 1)
    assert place.room.startswith("other-") and place.rt60 >= 0.4
