"""Manifests of `hybrid label` and `hybrid pack` with faults: what is bad is named, all else is labelled and packed."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import PROJECT
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

from hybrid.data.features import LogMel, config_to_json
from hybrid.data.target_store import open_targets
from hybrid.io import read_json, read_jsonl, write_json, write_jsonl
from hybrid.label.reading import read_manifest
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.model_io import save_model

RATE = 16000


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A model's folder, as far as labelling reads it."""
    folder = tmp_path_factory.mktemp("teacher") / "model"

    def senones(path):
        for name in ("phones", "topology", "tree"):
            write_json(path / f"{name}.json", {name: 1})

    features = {"logmel": config_to_json(LogMel()), "cmvn": "speaker", "frame_subsampling_factor": 3}
    model = LstmModel(LstmConfig(192, 5, hidden=3, layers=1), 0)
    save_model(folder, model, config={"frame_shift": 0.03}, features=features, writers={"senones": senones})
    return folder


def cut_of(folder, name):
    path = folder / f"{name}.wav"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        samples = np.random.default_rng(len(name)).uniform(-0.5, 0.5, RATE // 2)
        soundfile.write(path, samples, RATE)
    recording = Recording(name, [AudioSource("file", [0], str(path))], RATE, RATE // 2, 0.5, channel_ids=[0])
    return MonoCut(name, 0.0, 0.5, 0, [SupervisionSegment(name, name, 0.0, 0.5, speaker="s")], recording=recording)


def changed(cut, **values):
    return {**cut.to_dict(), **values}


def test_relative_paths_are_from_where_one_stands_else_from_beside_the_manifest(tmp_path, monkeypatch):
    folder = tmp_path / "made"
    cut_of(folder, "one")
    row = cut_of(folder, "one").to_dict()
    row["recording"]["sources"][0]["source"] = "../made/one.wav"
    write_jsonl(tmp_path / "lists" / "cuts.jsonl", [row])
    monkeypatch.chdir(tmp_path)

    def found():
        (cut,) = read_manifest(tmp_path / "lists" / "cuts.jsonl").cuts
        return cut.recording.sources[0].source

    assert found() == str(folder / "one.wav")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert found().endswith("made/one.wav") and "lists" not in found()
    row["recording"]["sources"][0]["source"] = "gone.wav"
    write_jsonl(tmp_path / "lists" / "cuts.jsonl", [row])
    assert found() == str(tmp_path / "here" / "gone.wav")


# name: what is done to one of three cuts -> what is said of it
BAD_CUTS = {
    "channel": (lambda cut: changed(cut, channel=1), "no channel 1: the recording has 0"),
    "recording": (lambda cut: {k: v for k, v in cut.to_dict().items() if k != "recording"}, "the cut has no recording"),
    "late": (lambda cut: changed(cut, start=1.5), "the cut starts at 1.5 s, its recording is 0.5 s long"),
    "beyond": (lambda cut: changed(cut, duration=0.8), "the cut ends at 0.8 s, its recording is 0.5 s long"),
    "early": (lambda cut: changed(cut, start=-0.2), "the cut starts at -0.2 s"),
    "nan": (lambda cut: changed(cut, duration=float("nan")), "is nan s long"),
    "kind": (lambda cut: changed(cut, type="Cat"), "not a cut of Lhotse's.*Cat"),
    "field": (lambda cut: changed(cut, begin=1), "not a cut of Lhotse's.*begin"),
    "other": (lambda cut: cut.recording.to_dict(), "a recording, not a cut"),
    "twice": (lambda cut: changed(cut, id="a"), "a cut of this id stands before it"),
    "gone": (
        lambda cut: json.loads(json.dumps(cut.to_dict()).replace("b.wav", "gone.wav")), "no such audio file",
    ),
}  # fmt: skip


def write_bad(folder, name):
    """A manifest of the cuts a, b and c, of which b is bad."""
    first, second, third = (cut_of(folder / "audio", x) for x in "abc")
    rows = [first.to_dict(), BAD_CUTS[name][0](second), third.to_dict()]
    path = folder / f"{name}.jsonl.gz"
    with gzip.open(path, "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def hybrid(*words, code):
    program = [sys.executable, "-m", "hybrid.cli", *map(str, words), "--jobs", "1"]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=PROJECT)
    assert ended.returncode == code and "defect" not in ended.stderr, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_a_bad_cut_stops_nothing_else(teacher, tmp_path):
    """Of each kind one, in a manifest of its own; and a good one after them."""
    manifests = [write_bad(tmp_path, name) for name in BAD_CUTS]
    good = tmp_path / "z_good.jsonl"
    write_jsonl(good, [cut_of(tmp_path / "audio", name).to_dict() for name in "ab"])
    out, bad, total = tmp_path / "out", len(BAD_CUTS), 3 * len(BAD_CUTS) + 2
    words = ["label", teacher, *manifests, good, "--out", out, "--device", "cpu"]
    said = hybrid(*words, code=1)
    assert f"{bad} of {total} cuts have no targets (why: *.problems.jsonl)" in said
    said = hybrid(*words, "--max-problems", "0.5", code=0)  # too few to be an error: said none the less
    assert said.splitlines()[-1] == f"{bad} of {total} cuts have no targets (why: *.problems.jsonl) in {out}"
    about = read_json(out / "label.json")
    assert (about["cuts"], about["problems"], about["failed"]) == (2 * bad + 2, bad, [])
    check_rows(out, "label")
    assert [cut.id for cut, _ in open_targets(out / "beyond").sequential()] == ["a", "c"]
    packed = tmp_path / "packed"
    words = ["pack", teacher, *manifests, good, "--targets", out, "--out", packed, "--max-problems", "0.5"]
    said = hybrid(*words, code=0)
    assert said.splitlines()[-1] == f"{bad} of {total} cuts are not packed (why: *.problems.jsonl) in {packed}"
    check_rows(packed, "pack")


def check_rows(out, stage):
    for name, (_, said) in BAD_CUTS.items():
        (row,) = read_jsonl(out / f"{name}.problems.jsonl")
        assert re.search(said, row["reason"]), name
        assert row["stage"] == stage and row["utterance"] and row["remedy"], name
        assert row["file"] or name == "recording", name


BAD_MANIFESTS = {
    "recordings": (lambda cut: cut.recording.to_dict(), "each row is a recording", "lhotse cut simple -r MANIFEST"),
    "supervisions": (
        lambda cut: cut.supervisions[0].to_dict(), "each row is a supervision",
        "lhotse cut simple -r RECORDINGS -s MANIFEST",
    ),
    "empty": (None, "no cuts in this manifest", None),
    "all_bad": (lambda cut: changed(cut, type="Cat"), "none of its 1 rows is a cut that can be used", None),
}  # fmt: skip


def test_a_bad_manifest_is_named_and_stops_nothing_else(teacher, tmp_path):
    cut = cut_of(tmp_path / "audio", "a")
    manifests = []
    for name, (row, _, _) in BAD_MANIFESTS.items():
        manifests.append(tmp_path / f"{name}.jsonl")
        write_jsonl(manifests[-1], [] if row is None else [row(cut)])
    manifests += [tmp_path / "broken.jsonl", tmp_path / "z_good.jsonl"]
    manifests[-2].write_text('{"id": \n')
    write_jsonl(manifests[-1], [cut.to_dict()])
    out, packed = tmp_path / "out", tmp_path / "packed"
    calls = {
        "have no targets": ["label", teacher, *manifests, "--out", out, "--device", "cpu"],
        "are not packed": ["pack", teacher, *manifests, "--targets", out, "--out", packed],
    }
    for bad, words in calls.items():
        said = hybrid(*words, code=1)
        names = [*BAD_MANIFESTS, "broken"]
        last = said.splitlines()[-1]
        assert f"5 of 6 manifests {bad}: {', '.join(names)}" in last
        lines = {line.split(": ")[0].split()[-1]: line for line in said.splitlines()[:6]}
        for name, (_, what, remedy) in BAD_MANIFESTS.items():
            assert what in lines[name] and f"{name}.jsonl" in lines[name] and (remedy or "") in lines[name]
        assert "not a manifest of cuts: line 1" in lines["broken"] and "z_good: 1 cuts" in lines["z_good"]
    (row,) = read_jsonl(out / "all_bad.problems.jsonl")
    assert row["utterance"] == "a" and "Cat" in row["reason"]
    write_jsonl(tmp_path / "new.jsonl", [cut.to_dict()])
    said = hybrid("pack", teacher, tmp_path / "new.jsonl", "--targets", out, "--out", packed, code=1)
    assert "new: no targets of this manifest" in said and "Remedy: label it first: hybrid label" in said


@pytest.mark.parametrize("end", [".jsonl", ".jsonl.gz"])
def test_rows_come_in_their_order(tmp_path, end):
    names = ["b", "c", "a"]
    write_jsonl(tmp_path / f"m{end}", [cut_of(tmp_path / "audio", name).to_dict() for name in names])
    found = read_manifest(tmp_path / f"m{end}")
    assert [cut.id for cut in found.cuts] == names and found.problems == {}
