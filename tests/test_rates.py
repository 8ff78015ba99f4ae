"""Sampling rates: a corpus keeps its own through noises, rooms and features, and 16 kHz is as it always was."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, MultiCut, Recording, SupervisionSegment
from scipy import signal

from hybrid.data.augment import NOISY, NoiseCondition, make_noisy, make_rerecorded
from hybrid.data.features import FeatureExtractor, LogMel, Mfcc, available_backends
from hybrid.data.measured import MeasuredRooms, load_response
from hybrid.data.noise import NoiseLibrary, active_power, active_span, mix, snr
from hybrid.data.rooms import LEAD, RATE, SimulatedRooms, reverberation_time, stable_rng
from hybrid.data.vtlp import Vtlp, warp
from hybrid.errors import ConfigError, DataError
from hybrid.io import Problems

ROOMS = SimulatedRooms(1, number=3, rt60=(0.2, 0.3), talkers=1, noise_places=3)


def bursts(samples: int, rate: int, seed: int = 0) -> np.ndarray:
    """Bursts of noise below 3 kHz, of which as much is left at 8 kHz."""
    rng = np.random.default_rng(seed)
    burst = np.repeat(rng.uniform(0, 1, size=samples // (rate // 8) + 1) > 0.4, rate // 8)[:samples]
    low = signal.butter(8, 3000, fs=rate, output="sos")
    return 0.1 * signal.sosfilt(low, rng.standard_normal(samples) * burst)


def cut_of(folder: Path, name: str, audio: np.ndarray, rate: int, channel: int = 0) -> MonoCut:
    """audio: [samples] or [samples, channels]."""
    path = folder / f"{name}.wav"
    soundfile.write(path, audio, rate)
    channels = list(range(1 if audio.ndim == 1 else audio.shape[1]))
    recording = Recording(
        name, [AudioSource("file", channels, str(path))], rate, len(audio), len(audio) / rate, channel_ids=channels
    )
    supervision = SupervisionSegment(name, name, 0.0, len(audio) / rate, channel=channel, text="hello", speaker="ann")
    return MonoCut(name, 0.0, len(audio) / rate, channel, supervisions=[supervision], recording=recording)


@pytest.fixture(scope="module")
def noises():
    rng = np.random.default_rng(9)
    low = signal.butter(8, 3000, fs=RATE, output="sos")
    return NoiseLibrary.from_arrays(
        {
            kind: {str(i): signal.sosfilt(low, rng.standard_normal(8000 + 30000 * i)) for i in range(3)}
            for kind in ("music", "babble")
        }
    )


@pytest.fixture(scope="module")
def responses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rir")
    rng = np.random.default_rng(0)
    for source in "S1", "S2":
        for microphone in range(1, 4):
            response = rng.standard_normal(12000) * 10 ** (-3 * np.arange(12000) / 48000 / 0.2)
            response[:900] = 0
            response[900] = 5.0
            soundfile.write(folder / f"hut_{source}R{microphone}.flac", 0.1 * response, 48000)
    return folder


def likeness(found: np.ndarray, wanted: np.ndarray) -> float:
    """dB: `wanted` to what `found` differs from it."""
    wanted = wanted[: len(found)].astype(np.float64)
    return float(10 * np.log10(np.square(wanted).mean() / np.square(found[: len(wanted)] - wanted).mean()))


# ------------------------------------------------------------------ at another rate all is as at 16 kHz


@pytest.mark.parametrize("rate", [8000, 24000])
def test_the_same_is_drawn_and_heard_at_any_rate(tmp_path, noises, responses, rate):
    """Room, places, noises and levels; without noise a twin at 8 kHz is the twin at 16 kHz, brought to 8 kHz.

    (Responses may differ by a sample in length, and so do the places where noises begin.)
    """
    cuts = CutSet.from_cuts([cut_of(tmp_path, f"u{i}", bursts(16000 + 100 * i, RATE, i), RATE) for i in range(3)])
    dry = NoiseCondition("noisy", snr=(0.0, 15.0), noises=(0, 0))
    for make, rooms, wanted in product((make_noisy, make_rerecorded), (ROOMS, responses), (NOISY, dry)):
        rooms = MeasuredRooms(rooms) if rooms is responses else rooms
        pair = [
            make(cuts, noises=noises, rooms=rooms, seed=2, out_dir=tmp_path / f"{hz}", rate=hz, condition=wanted)
            for hz in (RATE, rate)
        ]
        for old, new in zip(*pair, strict=True):
            same = ("snr", "noises", "room", "responses", "distance")
            assert {key: old.custom.get(key) for key in same} == {key: new.custom.get(key) for key in same}
            assert new.sampling_rate == rate and new.duration == old.duration
            if wanted is NOISY:
                assert new.custom["noises"]
                continue
            resampled = signal.resample_poly(old.load_audio()[0].astype(np.float64), rate // 8000, 2)
            # A direct path begins with a whole sample, so that they differ by a part of one: seen below 400 Hz.
            low = signal.butter(4, 400, fs=rate, output="sos")
            assert likeness(signal.sosfilt(low, new.load_audio()[0]), signal.sosfilt(low, resampled)) > 10.0


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_twins_have_the_length_of_their_cuts_to_a_sample(tmp_path, noises, rate):
    for count, samples in enumerate((rate, rate + 1, 2 * rate // 3 + 7)):
        clean = cut_of(tmp_path, f"u{count}", bursts(samples, rate, count), rate)
        (twin,) = make_noisy(CutSet.from_cuts([clean]), noises, seed=1, out_dir=tmp_path, rooms=ROOMS, rate=rate)
        info = soundfile.info(twin.recording.sources[0].source)
        assert (info.samplerate, info.frames, info.subtype) == (rate, samples, "PCM_16")
        assert twin.num_samples == samples and twin.load_audio().shape == (1, samples)
        (other,) = make_noisy(CutSet.from_cuts([clean]), noises, seed=1, out_dir=tmp_path / "16", rooms=ROOMS)
        assert other.load_audio().shape == (1, soundfile.info(other.recording.sources[0].source).frames)


def test_files_of_another_rate_are_made_again(tmp_path, noises):
    cuts = CutSet.from_cuts([cut_of(tmp_path, "u", bursts(8000, 8000), 8000)])
    for rate in (RATE, 8000, RATE):
        (twin,) = make_noisy(cuts, noises, seed=1, out_dir=tmp_path / "out", rooms=ROOMS, rate=rate)
        assert soundfile.info(twin.recording.sources[0].source).samplerate == twin.sampling_rate == rate
    with pytest.raises(ConfigError, match="at 800 Hz"):
        make_noisy(cuts, noises, seed=1, out_dir=tmp_path / "out", rooms=ROOMS, rate=800)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_simulated_rooms_at_any_rate(rate):
    rooms = SimulatedRooms(7, walls="random", loudspeaker=True)
    for key in ("1", "2", "3", "4"):
        room, known = rooms.open(key, rate), rooms.open(key)
        assert np.array_equal(room.size, known.size) and room.rt60 == known.rt60
        place = room.place(stable_rng(key), 2)
        assert place.description == known.place(stable_rng(key), 2).description
        for response in place.noises:
            assert reverberation_time(response[LEAD:], rate) == pytest.approx(place.rt60, rel=0.1)
            assert np.abs(response[: LEAD - 8]).max() < 0.3 * np.abs(response[LEAD - 1 : LEAD + 2]).max()
        assert np.isfinite(place.talker).all()
        assert len(place.talker) / rate == pytest.approx(len(known.place(stable_rng(key), 2).talker) / RATE, abs=0.02)


def test_a_loudspeaker_has_no_resonance_above_nyquist():
    """Of one at 5 kHz, seen at 8 kHz, the filter would not be stable."""
    left_out = 0
    for key in range(40):
        rooms = SimulatedRooms(key, loudspeaker=True)
        both = [(rooms.open("0", rate).speaker, rate) for rate in (8000, 48000)]
        for sections, _ in both:
            assert all(np.abs(np.roots(section[3:])).max() < 1 for section in sections)
        low, high = (20 * np.log10(np.abs(signal.sosfreqz(s, [300, 700], fs=rate)[1])) for s, rate in both)
        assert np.abs(low - high).max() < 1.0
        left_out += len(both[1][0]) - len(both[0][0])
    assert 0 < left_out < 20


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_measured_responses_at_any_rate(responses, rate):
    path = responses / "hut_S1R1.flac"
    found = load_response(str(path), rate)
    assert abs(int(np.argmax(np.abs(found))) - LEAD) <= 8
    assert len(found) == pytest.approx((12000 - 900) * rate / 48000 + LEAD, abs=12)
    place = MeasuredRooms(responses).open("hut", rate).place(stable_rng(1), 1)
    assert place.rt60 == pytest.approx(0.2, rel=0.3)


@pytest.mark.parametrize("own", [8000, 16000, 44100])
@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_noises_keep_their_pitch_and_joints_at_any_rate(own, rate):
    time = np.arange(own) / own
    (noise,) = NoiseLibrary.from_arrays({"hum": {"a": np.sin(2 * np.pi * 1000 * time)}}, rate=own).kinds["hum"]
    for samples in (rate // 2, 3 * rate):  # a part of it, and repeated
        segment = noise.segment(np.random.default_rng(0), samples, rate)
        assert segment.shape == (samples,)
        spectrum = np.abs(np.fft.rfft(segment))
        assert int(np.argmax(spectrum)) * rate / samples == pytest.approx(1000, abs=5)


def test_active_frames_are_of_20_ms_at_any_rate():
    for rate in (8000, 16000, 44100):
        speech = np.concatenate([np.zeros(rate), np.ones(rate), np.zeros(rate)]).astype(np.float32)
        assert active_span(speech, rate) == slice(rate, 2 * rate) and active_power(speech, rate) == pytest.approx(1.0)
        noise = np.random.default_rng(0).standard_normal(3 * rate).astype(np.float32)
        mixed, _ = mix(speech, [noise], [0.0], 7.0, rate)
        assert snr(speech, mixed - speech, rate) == pytest.approx(7.0, abs=0.01)


# ------------------------------------------------------------------ parts of long recordings, channels


def test_parts_and_channels_of_a_long_recording(tmp_path, noises):
    """Each twin is of its own part and channel: without noise it is the clean cut again, in a room."""
    rate = 8000
    audio = np.stack([bursts(20 * rate, rate, 1), bursts(20 * rate, rate, 2)], axis=1)
    whole = [cut_of(tmp_path, "call", audio, rate, channel) for channel in (0, 1)]
    parts = [
        whole[channel].truncate(offset=start, duration=1.3).with_id(f"{channel}-{start}")
        for channel in (0, 1)
        for start in (0.0, 7.25, 18.7)
    ]
    dry = NoiseCondition("dry", snr=(0.0, 0.0), noises=(0, 0))
    twins = make_noisy(CutSet.from_cuts(parts), noises, seed=1, out_dir=tmp_path / "out", condition=dry, rate=rate)
    clean = {cut.id: cut.load_audio()[0] for cut in parts}
    for cut, twin in zip(parts, twins, strict=True):
        heard = twin.load_audio()[0]
        assert (twin.start, twin.channel, twin.num_samples) == (0.0, 0, cut.num_samples)
        assert [s.channel for s in twin.supervisions] == [0] and twin.recording.num_channels == 1
        alike = {name: abs(float(np.corrcoef(samples, heard)[0, 1])) for name, samples in clean.items()}
        assert max(alike, key=alike.get) == cut.id and alike[cut.id] > 0.3


def test_a_part_that_moved_by_a_little_is_made_again(tmp_path, noises):
    """Six digits do not tell 12345.67 s from 12345.68 s; neither do they tell channels apart, nor the files of two."""
    rate = 8000
    options = {"seed": 1, "out_dir": tmp_path / "out", "rooms": ROOMS, "rate": rate}
    long = cut_of(tmp_path, "long", np.zeros((rate, 2)), rate)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, 2) as file:  # 16 s, with speech at its end
        file.write(np.zeros((15 * rate, 2)))
        file.write(np.stack([bursts(rate, rate, 3), bursts(rate, rate, 4)], axis=1))
    long.recording.num_samples, long.recording.duration = 16 * rate, 16.0
    seen = set()
    for start, channel in ((15.1, 0), (15.100125, 0), (15.1, 1)):
        cut = MonoCut("part", start, 0.5, channel, recording=long.recording)
        (twin,) = make_noisy(CutSet.from_cuts([cut]), noises, **options)
        seen.add(twin.load_audio().tobytes())
    assert len(seen) == 3


def test_one_file_a_channel(tmp_path, noises):
    """The manifest's size is that of the channel's own file: another one of that channel is noticed."""
    rate = 8000
    paths = [tmp_path / "left.wav", tmp_path / "right.wav"]
    for path, seed in zip(paths, (1, 2)):
        soundfile.write(path, bursts(rate, rate, seed), rate)
    sources = [AudioSource("file", [channel], str(path)) for channel, path in enumerate(paths)]
    recording = Recording("two", sources, rate, rate, 1.0, channel_ids=[0, 1])
    cut = MonoCut("b", 0.0, 1.0, 1, recording=recording)
    options = {"seed": 1, "out_dir": tmp_path / "out", "rooms": ROOMS, "rate": rate}
    (first,) = make_noisy(CutSet.from_cuts([cut]), noises, **options)
    before = first.load_audio()
    soundfile.write(paths[1], bursts(rate, rate, 5), rate, subtype="PCM_24")
    (second,) = make_noisy(CutSet.from_cuts([cut]), noises, **options)
    assert not np.array_equal(before, second.load_audio())


def test_ids_that_are_no_names_of_files(tmp_path, noises):
    cuts = [cut_of(tmp_path, f"u{i}", bursts(8000, 8000, i), 8000) for i in range(2)]
    cuts = [cut.with_id(name) for cut, name in zip(cuts, ("a/b", "a%2Fb"))]
    twins = make_noisy(CutSet.from_cuts(cuts), noises, seed=1, out_dir=tmp_path / "out", rooms=ROOMS, rate=8000)
    assert [twin.id for twin in twins] == ["a/b_noisy1", "a%2Fb_noisy1"]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_cuts_of_several_channels_or_tracks_are_named(tmp_path, noises):
    good = cut_of(tmp_path, "good", bursts(8000, 8000), 8000)
    stereo = cut_of(tmp_path, "stereo", np.stack([bursts(8000, 8000)] * 2, axis=1), 8000)
    several = MultiCut("several", 0.0, 1.0, [0, 1], recording=stereo.recording)
    mixed = good.mix(good, snr=5).with_id("mixed")
    bare = MonoCut("bare", 0.0, 1.0, 0)
    problems = Problems(tmp_path / "problems.jsonl", "augment")
    cuts = CutSet.from_cuts([good, several, mixed, bare])
    twins = make_noisy(cuts, noises, seed=1, out_dir=tmp_path, rooms=ROOMS, rate=8000, problems=problems)
    assert [twin.custom["clean_cut"] for twin in twins] == ["good"]
    assert {row["utterance"] for row in problems.rows} == {"several", "mixed", "bare"}
    with pytest.raises(DataError, match="several tracks or channels.*one cut a channel"):
        make_noisy(CutSet.from_cuts([several]), noises, seed=1, out_dir=tmp_path, rooms=ROOMS, rate=8000)


# ------------------------------------------------------------------ features


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 44100, 48000])
def test_features_of_all_libraries_agree_at_any_rate(rate):
    samples = (0.1 * np.random.default_rng(1).standard_normal(rate)).astype(np.float32)
    for config in (Mfcc(sampling_rate=rate), LogMel(sampling_rate=rate)):
        found = [FeatureExtractor(config, name).compute(samples, rate) for name in available_backends()]
        assert found[0].shape == (100, config.dim) and np.isfinite(found[0]).all()
        for other in found[1:]:
            assert np.abs(found[0] - other).max() < 0.1


def test_log_mel_hears_the_same_tone_at_any_rate():
    """Of a tone at 1 kHz the strongest band is the one around 1 kHz."""
    for rate in (8000, 16000, 48000):
        tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
        config = LogMel(sampling_rate=rate)
        best = int(FeatureExtractor(config).compute(tone, rate).mean(0).argmax())
        mels = 1127 * np.log1p(np.array([20.0, rate / 2 - 400, 1000.0]) / 700)
        assert best == pytest.approx((mels[2] - mels[0]) / (mels[1] - mels[0]) * 65 - 1, abs=1)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Mfcc(sampling_rate=11025), "110.25 samples at 11025 Hz.*resample"),
        (lambda: LogMel(sampling_rate=22050), "220.5 samples at 22050 Hz.*16000"),
        (lambda: LogMel(sampling_rate=8000, high_freq=7600.0), "7600 Hz, where audio at 8000 Hz ends at 4000"),
        (lambda: LogMel(low_freq=8000.0), "from 8000 to 7600 Hz"),
        (lambda: LogMel(low_freq=-1.0), "from -1 to"),
        (lambda: LogMel(high_freq=-8000.0), "to 0 Hz"),
        (lambda: LogMel(sampling_rate=8000, num_bins=120), "120 bands.*narrower.*num_bins"),
        (lambda: Mfcc(num_bins=0), "0 bands"),
        (lambda: Mfcc(sampling_rate=0), "at 0 Hz"),
        (lambda: Mfcc(frame_length=0.005), "windows of 0.005 s every 0.01 s"),
    ],
)
def test_features_that_cannot_be(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_vocal_tracts_at_8_khz():
    f = np.linspace(0, 4000, 2001)
    g = warp(f, 1.1, 4000.0)
    assert g[-1] == pytest.approx(4000) and (np.diff(g) > 0).all() and g[f < 2000] == pytest.approx(1.1 * f[f < 2000])
    x = np.random.default_rng(0).normal(size=(5, 192)).astype(np.float32)
    assert Vtlp(low=1.0, high=1.0, sampling_rate=8000)(x, np.random.default_rng(0)) == pytest.approx(x, abs=1e-4)


# ------------------------------------------------------------------ what 16 kHz has always been

# Samples made before the rate was a choice, every 1500th; and what the file says that it was made from, by which a
# later run knows it: to be changed with augment.VERSION only.
KNOWN = {
    "a shoebox each": (
        "17543ab7faa7e589 0 1 known.wav 32044",
        [-286, 222, 101, 3997, 3757, -1731, -199, -2354, -604, -1105, 2115],
    ),
    "a pool": (
        "e9322a26fa0c57b2 0 1 known.wav 32044",
        [429, 199, 61, 4528, 266, -3629, -4717, 3113, -781, 3098, -5344],
    ),
    "measured": (
        "fc9ce83a57c2fbdc 0 1 known.wav 32044",
        [4, 496, 76, 592, -2730, -2180, 4676, -324, -485, -1355, -2327],
    ),
}


def known_twin(folder: Path, name: str) -> Tuple[str, List[int]]:
    rng = np.random.default_rng(5)
    cut = cut_of(folder, "known", 0.1 * rng.standard_normal(16000) * np.repeat([0, 1, 1, 0, 1], 3200), RATE)
    noises = NoiseLibrary.from_arrays({"hiss": {str(i): rng.standard_normal(40000) for i in range(3)}}, rate=22050)
    for source, microphone in (("a", 1), ("a", 2), ("b", 1)):
        response = rng.standard_normal(9000) * 10 ** (-3 * np.arange(9000) / 48000 / 0.15)
        soundfile.write(folder / f"hut_{source}_{microphone}.wav", 0.1 * response / np.abs(response).max(), 48000)
    rooms = {
        "a shoebox each": None,
        "a pool": SimulatedRooms(3, number=2, walls="random", loudspeaker=True),
        "measured": MeasuredRooms(folder),
    }[name]
    options = {"seed": 1, "out_dir": folder / "out", "condition": NOISY, "rooms": rooms}
    (twin,) = make_noisy(CutSet.from_cuts([cut]), noises, **options)
    path = twin.recording.sources[0].source
    with soundfile.SoundFile(path) as file:
        made_from = json.loads(file.comment)["made_from"]
        return made_from, file.read(dtype="int16")[::1500].tolist()


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_at_16_khz_samples_are_what_they_were_and_files_are_known_again(tmp_path, name):
    made_from, samples = known_twin(tmp_path, name)
    assert made_from == KNOWN[name][0]
    np.testing.assert_allclose(samples, KNOWN[name][1], atol=3)  # libraries of other versions may round otherwise
