"""A cut is read from its recording alone: what does not lie in it is a problem by name, never made-up audio."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from lhotse import AudioSource, MonoCut, MultiCut, Recording
from lhotse.cut import PaddingCut

from hybrid.data.audio import load_samples
from hybrid.data.cut_bounds import SLACK, within_recording
from hybrid.data.features import FeatureExtractor, LogMel
from hybrid.errors import DataError

RATE = 16000


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """One second of noise, in two channels."""
    path = tmp_path_factory.mktemp("cuts") / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 2)), RATE, subtype="FLOAT")
    return Recording("a", [AudioSource("file", [0, 1], str(path))], RATE, RATE, 1.0, channel_ids=[0, 1])


def cut_of(recording, start=0.5, end=1.0, channel=0):
    return MonoCut("c", start, end - start, channel, recording=recording)


def samples_of(recording):
    return soundfile.read(recording.sources[0].source, dtype="float32")[0]


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("beyond", [0.0, 1e-9, 0.005, 0.0999, 0.1])
def test_a_little_after_its_recording_it_ends_with_it(recording, beyond, channel):
    wanted = samples_of(recording)[8000:, channel]
    assert np.array_equal(load_samples(cut_of(recording, end=1 + beyond, channel=channel)), wanted)


@pytest.mark.parametrize("beyond", [0.101, 0.3, 0.5, 0.51, 100.0])
def test_more_than_that_is_a_problem_by_name(recording, beyond):
    with pytest.raises(DataError, match="the cut ends at .* s, its recording is 1 s long") as caught:
        load_samples(cut_of(recording, end=1 + beyond))
    assert caught.value.utterance == "c" and caught.value.file.endswith("a.wav") and caught.value.remedy


@pytest.mark.parametrize(
    "values, said",
    [
        ({"start": 1.0, "duration": 0.05}, "the cut starts at 1 s, its recording is 1 s long"),
        ({"start": 2.0}, "the cut starts at 2 s"),
        ({"start": -0.1}, "starts at -0.1 s"),
        ({"duration": 0.0}, "is 0 s long"),
        ({"duration": float("nan")}, "is nan s long"),
        ({"start": float("inf")}, "starts at inf s"),
        ({"channel": 2}, "no channel 2: the recording has 0, 1"),
        ({"recording": None}, "the cut has no recording"),
    ],
)
def test_what_does_not_lie_in_a_recording(recording, values, said):
    with pytest.raises(DataError, match=said) as caught:
        load_samples(replace(cut_of(recording), **values))
    assert caught.value.utterance == "c" and caught.value.remedy


def test_channels_of_a_cut_of_several(recording):
    cut = MultiCut("c", 0.0, 1.0, [0, 3], recording=recording)
    with pytest.raises(DataError, match="no channel 3: the recording has 0, 1"):
        load_samples(cut)
    assert len(load_samples(replace(cut, channel=[0, 1]))) == RATE


def test_tracks_of_a_mixed_cut(recording):
    whole = cut_of(recording, 0.0)
    long = replace(whole, id="long", duration=1.05)
    mixed = long.mix(whole.with_id("b"), snr=10).with_id("mixed")
    assert len(load_samples(mixed)) == RATE
    padded = whole.pad(duration=1.5)
    assert within_recording(padded) is padded
    assert len(load_samples(padded)) == 24000 and not load_samples(padded)[RATE:].any()
    with pytest.raises(DataError, match="ends at 1.5 s") as caught:
        load_samples(replace(whole, id="far", duration=1.5).mix(whole, snr=10).with_id("mixed"))
    assert caught.value.utterance == "mixed"
    with pytest.raises(DataError, match="no recording"):
        load_samples(PaddingCut("silence", 1.0, RATE, -100.0, num_samples=RATE))


def test_a_cut_of_a_changed_recording_is_measured_against_that(recording):
    faster = cut_of(recording, 0.0).perturb_speed(1.25)
    assert within_recording(faster) is faster and len(load_samples(faster)) == 12800
    with pytest.raises(DataError, match="its recording is 0.8 s long"):
        load_samples(replace(faster, duration=1.0))


@given(start=st.integers(0, RATE - 1), beyond=st.floats(-0.5, 0.5))
def test_what_is_returned_never_ends_after_the_recording(start, beyond):
    recording = Recording("a", [AudioSource("file", [0], "a.wav")], RATE, RATE, 1.0, channel_ids=[0])
    cut = cut_of(recording, start / RATE, 1 + beyond)
    if cut.duration <= 0:
        return
    half = 0.5 / RATE
    if beyond > SLACK + 1e-6:
        with pytest.raises(DataError, match="the cut ends at"):
            within_recording(cut)
    elif abs(beyond - SLACK) > 1e-6:
        found = within_recording(cut)
        assert found.start == cut.start and found.end <= 1.0 + half
        assert found is cut or found.end == pytest.approx(1.0, abs=1e-9)


def test_features_are_those_of_the_recording_alone(recording):
    front = FeatureExtractor(LogMel())
    found, wanted = (front.compute(load_samples(cut_of(recording, end=end)), RATE) for end in (1.08, 1.0))
    assert np.array_equal(found, wanted)
