"""The store of soft targets: what it holds, kills and resumes, what is refused and why, and Lhotse as a reader."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kill_tools import Killed, killed_before_rename, snapshot
from lhotse import CutSet
from lhotse.utils import fastcopy
from toy_targets import ABOUT, CUTS, OPTIONS, logits_of, make_cut, teacher

from hybrid.data.arrays import read_complete, write_arrays
from hybrid.data.target_store import SoftTargets, open_targets
from hybrid.data.targets import TargetsAbout, write_targets
from hybrid.data.topk_codec import Codec, top_k
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import Problems, write_json
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.model_io import save_model
from hybrid.parallel import SerialExecutor, WorkerPool

CODEC = Codec(300, 8)
IDS = [cut.id for cut in CUTS]


def packed_of(cut) -> np.ndarray:
    return CODEC.encode(*top_k(logits_of(cut), 8))


def check_whole(folder: Path, cuts=CUTS) -> None:
    found = open_targets(folder, ABOUT).read_all()
    assert list(found) == [cut.id for cut in cuts]
    for cut in cuts:
        np.testing.assert_array_equal(found[cut.id], packed_of(cut))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("targets")
    assert write_targets(folder, CUTS, teacher, ABOUT, **OPTIONS) == len(CUTS)
    return folder


def test_round_trip(written):
    check_whole(written)
    store = open_targets(written, ABOUT)
    assert (len(store), store.about, store.codec, store.k) == (len(CUTS), ABOUT, CODEC, 8)
    assert [cut for cut, _ in store.sequential()] == CUTS
    last = sorted((written / "shards").iterdir())[-1]
    assert last.name == "targets.000002.tar.gz"
    assert last.read_bytes()[3:8] == bytes(5)  # no name and no time: the same targets are the same bytes


def test_lhotse_reads_it_and_slices_it_in_time(tmp_path):
    cuts = [make_cut(number, start=1.5) for number in range(7)]
    write_targets(tmp_path, cuts, teacher, ABOUT, **OPTIONS)
    read = CutSet.from_shar(in_dir=str(tmp_path / "shards"))
    for cut, original in zip(read, cuts, strict=True):
        assert (cut.id, cut.start) == (original.id, 1.5)
        expected = packed_of(original)
        assert cut.targets.frame_shift == 0.03
        np.testing.assert_array_equal(cut.load_targets(), expected)
        np.testing.assert_array_equal(cut.truncate(offset=0.15, duration=0.3).load_targets(), expected[5:15])


def test_many_at_once_within_a_shard(tmp_path):
    calls = []

    def compute(cuts):
        calls.append([cut.id for cut in cuts])
        return teacher(cuts)

    write_targets(tmp_path, CUTS, compute, ABOUT, **OPTIONS)
    assert calls == [IDS[0:2], IDS[2:4], IDS[4:5], IDS[5:7], IDS[7:9], IDS[9:10], IDS[10:12]]
    write_targets(tmp_path, CUTS, compute, ABOUT, **OPTIONS)
    assert len(calls) == 7  # nothing to do
    write_targets(tmp_path, CUTS, compute, replace(ABOUT, teacher="c" * 64), **OPTIONS)
    assert len(calls) == 14


def test_same_bytes_in_an_executor(tmp_path, written):
    write_targets(tmp_path / "serial", CUTS, teacher, ABOUT, executor=SerialExecutor(), **OPTIONS)
    assert snapshot(tmp_path / "serial") == snapshot(written)
    with WorkerPool(2) as executor:
        write_targets(tmp_path / "pool", CUTS, teacher, ABOUT, executor=executor, **OPTIONS)
    assert snapshot(tmp_path / "pool") == snapshot(written)


@pytest.mark.parametrize("moment", range(7))
def test_kill_in_any_batch(tmp_path, written, moment):
    """Seven batches in three shards of three, three and one: nothing lost, nothing twice, the same bytes."""
    calls = []

    def compute(cuts):
        if len(calls) == moment:
            raise Killed
        calls.append(cuts)
        return teacher(cuts)

    with pytest.raises(Killed):
        write_targets(tmp_path, CUTS, compute, ABOUT, **OPTIONS)
    with pytest.raises(DataError, match="not finished"):
        open_targets(tmp_path, ABOUT)
    again = []
    write_targets(tmp_path, CUTS, lambda cuts: again.append(cuts) or teacher(cuts), ABOUT, **OPTIONS)
    assert len(again) == 7 - 3 * (moment // 3)
    assert snapshot(tmp_path) == snapshot(written)


def test_kill_before_any_rename(tmp_path, written, monkeypatch):
    expected = snapshot(written)
    assert len(expected) > 5
    for moment in range(len(expected)):
        folder = tmp_path / str(moment)
        with killed_before_rename(monkeypatch, moment):
            write_targets(folder, CUTS, teacher, ABOUT, **OPTIONS)
        (folder / "shards" / ".targets.000001.tar.gz.4711.tmp").write_bytes(b"half")  # what a real kill leaves
        write_targets(folder, CUTS, teacher, ABOUT, **OPTIONS)
        assert snapshot(folder) == expected


def test_sigkill_and_resume(tmp_path, written):
    """One process after the other is killed in the second batch of the second shard, the third goes to the end."""
    project = Path(__file__).resolve().parent.parent
    command = [sys.executable, str(project / "tests" / "toy_targets.py"), str(tmp_path)]  # and when to kill itself
    environment = {**os.environ, "PYTHONPATH": str(project)}
    for batches in ("4", "1"):
        killed = subprocess.run([*command, batches], env=environment, check=False, timeout=120)
        assert killed.returncode == -signal.SIGKILL
        assert len(list((tmp_path / "marks").iterdir())) == 1
        with pytest.raises(DataError, match="not finished"):
            open_targets(tmp_path, ABOUT)
    subprocess.run([*command, "4"], env=environment, check=True, timeout=120)
    assert snapshot(tmp_path) == snapshot(written)


def test_what_cannot_be_used_is_named(tmp_path):
    """Left out of the result, an error in it, logits that are not finite, no frames; and a batch that fails whole."""
    absent, told, infinite, empty, raises = (CUTS[i].id for i in (0, 3, 4, 7, 9))

    def compute(cuts):
        if raises in [cut.id for cut in cuts]:
            raise DataError("the audio file is truncated", file="x.wav")
        found = teacher([cut for cut in cuts if cut.id != absent])
        if told in found:
            found[told] = DataError("too noisy", file="y.wav")
        if infinite in found:
            found[infinite][3, 2] = np.nan
        if empty in found:
            found[empty] = found[empty][:0]
        return found

    rows = []
    for _ in range(2):  # the second run keeps everything, and names the same
        problems = Problems(tmp_path / "problems.jsonl", "targets")
        assert write_targets(tmp_path / "set", CUTS, compute, ABOUT, problems=problems, **OPTIONS) == 7
        rows.append([(row["utterance"], row["reason"], row["file"]) for row in problems.rows])
    assert rows[0] == rows[1] == [
        (absent, "nothing was computed for it", None),
        (told, "too noisy", "y.wav"),
        (infinite, "logits are not finite", None),
        (empty, "the teacher gives no frames", None),
        (raises, "the audio file is truncated", "x.wav"),
    ]
    check_whole(tmp_path / "set", [cut for number, cut in enumerate(CUTS) if number not in (0, 3, 4, 7, 9)])
    with pytest.raises(DataError, match="nothing was computed") as caught:
        write_targets(tmp_path / "strict", CUTS, compute, ABOUT, **OPTIONS)
    assert caught.value.utterance == absent


@pytest.mark.parametrize(
    "compute, about, options, error, what",
    [
        (lambda cuts: {c.id: logits_of(c, 299) for c in cuts}, ABOUT, {}, ModelError, "20, 299.*300.* are wanted"),
        (lambda cuts: {"x": logits_of(cuts[0])}, ABOUT, {}, ModelError, "not asked for.*utterance: x"),
        (teacher, replace(ABOUT, k=301), {}, ConfigError, "301 highest of 300"),
        (teacher, replace(ABOUT, kind="lattices"), {}, ConfigError, "kind 'lattices'"),
        (teacher, ABOUT, {"batch": 0}, ConfigError, "batch is 0"),
    ],
)
def test_defects_are_not_problems_of_the_data(tmp_path, compute, about, options, error, what):
    problems = Problems(tmp_path / "p", "targets")
    with pytest.raises(error, match=what):
        write_targets(tmp_path / "set", CUTS, compute, about, problems=problems, **{**OPTIONS, **options})


STALE = [
    ({"teacher": "c" * 64}, r"of another teacher \(aaaaaaaaaaaa, wanted cccccccccccc\)"),
    ({"senones": "c" * 64}, r"of another tree or topology \(bbbbbbbbbbbb, wanted cccccccccccc\)"),
    ({"num_pdfs": 299}, "of 300 pdfs, wanted 299"),
    ({"frame_shift": 0.01}, "at 30 ms a frame, wanted 10 ms"),
    ({"head": "xent"}, "of the output 'logits', wanted 'xent'"),
    ({"kind": "occupancies"}, "of the kind 'logits', wanted 'occupancies'"),
    ({"graph": "other"}, "of another denominator"),
    ({"k": 9}, "the 8 highest of a frame, wanted 9"),
    ({"teacher": "c" * 64, "k": 20}, "teacher .*; the 8 highest"),
]


@pytest.mark.parametrize("changed, what", STALE)
def test_what_does_not_fit_is_refused(written, changed, what):
    with pytest.raises(ModelError, match=what) as caught:
        open_targets(written, replace(ABOUT, **changed))
    assert caught.value.file == str(written)
    assert "write the targets again" in str(caught.value)


def test_a_smaller_k_is_fine(written):
    store = open_targets(written, replace(ABOUT, k=3))
    cut, packed = next(store.sequential())
    soft = store.soft(packed)
    assert soft.decode()[0].shape == (len(packed), 3)
    np.testing.assert_array_equal(soft.decode()[0], top_k(logits_of(cut), 3)[0])
    assert open_targets(written).about == ABOUT  # whatever it holds


def edit_complete(folder: Path, **changes) -> None:
    complete = json.loads((folder / "complete.json").read_text())
    write_json(folder / "complete.json", {**complete, **changes})


def test_what_is_no_store(tmp_path, written):
    with pytest.raises(DataError, match="no such set"):
        open_targets(tmp_path / "none", ABOUT)
    write_arrays(tmp_path / "f", [(CUTS[0], {"f": np.zeros((3, 2))})], names=["f"], frame_shift=0.01)
    with pytest.raises(DataError, match="holds no soft targets"):
        open_targets(tmp_path / "f", ABOUT)
    write_targets(tmp_path / "set", CUTS, teacher, ABOUT, **OPTIONS)
    settings = read_complete(tmp_path / "set")["settings"]
    edit_complete(tmp_path / "set", settings={**settings, "codec": {**settings["codec"], "format": 2}})
    with pytest.raises(DataError, match="format 2"):
        open_targets(tmp_path / "set", ABOUT)
    (tmp_path / "set" / "complete.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        open_targets(tmp_path / "set", ABOUT)


@pytest.mark.parametrize("name", ["cuts.000001.jsonl.gz", "targets.000001.tar.gz"])
@pytest.mark.parametrize("damage, when", [("remove", "open"), ("truncate", "open"), ("flip", "read")])
def test_a_damaged_shard_is_named_and_mended(tmp_path, written, name, damage, when):
    write_targets(tmp_path, CUTS, teacher, ABOUT, **OPTIONS)
    path = tmp_path / "shards" / name
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[:-10])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(DataError, match="missing|damaged") as caught:
        store = open_targets(tmp_path, ABOUT)
        assert when == "read"
        store.read_all()
    assert caught.value.file == str(path)
    write_targets(tmp_path, CUTS, teacher, ABOUT, **OPTIONS)
    assert snapshot(tmp_path) == snapshot(written)


def test_orders(written):
    store = open_targets(written, ABOUT)

    def order(*arguments, **options):
        return [cut.id for cut, _ in store.shuffled(*arguments, **options)]

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in range(4)}) == 8
    assert sorted(order(1, 0)) == sorted(IDS)
    shards = [IDS[0:5], IDS[5:10], IDS[10:12]]
    found = order(3, 1)
    while found:  # one shard after the other
        shard = next(shard for shard in shards if found[0] in shard)
        assert sorted(found[: len(shard)]) == sorted(shard)
        del found[: len(shard)]
    wholes = ["".join(order(3, epoch, within=False)) for epoch in range(6)]
    assert len(set(wholes)) > 1 and all("".join(shard) in whole for shard in shards for whole in wholes)
    packed = dict((cut.id, packed) for cut, packed in store.shuffled(5, 0))
    np.testing.assert_array_equal(packed[IDS[4]], packed_of(CUTS[4]))
    with pytest.raises(ConfigError, match="seed"):
        order(-1, 0)


def test_bytes_a_frame_with_everything(tmp_path):
    """At most 60 for 20 of 3000 senones, though no frame is like its neighbour here."""
    random = np.random.default_rng(0)
    about = replace(ABOUT, num_pdfs=3000, k=20)
    cuts = [fastcopy(make_cut(number), duration=3.0, supervisions=[]) for number in range(60)]

    def compute(cuts):
        return {cut.id: 3 * random.standard_normal((100, 3000), dtype=np.float32) for cut in cuts}

    write_targets(tmp_path, cuts, compute, about)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 30 < size / 6000 < 60


def test_soft_targets():
    logits = logits_of(CUTS[0])
    soft = SoftTargets(packed_of(CUTS[0]), CODEC)
    assert len(soft) == soft.num_frames == len(logits)
    for part, whole in zip(soft[5:9].decode(), soft.decode(), strict=True):
        np.testing.assert_array_equal(part, whole[5:9])
    few = soft.truncate(3)
    assert few[2:].decode()[1].shape == (len(logits) - 2, 3)
    assert np.shares_memory(few[2:4].packed, soft.packed)
    for do in (lambda: soft.truncate(9), lambda: few.truncate(4), lambda: soft.truncate(0)):
        with pytest.raises(ConfigError, match="targets a frame asked for"):
            do()
    with pytest.raises(DataError, match="in the place of packed targets"):
        SoftTargets(soft.packed[:, 1:], CODEC)
    with pytest.raises(TypeError):
        soft[3]


def make_model(folder: Path, seed: int = 0) -> None:
    def senones(path: Path) -> None:
        for name in ("phones", "topology", "tree"):
            write_json(path / f"{name}.json", {name: 1})
        write_json(path / "transitions.safetensors", 1)

    model = LstmModel(LstmConfig(4, 15, hidden=3, layers=1), seed)
    save_model(folder, model, config={"frame_shift": 0.03}, features={}, writers={"senones": senones})


def test_about_a_model(tmp_path):
    make_model(tmp_path / "m")
    about = TargetsAbout.of_model(tmp_path / "m", k=5, head="xent")
    assert (about.num_pdfs, about.frame_shift, about.k, about.head, about.kind) == (15, 0.03, 5, "xent", "logits")
    assert TargetsAbout.of_model(tmp_path / "m").k == 15  # all there are
    assert TargetsAbout.from_dict(json.loads(json.dumps(about.to_dict()))) == about
    senones = tmp_path / "m" / "senones"
    for name in ("priors.safetensors", "transitions.safetensors"):  # estimated anew for the same senones
        (senones / name).write_bytes(b"new")
    assert TargetsAbout.of_model(tmp_path / "m", k=5, head="xent") == about
    write_json(senones / "tree.json", {"tree": 2})
    other = TargetsAbout.of_model(tmp_path / "m", k=5, head="xent")
    assert other.senones != about.senones and other.teacher == about.teacher
    make_model(tmp_path / "n", seed=1)
    other = TargetsAbout.of_model(tmp_path / "n", k=5, head="xent")
    assert other.senones == about.senones and other.teacher != about.teacher


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "senones/tree.json"])
def test_about_half_a_model(tmp_path, name):
    make_model(tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(ModelError, match="run the stage that trains") as caught:
        TargetsAbout.of_model(tmp_path / "m")
    assert caught.value.file == str(tmp_path / "m" / name)


def test_about_another_configuration(tmp_path):
    make_model(tmp_path / "m")
    write_json(tmp_path / "m" / "config.json", {"model": {"dim": 3}})
    with pytest.raises(ModelError, match="does not say model.num_pdfs"):
        TargetsAbout.of_model(tmp_path / "m")
