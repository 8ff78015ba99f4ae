"""The conditions: lengths, ratios, alignment with the clean twin, independence of order, resuming."""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from hybrid.data import augment, noisy_cut
from hybrid.data.augment import NOISY, RERECORDED, NoiseCondition, make_noisy, make_rerecorded
from hybrid.data.noise import NoiseLibrary, active_power, snr
from hybrid.data.rooms import RATE, SimulatedRooms
from hybrid.errors import ConfigError, DataError
from hybrid.io import Problems, read_jsonl
from hybrid.parallel import WorkerPool

ROOMS = SimulatedRooms(1, number=3, rt60=(0.2, 0.3), talkers=1, noise_places=3)


def make_cut(folder: Path, name: str, samples: int, rate: int = RATE, seed: int = 0) -> MonoCut:
    """Bursts of noise, so that a correlation has one sharp peak."""
    rng = np.random.default_rng(seed)
    burst = np.repeat(rng.uniform(0, 1, size=samples // (rate // 8) + 1) > 0.4, rate // 8)[:samples]
    path = folder / f"{name}.wav"
    soundfile.write(path, 0.1 * rng.standard_normal(samples) * burst, rate)
    recording = Recording(name, [AudioSource("file", [0], str(path))], rate, samples, samples / rate)
    supervision = SupervisionSegment(
        name, name, 0.0, samples / rate, text="hello", speaker="ann",
        alignment={"word": [AlignmentItem("hello", 0.1, 0.2)]},
    )  # fmt: skip
    return MonoCut(name, 0.0, samples / rate, 0, supervisions=[supervision], recording=recording)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    lengths = [16000, 20011, 9600, 24000, 12345, 16001]
    return CutSet.from_cuts(make_cut(folder, f"u{i}", n, seed=i) for i, n in enumerate(lengths))


@pytest.fixture(scope="module")
def noises():
    rng = np.random.default_rng(9)
    return NoiseLibrary.from_arrays(
        {kind: {str(i): rng.standard_normal(8000 + 9000 * i) for i in range(3)} for kind in ("music", "babble")}
    )


@pytest.fixture(scope="module")
def noisy(cuts, noises, tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy")
    return make_noisy(cuts, noises, seed=1, out_dir=folder, rooms=ROOMS)


def test_twins(cuts, noisy):
    assert len(noisy) == len(cuts)
    for clean, cut in zip(cuts, noisy, strict=True):
        assert cut.id == f"{clean.id}_noisy1" == cut.supervisions[0].id == cut.supervisions[0].recording_id
        assert cut.custom["clean_cut"] == clean.id and cut.custom["condition"] == "noisy"
        assert cut.duration == clean.duration and cut.num_samples == clean.num_samples
        (supervision,), (own,) = clean.supervisions, cut.supervisions
        assert (own.text, own.speaker, own.alignment) == (supervision.text, supervision.speaker, supervision.alignment)
        assert 0 <= cut.custom["snr"] <= 15 and 0.2 <= cut.custom["rt60"] <= 0.6
        assert 1 <= len(cut.custom["noises"]) <= 3
        audio, clean_audio = cut.load_audio()[0], clean.load_audio()[0]
        assert audio.shape == clean_audio.shape
        assert np.abs(audio).max() < 1.0
        info = soundfile.info(cut.recording.sources[0].source)
        assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_16", RATE)


def test_lined_up_with_the_clean_twin(cuts, noises, tmp_path):
    without = NoiseCondition("dry", snr=(0, 0), noises=(0, 0))
    for clean, cut in zip(cuts, make_noisy(cuts, noises, seed=2, out_dir=tmp_path, condition=without), strict=True):
        a, b = clean.load_audio()[0].astype(np.float64), cut.load_audio()[0].astype(np.float64)
        size = 1 << (len(a) + len(b)).bit_length()
        correlation = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
        lag = int(np.argmax(correlation))
        lag = lag - size if lag > size // 2 else lag
        assert abs(lag) <= RATE // 1000
        assert cut.custom["snr"] is None and cut.custom["noises"] == []
        assert active_power(b) == pytest.approx(active_power(a), rel=1e-2)


def test_the_ratio_is_the_one_recorded(cuts, noises, tmp_path):
    """The same speech in the same room, once with hardly any noise: the difference is the noise."""
    for ratio in (0.0, 12.0):
        pair = []
        for name, value in (("a", ratio), ("b", 90.0)):
            wanted = NoiseCondition("noisy", snr=(value, value), noises=(2, 2))
            out = tmp_path / f"{name}{ratio}"
            pair.append(make_noisy(cuts, noises, seed=3, out_dir=out, condition=wanted, rooms=ROOMS))
        for clean, loud, quiet in zip(cuts, *pair, strict=True):
            assert loud.custom["noises"] == quiet.custom["noises"]
            speech = quiet.load_audio()[0].astype(np.float64)
            mixed = loud.load_audio()[0].astype(np.float64)
            if abs(loud.custom["gain"]) < 1e-3:  # not scaled down for its peaks
                assert snr(speech, mixed - speech) == pytest.approx(ratio, abs=0.2)
            assert clean.id == loud.custom["clean_cut"]


def test_order_and_workers_do_not_matter(cuts, noises, noisy, tmp_path):
    some = CutSet.from_cuts(reversed([cut for cut in cuts if cut.id != "u2"]))
    with ThreadPoolExecutor(3) as executor:
        again = make_noisy(some, noises, seed=1, out_dir=tmp_path, rooms=ROOMS, executor=executor)
    assert [cut.id for cut in again] == [f"{cut.id}_noisy1" for cut in some]
    before = {cut.id: cut for cut in noisy}
    for cut in again:
        np.testing.assert_array_equal(cut.load_audio(), before[cut.id].load_audio())
        assert cut.custom == before[cut.id].custom


def test_processes_make_the_same(cuts, noises, noisy, tmp_path):
    """The job is sent to each of them whole, with libraries and rooms."""
    with WorkerPool(2, tmp_path) as executor:
        again = make_noisy(cuts, noises, seed=1, out_dir=tmp_path / "out", rooms=ROOMS, executor=executor)
    for cut, before in zip(again, noisy, strict=True):
        assert cut.custom == before.custom
        np.testing.assert_array_equal(cut.load_audio(), before.load_audio())


def test_seed_and_copy_matter(cuts, noises, noisy, tmp_path):
    one = CutSet.from_cuts([next(iter(cuts))])
    for options in ({"seed": 2}, {"seed": 1, "copy": 2}):
        (cut,) = make_noisy(one, noises, out_dir=tmp_path, rooms=ROOMS, **options)
        assert cut.custom["snr"] != next(iter(noisy)).custom["snr"]


def test_resume(cuts, noises, tmp_path, monkeypatch):
    options = {"seed": 1, "out_dir": tmp_path, "rooms": ROOMS}
    first = make_noisy(cuts, noises, **options)
    files = sorted(tmp_path.iterdir())
    data = {file: file.read_bytes() for file in files}
    files[0].write_bytes(data[files[0]][: len(data[files[0]]) // 2])  # a copy that broke off
    files[1].write_bytes(b"")
    files[2].unlink()
    stamps = {file: file.stat().st_mtime_ns for file in files[3:]}
    made = []
    monkeypatch.setattr(noisy_cut, "load_samples", lambda cut, rate, real=noisy_cut.load_samples: made.append(cut.id) or
                        real(cut, rate))  # fmt: skip
    again = make_noisy(cuts, noises, **options)
    assert len(made) == 3 and {file.stem for file in files[:3]} == {f"{name}_noisy1" for name in made}
    assert {file: file.stat().st_mtime_ns for file in files[3:]} == stamps
    assert {file: file.read_bytes() for file in files} == data
    assert [c.to_dict() for c in again] == [c.to_dict() for c in first]
    assert sorted(tmp_path.iterdir()) == files  # nothing is left lying about
    make_noisy(cuts, noises, **{**options, "seed": 2})
    assert len(made) == 3 + len(cuts)  # files of another seed are no use


def test_killed_while_writing(cuts, noises, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make_noisy(cuts, noises, seed=1, out_dir=tmp_path, rooms=ROOMS)
    assert not list(tmp_path.glob("*.flac"))


def test_problems_are_counted_and_left_out(cuts, noises, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    bad = [make_cut(folder, name, 8000, seed=5) for name in ("gone", "junk", "silent", "short")]
    (folder / "gone.wav").unlink()
    (folder / "junk.wav").write_bytes(b"not audio")
    soundfile.write(folder / "silent.wav", np.zeros(8000), RATE)
    (folder / "short.wav").write_bytes((folder / "short.wav").read_bytes()[:3000])
    mixed = CutSet.from_cuts([*bad[:2], *cuts, *bad[2:]])
    problems = Problems(tmp_path / "problems.jsonl", "augment")
    twins = make_noisy(mixed, noises, seed=1, out_dir=tmp_path / "out", rooms=ROOMS, problems=problems)
    assert {cut.custom["clean_cut"] for cut in twins} == set(cuts.ids)
    problems.close(len(mixed), 0.5)
    assert {row["utterance"] for row in read_jsonl(problems.path)} == {"gone", "junk", "silent", "short"}
    for cut in bad:
        with pytest.raises(DataError):
            make_noisy(CutSet.from_cuts([cut]), noises, seed=1, out_dir=tmp_path / "out", rooms=ROOMS)


def test_a_broken_noise_stops_the_stage(cuts, tmp_path):
    """It would spoil cut after cut, and none of them is to blame."""
    (tmp_path / "noise" / "music").mkdir(parents=True)
    path = tmp_path / "noise" / "music" / "a.wav"
    soundfile.write(path, np.zeros(8000), RATE)
    library = NoiseLibrary.from_folder(tmp_path / "noise")
    one = NoiseCondition("noisy", snr=(0, 15), noises=(1, 1))
    problems = Problems(tmp_path / "problems.jsonl", "augment")
    with pytest.raises(DataError, match="silent") as error:
        make_noisy(cuts, library, seed=1, out_dir=tmp_path, rooms=ROOMS, condition=one, problems=problems)
    assert error.value.file == str(path) and problems.rows == []


def test_duplicate_ids(cuts, noises, tmp_path):
    first = next(iter(cuts))
    with pytest.raises(DataError, match="two cuts of one id"):
        make_noisy([first, first], noises, seed=1, out_dir=tmp_path, rooms=ROOMS)


def test_another_rate_and_a_part_of_a_recording(noises, tmp_path):
    long = make_cut(tmp_path, "tel", 16000, rate=8000)
    part = long.truncate(offset=0.5, duration=1.0, preserve_id=True)
    (cut,) = make_noisy(CutSet.from_cuts([part]), noises, seed=1, out_dir=tmp_path / "out", rooms=ROOMS)
    assert cut.duration == 1.0 and cut.sampling_rate == RATE and cut.load_audio().shape == (1, RATE)


def test_a_noise_condition_of_training_changes_levels(cuts, noises, tmp_path):
    wide = NoiseCondition("noisy", snr=(-5, 20), noises=(1, 3), gain=(-10, -5), kinds=("music",))
    made = list(make_noisy(cuts, noises, seed=1, out_dir=tmp_path, rooms=ROOMS, condition=wide))
    assert len(made) == len(cuts) > 0
    for cut in made:
        assert cut.custom["gain"] <= -5 + 1e-6
        assert cut.custom["noises"] and all(name.startswith("music/") for name in cut.custom["noises"])


@pytest.mark.parametrize("wrong", [{"snr": (5, 0)}, {"noises": (3, 1)}, {"noises": (-1, 1)}, {"gain": (1, 0)}])
def test_impossible_noise_conditions(wrong):
    with pytest.raises(ConfigError):
        NoiseCondition(**{"name": "noisy", "snr": (0, 15), "noises": (1, 3), **wrong})


def test_the_noise_conditions_of_the_test_sets():
    assert (NOISY.snr, NOISY.noises) == ((0.0, 15.0), (1, 3))
    assert (RERECORDED.snr, RERECORDED.noises) == ((5.0, 15.0), (1, 2))
    assert (SimulatedRooms(0).rt60, SimulatedRooms(0).talker_distance) == ((0.2, 0.6), (1.0, 3.0))


def test_measured_rooms(shared_data, cuts, noises, tmp_path):
    twins = make_rerecorded(cuts, shared_data / "rir" / "test", noises, seed=1, out_dir=tmp_path)
    for clean, cut in zip(cuts, twins, strict=True):
        assert cut.id == f"{clean.id}_rerecorded1" and cut.num_samples == clean.num_samples
        assert 5 <= cut.custom["snr"] <= 15 and 1 <= len(cut.custom["noises"]) <= 2
        assert len(cut.custom["responses"]) == 1 + len(cut.custom["noises"])
        assert math.isfinite(float(cut.load_audio().sum()))


def test_in_windows(cuts, noises, noisy, tmp_path, monkeypatch):
    """Two cuts at a time are the same twins in the same order, what none can be made of is left out, and the cuts of
    later windows are not asked for before they are needed."""
    asked = []

    def asking():
        for cut in cuts:
            asked.append(cut.id)
            yield cut

    monkeypatch.setattr(augment, "WINDOW", 2)
    done = []
    twins = make_noisy(asking(), noises, seed=1, out_dir=tmp_path / "a", rooms=ROOMS, lazy=True, progress=done.append)
    assert not asked
    for number, (twin, before) in enumerate(zip(twins, noisy, strict=True)):
        assert len(asked) <= number // 2 * 2 + 2
        assert twin.custom == before.custom
        np.testing.assert_array_equal(twin.load_audio(), before.load_audio())
    assert sum(done) == len(asked) == 6
    broken = [copy.deepcopy(cut) for cut in cuts]
    broken[2] = broken[2].with_id("gone")
    broken[2].recording.sources[0].source = str(tmp_path / "gone.wav")
    problems = Problems(tmp_path / "problems.jsonl", "augment")
    with ThreadPoolExecutor(3) as executor:
        twins = make_noisy(
            broken, noises, seed=1, out_dir=tmp_path / "b", rooms=ROOMS, lazy=True, problems=problems,
            executor=executor,
        )  # fmt: skip
        assert [twin.custom["clean_cut"] for twin in twins] == ["u0", "u1", "u3", "u4", "u5"]
    assert [row["utterance"] for row in problems.rows] == ["gone"]
    with pytest.raises(DataError, match="two cuts of one id"):
        make_noisy([*cuts, next(iter(cuts))], noises, seed=1, out_dir=tmp_path / "a", rooms=ROOMS)
