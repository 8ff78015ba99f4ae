"""Rooms: decay times, direct paths, positions; the names of measured responses."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from scipy import signal

from hybrid.data.measured import MeasuredRooms, load_response, parse_name
from hybrid.data.rooms import LEAD, RATE, SimulatedRooms, direct_path, reverberation_time, stable_rng
from hybrid.errors import ConfigError, DataError


def decaying(rt60: float, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.random.default_rng(seed).standard_normal(len(time)) * 10 ** (-3 * time / rt60)


@pytest.mark.parametrize("rt60", [0.2, 0.4, 0.6])
def test_reverberation_time_of_a_known_decay(rt60):
    assert reverberation_time(decaying(rt60, 2 * rt60)) == pytest.approx(rt60, rel=0.06)


def test_reverberation_time_needs_a_decay():
    with pytest.raises(DataError):
        reverberation_time(np.zeros(100))
    with pytest.raises(DataError):
        reverberation_time(np.array([1.0, 0.0]))


@pytest.mark.parametrize("walls", ["equal", "random"])
def test_simulated_rooms_decay_as_wanted_and_start_at_the_direct_path(walls):
    rooms, rng = SimulatedRooms(7, walls=walls), np.random.default_rng(3)
    for _ in range(4):
        room = rooms.open(rooms.choose(rng))
        place = room.place(rng, 2)
        assert 0.2 <= place.rt60 <= 0.6
        assert len(place.noises) == 2
        assert 1.0 <= place.description["distance"] <= 3.0
        for response in (place.talker, *place.noises):
            assert response.dtype == np.float32
            assert reverberation_time(response[LEAD:]) == pytest.approx(place.rt60, rel=0.1)
            # Nothing is heard before the direct path, and the direct path is heard where it should be.
            assert np.abs(response[: LEAD - 8]).max() < 0.3 * np.abs(response[LEAD - 1 : LEAD + 2]).max()
        inside = np.array([*room.positions, room.microphone])
        assert (inside > 0).all() and (inside < room.size).all()


def test_image_method_against_images_by_hand():
    """The first 20 ms against Allen and Berkley's sum over images, both seen from 300 Hz to 2 kHz.

    Mirrored n times in the walls at 0 and L, a source at x has its images at 2 m L + x (2 |m| reflections, |m| of each
    wall) and 2 m L - x (|m - 1| of the wall at 0, |m| of that at L).
    """
    room = SimulatedRooms(11, rt60=(0.3, 0.3), talkers=1).open("0")
    source, microphone = room.positions[0], room.microphone
    keep = {wall: np.sqrt(1 - value) for wall, value in room.absorption.items()}
    direct = float(np.linalg.norm(source - microphone))
    length = LEAD + RATE // 50
    expected = np.zeros(length + 1)
    fraction = (direct / 343.0 * RATE + 0.5) % 1 - 0.5  # the direct path is at LEAD to the nearest sample
    axes = []
    for axis, (near, far) in enumerate((("west", "east"), ("south", "north"), ("floor", "ceiling"))):
        images = []
        for m in range(-4, 5):
            images.append((2 * m * room.size[axis] + source[axis], keep[near] ** abs(m) * keep[far] ** abs(m)))
            images.append((2 * m * room.size[axis] - source[axis], keep[near] ** abs(m - 1) * keep[far] ** abs(m)))
        axes.append(images)
    for x, gx in axes[0]:
        for y, gy in axes[1]:
            for z, gz in axes[2]:
                away = float(np.linalg.norm(np.array([x, y, z]) - microphone))
                at = LEAD + fraction + (away - direct) / 343.0 * RATE
                if at < length:
                    whole, part = int(at), at - int(at)
                    expected[whole : whole + 2] += gx * gy * gz * direct / away * np.array([1 - part, part])
    low = signal.firwin(129, [300, 2000], fs=RATE, pass_zero=False)  # the simulation leaves out what is below 20 Hz
    found = signal.convolve(room.place(stable_rng("any"), 0).talker[:length].astype(np.float64), low, "valid")
    wanted = signal.convolve(expected[:length], low, "valid")
    found *= wanted[np.argmax(wanted)] / found[np.argmax(wanted)]
    assert np.sum((found - wanted) ** 2) < 0.02 * np.sum(wanted**2)


def test_a_room_depends_on_seed_and_key_alone():
    rooms = SimulatedRooms(5, number=3)
    one = rooms.open("1").place(stable_rng("x"), 2)
    rooms.open("2").place(stable_rng("y"), 3)
    from hybrid.data.rooms import SimulatedRoom

    again = SimulatedRoom(rooms, "1").place(stable_rng("x"), 2)
    np.testing.assert_array_equal(one.talker, again.talker)
    other = SimulatedRooms(6, number=3).open("1").place(stable_rng("x"), 2)
    assert len(other.talker) != len(one.talker) or not np.array_equal(other.talker, one.talker)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rt60": (0.6, 0.2)},
        {"rt60": (0.0, 0.2)},
        {"talker_distance": (3.0, 1.0)},
        {"talker_distance": (5.0, 6.0)},
        {"walls": "paper"},
        {"size": ((1.0, 3.0, 2.4), (8.0, 6.0, 3.5))},
        {"size": ((9.0, 3.0, 2.4), (8.0, 6.0, 3.5))},
    ],
)
def test_impossible_rooms(wrong):
    with pytest.raises(ConfigError):
        SimulatedRooms(1, **wrong)


def test_direct_path_before_a_stronger_reflection():
    response = np.zeros(1000)
    response[100], response[150] = 0.5, -1.0
    assert direct_path(response) == 100


@pytest.fixture
def measured(tmp_path):
    for source in "S1", "S2":
        for microphone in range(1, 4):
            response = np.zeros(4000)
            response[300:] = decaying(0.3, 3700 / RATE, seed=microphone)
            response[300] = 5.0
            soundfile.write(tmp_path / f"hut_{source}R{microphone}.flac", 0.1 * response, RATE)
    soundfile.write(tmp_path / "hall_alone.flac", 0.1 * decaying(0.5), RATE)
    soundfile.write(tmp_path / "dirha_T1_O6_K1L.flac", 0.1 * decaying(0.5), RATE)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


def test_measured_rooms(measured):
    rooms = MeasuredRooms(measured)
    assert set(rooms.rooms) == {"hut"}
    assert {name for name, _ in rooms.rejected} == {"hall_alone.flac", "dirha_T1_O6_K1L.flac"}
    for i in range(20):
        rng = stable_rng(i)
        place = rooms.open(rooms.choose(rng)).place(rng, 2)
        talker, first, second = place.description["responses"]
        assert len({talker, first, second}) == 3
        # The first noise: another source, the same microphone.
        assert parse_name(first)[2] == parse_name(talker)[2] and parse_name(first)[1] != parse_name(talker)[1]
        assert int(np.argmax(np.abs(place.talker))) == LEAD


def test_measured_responses_are_resampled(tmp_path):
    response = np.zeros(48000)
    response[4800] = 1.0
    soundfile.write(tmp_path / "a_s1_m1.wav", response, 48000)
    found = load_response(str(tmp_path / "a_s1_m1.wav"))
    assert int(np.argmax(np.abs(found))) - LEAD in range(0, 8)
    assert len(found) == pytest.approx(16000 - 1600, abs=40)


def test_broken_folders_of_responses(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        MeasuredRooms(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no room with two"):
        MeasuredRooms(tmp_path)
    (tmp_path / "x_S1R1.flac").write_bytes(b"not audio")
    (tmp_path / "x_S1R2.flac").write_bytes(b"")
    with pytest.raises(DataError, match="x_S1R"):
        MeasuredRooms(tmp_path).open("x").place(stable_rng(1), 1)
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), RATE)
    with pytest.raises(DataError, match="silent"):
        load_response(str(tmp_path / "silent.wav"))


@pytest.mark.parametrize("part, rooms", [("train", 1), ("dev", 1), ("test", 1)])
def test_the_shared_responses_are_grouped(shared_data, part, rooms):
    found = MeasuredRooms(shared_data / "rir" / part)
    assert len(found.rooms) == rooms
    assert sum(len(r) for r in found.rooms.values()) >= 50
    place = found.open(found.choose(stable_rng(1))).place(stable_rng(2), 2)
    assert 0.2 < place.rt60 < 1.5
