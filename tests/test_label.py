"""`hybrid label` and `hybrid pack`: manifests of speech become targets, and shards that a student is trained on."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch
from conftest import PROJECT
from little_runs import ENVIRONMENT, demo, done, finish
from mini_demo import SETTINGS
from recipe_tools import recipe_run

from hybrid.data.batches import IGNORE, Utterance
from hybrid.data.stream import open_source
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import read_json, read_jsonl, write_jsonl
from hybrid.pipeline.packed import marks_of_sets
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import read_cuts, write_cuts
from hybrid.pipeline.shards import scheduled

pytestmark = pytest.mark.slow

STUDENT = (
    "prepare.unlabelled_minutes=0.5", "student.enabled=true", "student.baseline=false", "student_lfmmi.soft=1.0",
    "scheduled.enabled=true", "scheduled.shard_size=5", "scheduled.chunks=unlabelled 100%",
)  # fmt: skip


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with teachers, targets, occupancies and shards."""
    folder = tmp_path_factory.mktemp("label") / "exp"
    finish(demo(folder, *STUDENT, stop="occupancies"))
    return folder


def hybrid(*words: object, code: int = 0) -> str:
    """What the command prints."""
    program = [sys.executable, "-m", "hybrid.cli", *map(str, words)]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=PROJECT, env=ENVIRONMENT)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def label(*words: object, code: int = 0) -> str:
    return hybrid("label", *words, "--jobs", "1", code=code)


@pytest.mark.parametrize("kind, stage", [("logits", "targets"), ("occupancies", "occupancies")])
def test_label_writes_what_the_stages_write(exp: Path, tmp_path: Path, kind: str, stage: str) -> None:
    """The same cuts, from audio: the same bytes, here gzipped."""
    manifest = exp / "augment" / "unlabelled.jsonl.gz"
    said = label(exp / "teacher_lfmmi" / "model", manifest, "--out", tmp_path, "--kind", kind)
    assert f"the 20 highest of {read_json(tmp_path / 'label.json')['about']['num_pdfs']} {kind}" in said
    ours = tmp_path / "unlabelled" / "shards" / "targets.000000.tar.gz"
    theirs = exp / stage / "unlabelled" / "shards" / "targets.000000.tar"
    assert gzip.decompress(ours.read_bytes()) == theirs.read_bytes()
    written = ours.stat().st_mtime_ns
    assert "unlabelled: " in label(exp / "teacher_lfmmi" / "model", manifest, "--out", tmp_path, "--kind", kind)
    assert ours.stat().st_mtime_ns == written  # what is done is not done again


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_label_on_a_gpu_that_is_not_there(exp: Path, tmp_path: Path) -> None:
    said = label(
        exp / "teacher_lfmmi" / "model", exp / "augment" / "unlabelled.jsonl.gz", "--out", tmp_path / "out",
        "--device", "cuda", code=2,
    )  # fmt: skip
    assert "device is cuda, but torch sees none" in said and not (tmp_path / "out").exists()


def test_label_goes_on_past_a_broken_manifest(exp: Path, tmp_path: Path) -> None:
    cuts = list(read_cuts(exp / "augment" / "unlabelled.jsonl.gz"))[:6]
    gone = cuts[5].to_dict()
    gone["recording"]["sources"][0]["source"] = str(tmp_path / "gone.wav")
    rows = [json.dumps(cut.to_dict()) for cut in cuts[:5]] + [json.dumps(gone)]
    (tmp_path / "good.jsonl").write_text("\n".join(rows[:3]) + "\n")
    (tmp_path / "some.jsonl").write_text("\n".join(rows[3:]) + "\n")
    (tmp_path / "broken.jsonl").write_text("{\n")
    manifests, out = [tmp_path / f"{name}.jsonl" for name in ("broken", "good", "some")], tmp_path / "out"
    said = label(exp / "teacher_lfmmi" / "model", *manifests, "--out", out, code=1)
    assert "1 of 3 manifests have no targets: broken" in said
    about = read_json(out / "label.json")
    assert about["cuts"] == 5 and about["problems"] == 1 and about["failed"] == ["broken"]
    (row,) = read_jsonl(out / "some.problems.jsonl")
    assert row["utterance"] == cuts[5].id and "gone.wav" in row["file"]


@pytest.fixture(scope="module")
def packed(exp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/targets, of the unlabelled speech; FOLDER/clean and noisy, shards of it and of its noisy copies."""
    folder = tmp_path_factory.mktemp("packed")
    teacher = exp / "teacher_lfmmi" / "model"
    for kind, name in (("clean", "unlabelled"), ("noisy", "unlabelled_noisy1")):
        (folder / "cuts" / kind).mkdir(parents=True)
        write_cuts(folder / "cuts" / kind / "some.jsonl.gz", read_cuts(exp / "augment" / f"{name}.jsonl.gz"))
    label(teacher, folder / "cuts" / "clean" / "some.jsonl.gz", "--out", folder / "targets")
    for kind in ("clean", "noisy"):
        said = pack(folder, kind, folder / kind, teacher)
        assert "some: " in said and "features in float32, 20 targets a frame" in said
    return folder


def pack(folder: Path, kind: str, out: Path, teacher: Path, *more: object, code: int = 0) -> str:
    words = [teacher, folder / "cuts" / kind / "some.jsonl.gz", "--targets", folder / "targets", "--out", out]
    return hybrid("pack", *words, "--dtype", "float32", "--shard-size", 4, "--jobs", 1, *more, code=code)


def held(*folders: Path) -> Dict[str, Utterance]:
    found: Dict[str, Utterance] = {}
    for source in map(open_source, folders):
        for index in range(len(source)):
            utterances = source.read(index)
            assert isinstance(utterances, list)
            found.update({u.id: u for u in utterances if isinstance(u, Utterance)})
    return found


def test_pack_makes_the_shards_that_the_stage_makes(exp: Path, packed: Path) -> None:
    """From audio and labels: the same features and targets, and what they are."""
    ours, theirs = held(packed / "clean" / "some", packed / "noisy" / "some"), held(exp / "shards" / "unlabelled")
    assert ours.keys() == theirs.keys() and len(ours) == 2 * len(read_cuts(packed / "cuts" / "clean" / "some.jsonl.gz"))
    for identifier, utterance in ours.items():
        other = theirs[identifier]
        assert np.array_equal(utterance.features, other.features)
        assert utterance.extra["clean_cut"] == other.extra["clean_cut"]
        assert np.array_equal(utterance.extra["soft"].packed, other.extra["soft"].packed)
        assert (utterance.pdfs == IGNORE).all() and len(utterance.pdfs) == utterance.num_frames
    settings = read_json(packed / "noisy" / "some" / "complete.json")["settings"]
    assert settings["features"] == read_json(exp / "teacher_lfmmi" / "model" / "features.json")
    assert settings["about"] == read_json(packed / "targets" / "label.json")["about"]


def test_pack_does_nothing_twice_and_mends_what_is_damaged(exp: Path, packed: Path, tmp_path: Path) -> None:
    teacher, out = exp / "teacher_lfmmi" / "model", tmp_path / "out"
    shutil.copytree(packed / "noisy", out)
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*.tar")}
    said = pack(packed, "noisy", out, teacher)
    assert files == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*.tar")} and files
    assert read_json(out / "pack.json") == {**read_json(packed / "noisy" / "pack.json"), "problems": 0}
    victim = out / "some" / "shards" / "features.000001.tar"
    victim.write_bytes(victim.read_bytes()[:-1000])
    again = pack(packed, "noisy", out, teacher)
    assert {path: path.read_bytes() for path in files} == {path: content for path, (content, _) in files.items()}
    assert [text.split(" in ")[0] for text in (said, again)] == 2 * [said.split(" in ")[0]]
    pack(packed, "noisy", out, teacher, "--dtype", "float16")  # other settings: made anew
    assert {u.features.dtype for u in held(out / "some").values()} == {np.dtype("float16")}


def test_a_student_is_trained_on_packed_speech(exp: Path, packed: Path, tmp_path: Path) -> None:
    shutil.copytree(exp, tmp_path / "exp")
    clean = shutil.copytree(packed / "clean", tmp_path / "clean")
    more = [
        *STUDENT, f'scheduled.sources=["more={clean}","more={packed / "noisy"}"]',
        "scheduled.chunks=2*(more 50%, labelled 100% @2)", 'decode.systems=["student_ce"]',
        "student.sequence_training=false", "student.hard_weight=0.5",
    ]  # fmt: skip
    said = finish(demo(tmp_path / "exp", *more))
    asked = {name for name, ran in done(said).items() if ran}
    assert asked == {"shards", "student_ce", "graph", "decode", "score", "report"}
    assert not any((exp / name / "model").exists() for name in ("ce", "lfmmi"))  # student.baseline
    assert {row["system"] for row in read_json(tmp_path / "exp" / "results.json")} == {"student_ce"}
    assert "1-2        more 50%, labelled 100% @2" in said
    frames = {name: held_frames(tmp_path / "exp" / "shards" / name) for name in ("labelled", "unlabelled")}
    rows = read_jsonl(tmp_path / "exp" / "student_ce" / "log.jsonl")
    heard = [row["frames"] for row in rows if row["split"] == "train"]
    assert sum(heard) == 2 * frames["labelled"] + frames["unlabelled"]  # more is the same speech
    dev = [row for row in rows if row["split"] == "dev"]
    assert dev and all(0 < row["frame_accuracy"] < 1 for row in dev)  # of its alignments
    assert not any(done(finish(demo(tmp_path / "exp", *more))).values())
    pack(packed, "clean", clean, exp / "teacher_lfmmi" / "model", "--shard-size", 6)
    again = finish(demo(tmp_path / "exp", *more, stop="student_ce"))
    assert "student_ce: its inputs have changed" in again


def held_frames(folder: Path) -> int:
    return sum(utterance.num_frames for utterance in held(folder).values())


def test_cuts_without_a_fitting_twin_are_named(exp: Path, packed: Path, tmp_path: Path) -> None:
    cuts = list(read_cuts(packed / "cuts" / "noisy" / "some.jsonl.gz"))[:6]
    rows = [cut.to_dict() for cut in cuts]
    rows[1]["custom"]["clean_cut"] = "nobody"
    longest = max(read_cuts(packed / "cuts" / "clean" / "some.jsonl.gz"), key=lambda cut: cut.duration)
    other = min(range(2, 6), key=lambda place: cuts[place].duration)
    rows[other]["custom"]["clean_cut"] = longest.id
    assert cuts[other].duration < longest.duration - 0.1
    (tmp_path / "cuts" / "odd").mkdir(parents=True)
    (tmp_path / "targets").symlink_to(packed / "targets")
    write_jsonl(tmp_path / "cuts" / "odd" / "some.jsonl.gz", rows)
    said = pack(tmp_path, "odd", tmp_path / "out", exp / "teacher_lfmmi" / "model", code=1)
    assert "2 of 6 cuts are not packed" in said and "set --max-problems higher" in said
    problems = {row["utterance"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "some.problems.jsonl")}
    assert problems.keys() == {cuts[1].id, cuts[other].id}
    assert problems[cuts[1].id].startswith("no targets of nobody in ")
    assert f"targets of {longest.id}: it should be as long" in problems[cuts[other].id]
    assert held(tmp_path / "out" / "some").keys() == {cut.id for cut in cuts} - problems.keys()
    assert "2 left out" in pack(tmp_path, "odd", tmp_path / "out", exp / "teacher_lfmmi" / "model", code=1)
    (tmp_path / "cuts" / "none").mkdir()
    write_jsonl(tmp_path / "cuts" / "none" / "some.jsonl.gz", rows[1:2])
    said = pack(tmp_path, "none", tmp_path / "none", exp / "teacher_lfmmi" / "model", code=1)
    assert "some: no utterances to pack" in said and "1 of 1 manifests are not packed: some" in said
    assert [row["utterance"] for row in read_jsonl(tmp_path / "none" / "some.problems.jsonl")] == [cuts[1].id]


def opened(exp: Path, *settings: str) -> RecipeRun:
    return recipe_run(exp, *SETTINGS, *STUDENT, *settings)


@pytest.mark.parametrize(
    ("source", "settings", "error", "said"),
    [
        ("more", [], ConfigError, "'more' in scheduled.sources.*write NAME=FOLDER"),
        ("more=FOLDER/nowhere", [], DataError, "no shards of hybrid pack in this folder .*nowhere"),
        ("more=FOLDER/targets", [], DataError, "not a set of hybrid pack"),
        ("more=FOLDER/killed", [], DataError, "is not finished"),
        ("more=FOLDER/clean", ["student.teacher=teacher_ce"], ModelError, "of another teacher"),
        ("more=FOLDER/clean", ["student.k=25"], ModelError, "the 20 highest of a frame, wanted 25"),
        ("more=FOLDER/clean", ["model.cmvn=none"], DataError, "cmvn 'speaker', wanted 'none'"),
        ("more=FOLDER/clean", ["scheduled.chunks=less 100%"], ConfigError, "the source 'less'"),
    ],
)
def test_sources_that_do_not_fit(
    exp: Path, packed: Path, tmp_path: Path, source: str, settings: List[str], error: type, said: str
) -> None:
    for path in packed.iterdir():
        (tmp_path / path.name).symlink_to(path)
    shutil.copytree(packed / "clean", tmp_path / "killed")
    (tmp_path / "killed" / "some" / "complete.json").unlink()
    text = source.replace("FOLDER", str(tmp_path))
    run = opened(exp, f'scheduled.sources=["{text}"]', "scheduled.chunks=more 100%", *settings)
    with pytest.raises(error, match=said):
        marks_of_sets(run)
        scheduled(run, 1000)


def test_fewer_targets_a_frame_than_are_stored(exp: Path, packed: Path) -> None:
    run = opened(exp, f'scheduled.sources=["more={packed}/clean"]', "scheduled.chunks=more 100%", "student.k=5")
    (item, *_) = scheduled(run, 1000).loader(0, 0, None, 1, 0, 1).take()
    assert {u.extra["soft"].decode()[0].shape[1] for u in item.load().utterances} == {5}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["MODEL/nowhere", "CUTS", "--targets", "TARGETS"], "nowhere/features.json). Remedy: give the folder of a"),
        (["MODEL", "CUTS", "--targets", "CUTS"], "no targets"),
        (["MODEL", "OTHER", "--targets", "TARGETS"], "1 of 1 manifests are not packed: unlabelled"),
        (["MODEL", "CUTS", "--targets", "TARGETS", "--shard-size", "0"], "--shard-size is below 1"),
        (["MODEL", "CUTS", "--targets", "TARGETS", "--out", "TARGETS"], "--out is the folder of the targets"),
    ],
)
def test_pack_says_what_is_wrong(exp: Path, packed: Path, tmp_path: Path, words: List[str], said: str) -> None:
    places: List[Tuple[str, Any]] = [
        ("MODEL", exp / "teacher_lfmmi" / "model"), ("CUTS", packed / "cuts" / "clean" / "some.jsonl.gz"),
        ("TARGETS", packed / "targets"), ("OTHER", exp / "augment" / "unlabelled.jsonl.gz"),
    ]  # fmt: skip
    for name, path in places:
        words = [word.replace(name, str(path)) for word in words]
    out = [] if "--out" in words else ["--out", str(tmp_path)]
    program = [sys.executable, "-m", "hybrid.cli", "pack", *words, *out, "--jobs", "1"]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=PROJECT, env=ENVIRONMENT)
    assert ended.returncode in (1, 2) and said in ended.stdout + ended.stderr, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
