"""Speech that comes in pieces, and recordings of any length: the same words however it comes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import soundfile
from conftest import PROJECT
from lhotse import CutSet
from small_run import RATE

from hybrid.data.audio import load_samples
from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.result import Result
from hybrid.decode.segments import Endpointing, Rule
from hybrid.errors import ConfigError, DataError

SYSTEMS = ["mono", "ce", "lfmmi"]
# The models are untrained, and hear silence anywhere: an utterance is what was said in a second.
SHORT = Endpointing((Rule(True, 0.0, utterance_length=1.0),))
NONE = Endpointing(())


@pytest.fixture(scope="module")
def samples(small_cuts: CutSet) -> np.ndarray:
    return np.concatenate([load_samples(cut, RATE) for cut in small_cuts])


def pieces(samples: np.ndarray, length: int) -> List[np.ndarray]:
    return [samples[begin : begin + length] for begin in range(0, len(samples), length)]


def finals(asr: Recogniser, samples: np.ndarray, length: int, rate: int = RATE, **options: Any) -> List[Result]:
    return [result for result in asr.stream(pieces(samples, length), rate, **options) if result.final]


@pytest.mark.parametrize("system", SYSTEMS)
def test_results_do_not_depend_on_the_pieces(small_run: Path, samples: np.ndarray, system: str) -> None:
    asr = load(small_run, system)
    expected = finals(asr, samples, len(samples), endpointing=SHORT)
    assert sum(len(result.words) for result in expected) > 5 and len(expected) > 2
    for length in (1, 77, 801, 8000):
        part = samples[:4000] if length == 1 else samples
        wanted = finals(asr, part, len(part), endpointing=SHORT) if length == 1 else expected
        assert finals(asr, part, length, endpointing=SHORT) == wanted
    for one, other in zip(expected, expected[1:]):
        assert one.start + one.seconds <= other.start + 1e-6
    starts = [word.start for result in expected for word in result.words if word.start is not None]
    assert starts == sorted(starts)


def test_what_is_agreed_does_not_change(small_run: Path, samples: np.ndarray) -> None:
    asr, agreed, partials = load(small_run, "lfmmi"), [], 0
    for result in asr.stream(pieces(samples, 400), RATE, endpointing=SHORT):
        said = [str(word) for word in result.words]
        assert said[: len(agreed)] == agreed
        row = json.loads(json.dumps(result.to_dict()))
        if result.final:
            assert row["final"] is True and "agreed" not in row
            agreed = []
        else:
            partials += bool(said)
            assert row["final"] is False and row["agreed"] == result.agreed <= len(said)
            agreed = said[: result.agreed]
    assert partials


def test_the_words_of_the_field(small_run: Path, samples: np.ndarray) -> None:
    asr = load(small_run, "ce")
    stream = asr.create_stream(SHORT)
    assert not stream.is_ready() and not stream.is_endpoint() and stream.get_result().text == ""
    got: List[Result] = []
    for piece in pieces(samples, 1600):
        stream.accept_waveform(RATE, piece)
        while stream.is_ready():
            stream.decode()
        assert not stream.is_ready()
        if stream.is_endpoint():
            got.append(stream.get_result())
            assert stream.get_result() is got[-1], "it stays until it is reset"
            stream.reset()
    stream.input_finished()
    assert stream.is_ready()
    stream.decode()
    while stream.is_endpoint():
        got.append(stream.get_result())
        stream.reset()
    assert got == finals(asr, samples, 1600, endpointing=SHORT)
    with pytest.raises(DataError, match="after the end"):
        stream.accept_waveform(RATE, samples)


def test_speech_of_another_rate(small_run: Path, samples: np.ndarray) -> None:
    asr = load(small_run, "lfmmi")
    faster = np.repeat(samples, 2)
    assert finals(asr, faster, 333, 2 * RATE) == finals(asr, faster, len(faster), 2 * RATE)


@pytest.mark.parametrize(
    "rate, samples, kind, message",
    [
        (0, np.zeros(9, np.float32), ConfigError, "sampling rate"),
        (8000.5, np.zeros(9, np.float32), ConfigError, "sampling rate"),
        (RATE, np.zeros(9, np.int16), DataError, "int16"),
        (RATE, np.zeros((2, 9), np.float32), DataError, r"shape \[2, 9\]"),
        (RATE, np.array([0.0, np.nan]), DataError, "NaN"),
        (2 * RATE, np.zeros(9, np.float32), ConfigError, "8000 Hz and samples of 16000 Hz"),
    ],
)
def test_samples_that_cannot_be(small_run: Path, rate: Any, samples: np.ndarray, kind: Any, message: str) -> None:
    stream = load(small_run, "ce").create_stream()
    stream.accept_waveform(RATE, np.zeros(100, np.float32))
    with pytest.raises(kind, match=message):
        stream.accept_waveform(rate, samples)


def warnings(caplog: pytest.LogCaptureFixture) -> List[logging.LogRecord]:
    """What is no news of compiling, which any test may be the first to need."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]



@pytest.mark.parametrize("system", SYSTEMS)
def test_streams_that_do_not_know_their_mean_are_told_once(
    small_run: Path, small_cuts: CutSet, system: str, caplog: pytest.LogCaptureFixture
) -> None:
    asr = load(small_run, system)
    assert asr.takes_mean
    list(asr.transcribe(small_cuts[0]))  # knows its mean
    asr.create_stream(online=asr.online(asr.feature_stats(small_cuts[0])))
    assert not warnings(caplog)
    for other in (asr, asr, asr.context(["AB"])):
        other.create_stream()
        (record,) = warnings(caplog)
    said = record.getMessage()
    assert record.levelname == "WARNING" and f"streams of {system}: " in said and "feature_stats" in said
    assert ("--config recipes/models/streaming.toml" in said) == (system != "mono")
    assert (PROJECT / "recipes" / "models" / "streaming.toml").is_file()
    load(small_run, system).create_stream()
    assert len(warnings(caplog)) == 2


def test_streams_of_a_model_for_streams_are_not_warned_of(
    small_run: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    path = tmp_path / "run" / "ce" / "model" / "features.json"
    features = json.loads(path.read_text())
    for cmvn in ("online", "none"):
        path.write_text(json.dumps({**features, "cmvn": cmvn}))
        asr = load(tmp_path / "run", "ce")
        assert not asr.takes_mean and asr.create_stream() and not warnings(caplog)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_recording_has_the_words_of_the_whole(small_run: Path, small_cuts: CutSet, system: str) -> None:
    asr = load(small_run, system)
    for cut in small_cuts:
        (result,) = asr.transcribe(cut, endpointing=NONE)
        whole = asr(cut)
        assert result.words == whole.words and result.complete == whole.complete
        for one, other in zip(result.nbest(3), whole.nbest(3), strict=True):
            assert one.text == other.text and one.cost == pytest.approx(other.cost, abs=1e-3)


def test_a_cut_for_length_changes_no_word(small_run: Path, samples: np.ndarray, tmp_path: Path) -> None:
    """Of Gaussians, which hear a frame alike wherever it stands."""
    asr, path = load(small_run, "mono"), tmp_path / "long.flac"
    soundfile.write(path, samples / np.abs(samples).max(), RATE, subtype="PCM_24")
    whole = asr(path)
    parts = list(asr.transcribe(path, endpointing=Endpointing((), longest=1.0, pause=0.03)))
    assert len(parts) > 3 and len(whole.words) > 5
    assert [str(word) for part in parts for word in part.words] == [str(word) for word in whole.words]
    assert sum(part.seconds for part in parts) == pytest.approx(whole.seconds, abs=0.05)
    for one, other in zip(parts, parts[1:]):
        assert one.start + one.seconds == pytest.approx(other.start)
    again = list(asr.transcribe(path, endpointing=Endpointing((), longest=1.0, pause=0.03)))
    assert again == parts
