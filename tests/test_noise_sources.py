"""Where noises and rooms come from: folders, MUSAN, RIRS_NOISES, Lhotse; the test hears nothing of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterable, List, Set

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from lhotse import AudioSource, CutSet, MonoCut, Recording

from hybrid.data.augment import make_noisy, make_rerecorded
from hybrid.data.measured import MeasuredRooms, parse_name
from hybrid.data.noise import NoiseLibrary, scan_noises
from hybrid.data.noise_sources import open_noises, open_rooms
from hybrid.data.parting import by_hash, held_for_test, part_rooms, recording_of
from hybrid.data.rirs_noises import as_real
from hybrid.data.rooms import SimulatedRooms, stable_rng
from hybrid.errors import ConfigError, DataError

SPLITS = ("train", "dev", "test")


def write(root: Path, names: Iterable[str], rate: int = 8000) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        samples = 0.1 * rng.standard_normal(rate // 8) * 10 ** (-3 * np.arange(rate // 8) / (rate // 8))
        soundfile.write(root / name, samples, rate, format={"opus": "OGG"}.get(name.rpartition(".")[2]))
    return root


def names_of(library: NoiseLibrary) -> Set[str]:
    return {noise.name for members in library.kinds.values() for noise in members}


def files_of(rooms: MeasuredRooms) -> Set[str]:
    return {response.path for members in rooms.rooms.values() for response in members}


# ------------------------------------------------------------------ parting


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), min_size=1),
    st.permutations([str(n) for n in range(30)]),
)
def test_each_kind_has_its_share_in_the_test(sizes, order) -> None:
    kinds = {kind: [f"{kind}/{name}" for name in order if int(name) < size] for kind, size in sizes.items()}
    total = sum(sizes.values())
    test = held_for_test(kinds)
    assert test == held_for_test({kind: sorted(names) for kind, names in reversed(list(kinds.items()))})
    if total < 6:
        assert not test
        return
    assert len(test) == max(3, round(0.2 * total)) and total - len(test) >= 3
    for names in kinds.values():
        assert len(test & set(names)) == pytest.approx(len(test) * len(names) / total, abs=1.5)


def test_one_recording_more_moves_few_others() -> None:
    names = [f"a/{n}" for n in range(100)]
    before = held_for_test({"a": names})
    assert len(before ^ held_for_test({"a": [*names, "a/new"]})) <= 2
    assert before == held_for_test({"a": names[::-1]}) != set(sorted(names)[:20])


@pytest.mark.parametrize(
    "names, recording",
    [
        (["r/a.wav", "r/a.flac", "r/a-part1.wav", "r/a_seg02.ogg", "r/a chunk 3.wav"], "r/a"),
        (["e/1-211527-B.wav", "e/1-211527-C-20.flac", "e/esc10_baby_cry_1-211527-A.flac"], "e/1-211527"),
        (["noise-free-sound-0000.wav"], "noise-free-sound-0000"),
        (["department2.wav"], "department2"),
        (["x.tar/part1.wav"], "x.tar/part1"),
    ],
)
def test_pieces_of_one_recording(names: List[str], recording: str) -> None:
    assert {recording_of(name) for name in names} == {recording}


@pytest.mark.parametrize("count", range(1, 40))
def test_rooms_are_parted(count: int) -> None:
    rooms = [f"room {n}" for n in range(count)]
    for splits in (SPLITS, ("dev", "test"), ("train", "dev")):
        parts = part_rooms(rooms, splits)
        assert sorted(room for members in parts.values() for room in members) == sorted(rooms)
        assert all(parts.values()) and len(parts) == min(count, len(splits))
        assert parts == part_rooms(rooms[::-1], splits)
        if count >= 10 and splits == SPLITS:
            assert len(parts["train"]) / count == pytest.approx(0.5, abs=0.1)
            assert len(parts["test"]) >= len(parts["dev"])
    assert sorted(by_hash(rooms)) == sorted(rooms) and (count < 5 or by_hash(rooms) != rooms)


def test_the_order_is_the_same_on_every_machine() -> None:
    assert by_hash(["a", "b", "c", "d", "e"]) == KNOWN_ORDER


KNOWN_ORDER = ["e", "c", "a", "b", "d"]


# ------------------------------------------------------------------ folders of noises


@pytest.mark.parametrize("kinds", [True, False])
def test_a_folder_is_parted_by_recording(tmp_path: Path, kinds: bool) -> None:
    names = [f"{'ab'[n % 2]}/{n}.wav" if kinds else f"{n}.wav" for n in range(12)]
    names += ["a/12-part1.flac", "a/12-part2.flac", "b/deep/er/13.ogg"]
    write(tmp_path, names)
    (tmp_path / "README.txt").write_text("no noise")
    (tmp_path / ".hidden.wav").write_bytes(b"")
    libraries = {split: open_noises(tmp_path, split) for split in SPLITS}
    train, dev, test = (names_of(libraries[split]) for split in SPLITS)
    assert train == dev and not train & test and train | test == set(names)
    assert len({recording_of(name) for name in test}) == 3
    assert len({"a/12-part1.flac", "a/12-part2.flac"} & test) in (0, 2)
    assert set(libraries["train"].kinds) == ({"a", "b"} if kinds else {"noise", "a", "b"})
    assert open_noises(str(tmp_path), "test").describe() == libraries["test"].describe()
    assert libraries["test"].describe() != libraries["train"].describe()
    assert len({noise.name for noise in libraries["test"].draw(stable_rng(1), 3)}) == 3


def test_a_folder_that_is_parted_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, ["train/music/a.wav", "test/music/b.wav", "test/c.wav"])
    (tmp_path / "README").write_text("")
    (tmp_path / "docs").mkdir()
    assert names_of(open_noises(tmp_path, "train")) == names_of(open_noises(tmp_path, "dev")) == {"music/a.wav"}
    assert names_of(open_noises(tmp_path, "test")) == {"music/b.wav", "c.wav"}
    assert open_noises(tmp_path, "train").describe() == NoiseLibrary.from_folder(tmp_path / "train").describe()
    write(tmp_path, ["dev/music/d.wav"])
    assert names_of(open_noises(tmp_path, "dev")) == {"music/d.wav"}


@pytest.mark.parametrize(
    "names, split, words",
    [
        ([], "train", "no noise in this folder"),
        (["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"], "test", "5 recordings are too few.*takes 6.*train/ and test/"),
        ([f"a-part{n}.wav" for n in range(9)], "train", "1 recordings are too few"),
        (["train/a.wav"], "test", "no noises for test.*test.*put recordings there"),
        (["test/a.wav"], "dev", "no noises for dev.*train"),
        (["train/a.wav", "test/b.wav", "music/c.wav"], "train", "belongs to neither.*music"),
        (["train/a.wav", "test/b.wav", "c.wav"], "test", "belongs to neither.*c.wav"),
    ],
)
def test_noises_that_cannot_be_parted(tmp_path: Path, names: List[str], split: str, words: str) -> None:
    write(tmp_path, names)
    with pytest.raises(DataError, match=words) as error:
        open_noises(tmp_path, split)
    assert error.value.remedy and str(tmp_path) in str(error.value.file)


@pytest.mark.parametrize("opened", [open_noises, open_rooms])
def test_linked_folders_are_followed_once(tmp_path: Path, opened) -> None:
    names = [f"{n}_s{m}_m1.wav" for n in range(6) for m in range(2)]
    write(tmp_path / "real", names)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "rain").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "circle").symlink_to(tmp_path / "linked")
    found = [opened(tmp_path / "linked", split) for split in ("train", "test")]
    files = [files_of(part) if isinstance(part, MeasuredRooms) else names_of(part) for part in found]
    assert files[0] and files[1] and not files[0] & files[1]
    assert all("circle" not in name for part in files for name in part)


@pytest.mark.parametrize("opened", [open_noises, open_rooms])
def test_what_is_no_source(tmp_path: Path, opened) -> None:
    with pytest.raises(DataError, match="no such folder.*nowhere"):
        opened(tmp_path / "nowhere", "test")
    for split in ("valid", "", "TEST"):
        with pytest.raises(ConfigError, match=f"no part '{split}'.*train, dev, test"):
            opened(tmp_path, split)
    for source in ("lhotse:librispeech", "lhotse:", "lhotse:musan/loud"):
        with pytest.raises(ConfigError, match="lhotse:musan, lhotse:rir_noise"):
            opened(source, "test", tmp_path)
    with pytest.raises(ConfigError, match="where is it unpacked.*--data"):
        opened("lhotse:rir_noise", "test")
    with pytest.raises(DataError, match="rir_noise is not there.*openslr 28"):
        opened("lhotse:rir_noise", "test", tmp_path)


# ------------------------------------------------------------------ folders of rooms


def room_names(*rooms: str, positions: int = 3) -> List[str]:
    return [f"{room}_s{n}_m1.wav" for room in rooms for n in range(positions)]


def test_a_folder_of_rooms_is_parted_by_room(tmp_path: Path) -> None:
    rooms = [f"hall{n}" for n in range(10)]
    write(tmp_path, [*room_names(*rooms), "alone_s1_m1.wav"])
    parts = {split: open_rooms(tmp_path, split) for split in SPLITS}
    assert [len(parts[split].rooms) for split in SPLITS] == [5, 2, 3]
    assert sorted(room for part in parts.values() for room in part.rooms) == rooms
    assert {name: room for part in parts.values() for name, room in part.rooms.items()}.keys() == set(rooms)
    assert len(set.union(*map(files_of, parts.values()))) == 30


def test_rooms_that_are_parted_are_taken_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, [f"{split}/{name}" for split in SPLITS for name in room_names(f"{split} hall")])
    for split in SPLITS:
        found = open_rooms(tmp_path, split)
        assert list(found.rooms) == [f"{split} hall"]
        assert found.describe() == MeasuredRooms(tmp_path / split).describe()


def test_without_dev_its_rooms_come_out_of_train(tmp_path: Path) -> None:
    write(tmp_path, [f"train/{name}" for name in room_names("a", "b", "c", "d")])
    write(tmp_path, [f"test/{name}" for name in room_names("e")])
    train, dev, test = (set(open_rooms(tmp_path, split).rooms) for split in SPLITS)
    assert train | dev == set("abcd") and not train & dev and dev and train and test == {"e"}


def test_folders_are_rooms(tmp_path: Path) -> None:
    """Two folders with files of the same names are two rooms, however files are named."""
    names = ("1.wav", "2.wav", "x_s1_m1.w64", "x_s2_m1.au")
    write(tmp_path, [f"{room}/{name}" for room in ("kitchen", "hall") for name in names])
    assert set(MeasuredRooms(tmp_path).rooms) == {"kitchen", "kitchen/x", "hall", "hall/x"}
    write(tmp_path / "flat", ["dirha_T1_O6_LA3.wav", "deep/dirha_T1_O6_LA4.wav"])
    assert set(MeasuredRooms(tmp_path / "flat").rooms) == {parse_name("dirha_T1_O6_LA3")[0]}


@pytest.mark.parametrize(
    "names, split, words",
    [
        ([], "test", "no room with two"),
        (room_names("hall"), "test", r"1 rooms .*\(hall\) are too few to part into those of train, dev, test"),
        (room_names("hall"), "train", "too few"),
        (room_names("hall", "cellar"), "train", "2 rooms .*cellar, hall.*folders train/, dev/ and test/"),
        ([f"test/{name}" for name in room_names("hall")], "dev", "no impulse responses for dev.*dev"),
        ([f"test/{name}" for name in room_names("hall")], "train", "no impulse responses for train"),
        ([f"train/{name}" for name in room_names("hall")], "test", "no impulse responses for test"),
        ([f"{s}/{n}" for s in ("train", "test") for n in room_names(s)], "dev", "1 rooms .* of train, dev"),
    ],
)
def test_rooms_that_cannot_be_parted(tmp_path: Path, names: List[str], split: str, words: str) -> None:
    write(tmp_path, names)
    with pytest.raises(DataError, match=words) as error:
        open_rooms(tmp_path, split)
    assert error.value.remedy and str(tmp_path) in str(error.value.file)


def test_two_rooms_are_enough_for_dev_and_test(tmp_path: Path) -> None:
    write(tmp_path, room_names("hall", "cellar"))
    dev, test = (set(open_rooms(tmp_path, split).rooms) for split in ("dev", "test"))
    assert dev | test == {"hall", "cellar"} and len(dev) == len(test) == 1


# ------------------------------------------------------------------ MUSAN and RIRS_NOISES


@pytest.fixture(scope="module")
def musan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the real layout; the folder that holds musan/."""
    root = tmp_path_factory.mktemp("slr17")
    names = [f"music/fma/music-fma-{n:04}.wav" for n in range(10)]
    names += [f"noise/free-sound/noise-free-sound-{n:04}.wav" for n in range(10)]
    names += [f"speech/librivox/speech-librivox-{n:04}.wav" for n in range(5)]
    write(root / "musan", names)
    lines = "".join(f"music-fma-{n:04} electronic N Someone\n" for n in range(10))
    (root / "musan" / "music" / "fma" / "ANNOTATIONS").write_text(lines)
    (root / "musan" / "README").write_text("")
    return root


@pytest.fixture(scope="module")
def rirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("slr28")
    real = [f"RVB2014_type1_rir_{room}_{place}.wav" for room in ("largeroom1", "smallroom2")
            for place in ("near_angla", "far_angla")]  # fmt: skip
    real += [f"RWCP_type2_rir_cirline_{room}_imp{n}.wav" for room in ("e1a", "jr1", "ofc") for n in ("010", "020")]
    real += [f"RWCP_type4_rir_p{n}r.wav" for n in (30, 40)]
    real += [f"RVB2014_type1_noise_largeroom1_{n}.wav" for n in range(1, 4)]
    real += [f"RWCP_type1_noise_{room}.wav" for room in ("aircon", "booth")]
    names = [f"real_rirs_isotropic_noises/{name}" for name in real]
    names += [f"pointsource_noises/noise-free-sound-{n:04}.wav" for n in range(10)]
    for size in ("small", "medium", "large"):
        names += [f"simulated_rirs/{size}room/Room00{r}/Room00{r}-0000{n}.wav" for r in (1, 2) for n in (1, 2)]
    write(root / "RIRS_NOISES", names)
    return root


def test_musan(musan: Path) -> None:
    for source in (musan, musan / "musan"):
        train, dev, test = (open_noises(source, split) for split in SPLITS)
        assert set(train.kinds) == set(test.kinds) == {"music", "noise", "speech"}
        assert len(test) == 5 and names_of(train) == names_of(dev) and not names_of(train) & names_of(test)
        assert len(train) + len(test) == 25 and all("fma" in n.name for n in train.kinds["music"])


def test_musan_through_lhotse_is_the_same(musan: Path) -> None:
    for split in SPLITS:
        wanted = open_noises(musan / "musan", split)
        for data in (musan, musan / "musan"):
            found = open_noises("lhotse:musan", split, data)
            assert found.describe() == wanted.describe() and found.kinds == wanted.kinds
    music = open_noises("lhotse:musan/music", "train", musan)
    assert set(music.kinds) == {"music"} and len(music) == 7


def test_a_musan_that_is_not_whole(musan: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="musan is not there.*openslr 17"):
        open_noises("lhotse:musan", "train", tmp_path)
    write(tmp_path / "musan", ["music/fma/a.wav", "noise/b.wav", "speech/c.wav"])
    (tmp_path / "musan" / "music" / "fma" / "ANNOTATIONS").write_text("gone electronic N Someone\n")
    with pytest.raises(DataError, match="musan fails on music.*unpack") as error:
        open_noises("lhotse:musan", "train", tmp_path)
    assert error.value.remedy
    with pytest.raises(ConfigError, match="lhotse:musan has no rooms.*rir_noise"):
        open_rooms("lhotse:musan", "train", musan)


def test_noises_of_rirs_noises(rirs: Path) -> None:
    for source in (rirs, rirs / "RIRS_NOISES"):
        train, dev, test = (open_noises(source, split) for split in SPLITS)
        assert names_of(train) == names_of(dev) and not names_of(train) & names_of(test)
        everything = names_of(train) | names_of(test)
        assert len(everything) == 15 and not any("_rir_" in name for name in everything)
        room = {name for name in everything if "largeroom1" in name}
        assert len(room & names_of(test)) in (0, 3)
        assert set(train.kinds) | set(test.kinds) == {"pointsource", "isotropic"}
    for split in SPLITS:
        assert open_noises("lhotse:rir_noise", split, rirs).kinds == open_noises(rirs, split).kinds


def test_rooms_of_rirs_noises(rirs: Path) -> None:
    """Training has the simulated rooms, dev and test real ones, each its own."""
    for opened in (lambda split: open_rooms(rirs, split), lambda split: open_rooms("lhotse:rir_noise", split, rirs)):
        train, dev, test = map(opened, SPLITS)
        assert set(train.rooms) == {f"{size}room Room00{r}" for size in ("small", "medium", "large") for r in (1, 2)}
        real = {"RVB2014 largeroom1", "RVB2014 smallroom2", "RWCP e1a", "RWCP jr1", "RWCP ofc", "RWCP_type4 rir"}
        assert set(dev.rooms) | set(test.rooms) == real and not set(dev.rooms) & set(test.rooms)
        assert len(test.rooms) >= len(dev.rooms) >= 2
        assert not any("noise" in Path(path).stem for path in files_of(dev) | files_of(test))
        assert test.describe() == open_rooms(rirs, "test").describe()
        place = test.open(test.choose(stable_rng(1)), 8000).place(stable_rng(2), 1)
        assert len(set(place.description["responses"])) == 2


@pytest.mark.parametrize("part", ["real_rirs_isotropic_noises", "simulated_rirs"])
def test_where_one_sort_of_rooms_is_unpacked_it_is_parted(rirs: Path, tmp_path: Path, part: str) -> None:
    (tmp_path / "RIRS_NOISES").mkdir()
    (tmp_path / "RIRS_NOISES" / part).symlink_to(rirs / "RIRS_NOISES" / part)
    for data in (None, tmp_path):
        source = tmp_path if data is None else "lhotse:rir_noise"
        parts = [set(open_rooms(source, split, data).rooms) for split in SPLITS]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 6 and all(parts)
    if part == "simulated_rirs":
        with pytest.raises(DataError, match="no noises in RIRS_NOISES"):
            open_noises(tmp_path, "test")


def test_the_list_beside_the_files_says_which_room(tmp_path: Path) -> None:
    folder = tmp_path / "real_rirs_isotropic_noises"
    names = [f"RWCP_type1_rir_cirline_e1a_imp{n}.wav" for n in range(4)]
    write(folder, names)
    lines = [f"--rir-id {n} --room-id {'north' if n < 2 else 'south'} RIRS_NOISES/{folder.name}/{name}"
             for n, name in enumerate(names)]  # fmt: skip
    (folder / "rir_list").write_text("\n".join([*lines, "", "--rir-id 9"]) + "\n")
    rooms = open_rooms(tmp_path, "test").rooms, open_rooms(tmp_path, "dev").rooms
    assert {name for part in rooms for name in part} == {"north", "south"}


@pytest.mark.parametrize(
    "name, room",
    [
        ("RVB2014_type2_rir_mediumroom2_near_anglb", "RVB2014 mediumroom2"),
        ("RWCP_type1_rir_cirline_jr2_imp090", "RWCP jr2"),
        ("RWCP_type3_rir_circle_e1c_imp_rev", "RWCP e1c"),
        ("RWCP_type4_rir_p30r", "RWCP_type4 rir"),
        ("air_type1_air_binaural_lecture_0_1", "air lecture"),
        ("air_type1_air_binaural_aula_carolina_1_1_90_3", "air aula_carolina"),
        ("air_type1_air_phone_bt_corridor_hfrp", "air corridor"),
        ("air_type1_air_phone_stairway1_hhp", "air stairway1"),
        ("some_rir", "some_rir"),
    ],
)
def test_names_of_real_rooms(name: str, room: str) -> None:
    assert [response.room for response in as_real([Path(f"{name}.wav")], Path("."))] == [room]


# ------------------------------------------------------------------ AN4's noises and rooms, and what is made of them


def test_the_shared_noises_and_rooms_are_taken_as_before(shared_data: Path) -> None:
    for split, folder in (("train", "train"), ("dev", "train"), ("test", "test")):
        noises, wanted = open_noises(shared_data / "noise", split), shared_data / "noise" / folder
        assert noises.kinds == NoiseLibrary.from_folder(wanted).kinds and len(names_of(noises)) > 50
        assert names_of(noises) == {str(path.relative_to(wanted)) for path in wanted.glob("*/*.flac")}
    for split in SPLITS:
        rooms, known = open_rooms(shared_data / "rir", split), MeasuredRooms(shared_data / "rir" / split)
        assert rooms.rooms == known.rooms and rooms.describe() == known.describe()
    text = json.dumps(open_rooms(shared_data / "rir", "dev").describe())
    assert "dirha_T3_O3_LA1" in text and "K1L" not in text


def test_twins_from_sources(tmp_path: Path, musan: Path, rirs: Path) -> None:
    """From the folder to the twin, at 8 kHz, with containers of all sorts among the noises."""
    rate = 8000
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(rate), rate)
    recording = Recording("a", [AudioSource("file", [0], str(tmp_path / "a.wav"))], rate, rate, 1.0)
    cuts = CutSet.from_cuts([MonoCut("a", 0.0, 1.0, 0, recording=recording)])
    endings = "wav flac ogg au aiff caf w64 mp3 voc".split()
    mixed = write(tmp_path / "mixed", [f"{number}.{ending}" for number, ending in enumerate(endings)])
    assert len(scan_noises(mixed)) == 9
    rooms = SimulatedRooms(1, number=2, rt60=(0.2, 0.3))
    for number, source in enumerate((musan, rirs, mixed)):
        for split in SPLITS:
            options = {"noises": open_noises(source, split), "seed": number, "out_dir": tmp_path / f"{number}{split}"}
            (twin,) = make_noisy(cuts, rooms=rooms, rate=rate, **options)
            assert set(twin.custom["noises"]) <= names_of(options["noises"]) and twin.sampling_rate == rate
            (twin,) = make_rerecorded(cuts, open_rooms(rirs, split), rate=rate, **options)
            assert twin.custom["room"] in open_rooms(rirs, split).rooms
