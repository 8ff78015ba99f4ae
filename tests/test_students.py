"""Teacher and student end to end: no stage can read withheld transcripts, and what the students' stages leave."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import shutil
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from little_an4 import little_an4
from little_runs import command, contents, demo, done, finish
from recipe_tools import recipe_run

from benchmarks.runs import open_run
from hybrid.data.batches import IGNORE
from hybrid.errors import ConfigError, ModelError
from hybrid.io import read_json, read_jsonl
from hybrid.pipeline.network import dev_sets
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import read_cuts, set_list
from hybrid.pipeline.shards import SOURCES
from hybrid.pipeline.soft_data import soft_utterances, surest, untranscribed
from hybrid.pipeline.soft_targets import kind_of, read_soft, soft_sets, teacher_of

pytestmark = pytest.mark.slow

SETTINGS = [
    "run.jobs=1", "student.enabled=true", "corpus.dev_speakers=2", "corpus.labelled=0.34", "augment.speeds=[1.1]",
    "augment.noisy_copies=1", "augment.train_rooms=2", "gmm.last=mono", "gmm.mono.passes=6", "gmm.mono.gaussians=150",
    "senones.align_with=mono", "senones.leaves=40", "senones.min_count=5", "model.hidden=16", "model.layers=1",
    "model.dropout=0.0", "ce.trainer.epochs=1", "lfmmi.trainer.epochs=1", "lfmmi.lm_words=500",
    "teacher_ce.trainer.epochs=2", "teacher_lfmmi.trainer.epochs=2", "student_ce.trainer.epochs=1",
    *(f"{system}.trainer.warmup=2" for system in ("ce", "lfmmi")), "student_lfmmi.trainer.warmup=2",
    "student_lfmmi.trainer.epochs=1", "student_lfmmi.soft=1.0", "student.confident=0.7", "limits.problems=0.5",
    *(f"{system}.trainer.{setting}" for system in ("ce", "lfmmi") for setting in ("average=0", "keep_every=0")),
    "decode.beam=8", "decode.max_active=300", 'decode.tune_on=["dev"]', "decode.ce.scales=[0.5]",
    "decode.ce.penalties=[0.0]", "decode.lfmmi.scales=[1.0]", "decode.lfmmi.penalties=[0.0]",
    "decode.gmm.scales=[0.05]", "decode.gmm.penalties=[0.0]",
]  # fmt: skip


# student_ce in three sub-epochs of streamed shards.
STREAMED = (
    "scheduled.enabled=true", "scheduled.shard_size=20", "scheduled.window=60",
    "scheduled.chunks=2*(unlabelled 50%, labelled 100% @2), labelled 100%",
)  # fmt: skip


def run_an4(data: Path, exp: Path, *more: str, stop: str = "decode") -> str:
    run = ["-m", "hybrid.recipes.an4", "--data", str(data), "--stop-stage", stop, "--set", *SETTINGS, *more]
    return finish(command(run, exp))


@pytest.fixture(scope="module")
def data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return little_an4(shared_data, tmp_path_factory.mktemp("an4") / "data", speakers=8)


@pytest.fixture(scope="module")
def exp(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students") / "exp"
    run_an4(data, folder)
    return folder


def without_times(exp: Path) -> Dict[str, str]:
    """Hashes of what a run made: not of logs and seconds, nor of what holds the fingerprint of the corpus."""
    found = {}
    for name, digest in contents(exp).items():
        path = exp / name
        about = ("run.json", "config.json", ".inputs.json")
        if name.split("/")[0] in ("marks", "logs", "report") or path.name in about:
            continue
        if path.name == "log.jsonl":
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in read_jsonl(path)]
            digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        if path.name == "checkpoint.safetensors":  # holds the seconds of the training so far
            continue
        found[name] = digest
    return found


def test_shuffled_transcripts_of_the_unlabelled_speech_change_nothing_bit_for_bit(
    exp: Path, data: Path, shared_data: Path, tmp_path: Path
) -> None:
    hidden = {cut.id for cut in read_cuts(exp / "prepare" / "unlabelled.jsonl.gz")}
    other = little_an4(shared_data, tmp_path / "data", speakers=8)
    path = other / "an4" / "etc" / "an4_train.transcription"
    lines = path.read_text().splitlines()
    places = [n for n, line in enumerate(lines) if re.search(r"\((\S+)\)$", line)[1] in hidden]
    assert len(places) == len(hidden) > 30
    texts = [re.sub(r"\s*\(\S+\)$", "", lines[n]) for n in places]
    random.Random(1).shuffle(texts)
    texts[0] = "NOT A WORD OF THE LEXICON"
    texts[1] = ""
    for n, text in zip(places, texts):
        lines[n] = f"{text} {re.search(r'[(][^()]+[)]$', lines[n])[0]}"
    path.write_text("\n".join(lines) + "\n")
    assert path.read_text() != (data / "an4" / "etc" / "an4_train.transcription").read_text()
    again = tmp_path / "exp"
    run_an4(other, again)
    before, after = without_times(exp), without_times(again)
    # Cuts name the audio by its place: of those, all but the place.
    differ = {name for name in {**before, **after} if before.get(name) != after.get(name)}
    compared = {"model.safetensors", "hyp.txt", "wer.json", "targets.000000.tar"}
    assert compared <= {Path(name).name for name in before} and not {Path(name).name for name in differ} & compared
    for name in differ:
        both = [_plain(folder / name).replace(str(root).encode(), b"DATA").replace(str(folder).encode(), b"EXP")
                for folder, root in ((exp, data), (again, other))]  # fmt: skip
        assert _without_hashes(both[0]) == _without_hashes(both[1]), name


def _plain(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _without_hashes(content: bytes) -> bytes:
    """Of sets of cuts, whose files hold the places of the audio."""
    return re.sub(rb'"(sha256|input|fingerprint)": "[0-9a-f]+"|"bytes": [0-9]+', b"", content)


def test_no_file_of_a_run_tells_what_is_said_in_unlabelled_speech(data: Path, exp: Path) -> None:
    cuts = read_cuts(exp / "prepare" / "unlabelled.jsonl.gz")
    assert len(cuts) and all(cut.supervisions[0].text is None and not cut.supervisions[0].alignment for cut in cuts)
    spoken = {}
    etc = data / "an4" / "etc"
    for line in "".join((etc / f"an4_{name}.transcription").read_text() for name in ("train", "test")).splitlines():
        text, identifier = re.match(r"(?:<s> )?(.*?)(?: </s>)? *\((\S+)\)$", line).groups()
        spoken[identifier] = text
    known = {text for identifier, text in spoken.items() if identifier not in {cut.id for cut in cuts}}
    secret = [spoken[cut.id] for cut in cuts if spoken[cut.id] not in known and len(spoken[cut.id].split()) > 2]
    assert len(secret) > 10
    for path in exp.rglob("*"):
        if path.is_file() and "decode" not in path.parts:  # a hypothesis may be what somebody else said, too
            content = _plain(path) if path.name.endswith((".json.gz", ".jsonl.gz")) else path.read_bytes()
            assert not [text for text in secret if text.encode() in content], path


def test_the_demo_keeps_what_its_unlabelled_voices_say_to_itself(tmp_path: Path) -> None:
    from hybrid.recipes.demo.corpus import build_corpus

    sizes = {"train": 0.1, "dev": 0.1, "test": 0.1, "unlabelled": 0.3}
    open_ones = build_corpus(tmp_path / "a", 1, sizes)
    again = build_corpus(tmp_path / "a", 1, sizes)
    assert [cut.id for cut in again["unlabelled"]] == [cut.id for cut in open_ones["unlabelled"]]
    assert len(open_ones["unlabelled"]) >= 5
    for cut in open_ones["unlabelled"]:
        assert cut.supervisions[0].text is None and cut.custom == {"synthetic": True}
        comment = Path(cut.recording.sources[0].source).read_bytes()
        assert b'"text"' not in comment and b'"phones"' not in comment and cut.id.encode() in comment
    voices = {name: {cut.supervisions[0].speaker for cut in cuts} for name, cuts in open_ones.items()}
    assert not voices["train"] & voices["unlabelled"]


def test_stages_that_learn_from_transcripts_have_none_of_the_unlabelled(exp: Path) -> None:
    names = set_list(open_run(exp))
    assert names.unlabelled == ["unlabelled", "unlabelled_sp1.1"]
    assert names.unlabelled_noisy == ["unlabelled_noisy1", "unlabelled_sp1.1_noisy1"]
    assert [path.name for path in (exp / "features" / "unlabelled").iterdir()] == ["logmel"]
    assert sorted(path.name for path in (exp / "senones" / "ali").iterdir() if path.is_dir()) == [
        "dev_clean", "train", "train_sp1.1",
    ]  # fmt: skip
    speakers = [{cut.supervisions[0].speaker for cut in read_cuts(exp / "prepare" / f"{name}.jsonl.gz")}
                for name in ("train", "unlabelled", "dev")]  # fmt: skip
    assert [len(some) for some in speakers] == [2, 4, 2] and not speakers[0] & speakers[1]


def test_the_student_learns_the_targets_of_the_clean_twin(exp: Path) -> None:
    run = open_run(exp)
    folder, about = teacher_of(run)
    assert folder == exp / "teacher_lfmmi" / "model" and about.k == 20
    soft = read_soft(run, "targets", soft_sets(run))
    data = list(soft_utterances(run, ["train", "train_noisy1"], soft, folder, hard=True))
    data += list(soft_utterances(run, ["unlabelled_sp1.1", "unlabelled_sp1.1_noisy1"], soft, folder))
    by_id = {utterance.id: utterance for utterance in data}
    noisy = [u for u in data if u.id != u.extra["clean_cut"]]
    assert len(noisy) == len(data) / 2
    for utterance in noisy:
        clean_cut = by_id[utterance.extra["clean_cut"]]
        assert np.array_equal(utterance.extra["soft"].packed, clean_cut.extra["soft"].packed)
        assert len(utterance.extra["soft"]) == utterance.num_frames == len(utterance.pdfs)
        assert not np.array_equal(utterance.features, clean_cut.features)
    hard: Dict[bool, List[bool]] = {True: [], False: []}  # whether there are pdfs; of the labelled, of the others
    for utterance in data:
        hard["_sp1.1" not in utterance.id].append(bool((utterance.pdfs != IGNORE).any()))
    assert not any(hard[False]) and sum(hard[True]) >= 0.7 * len(hard[True])
    online = list(soft_utterances(run, ["unlabelled_noisy1"], {}, folder))
    assert online and all(u.extra["clean"].shape == u.features.shape for u in online)
    assert {name for name in dev_sets(run)} == {"dev_clean", "dev_noisy", "dev_rerecorded"}


def test_the_surest_utterances_are_kept(exp: Path) -> None:
    run = open_run(exp)
    about = read_json(exp / "student_ce" / "selection.json")
    entropies = list(about["entropy"].values())
    assert about["kept"] == round(0.7 * about["of"]) and entropies == sorted(entropies)
    soft = read_soft(run, "targets", soft_sets(run))
    folder, _ = teacher_of(run)
    every = soft_utterances(run, ["unlabelled", "unlabelled_noisy1"], soft, folder)
    before = (exp / "student_ce" / "selection.json").read_bytes()
    kept = surest(run, "student_ce", every, soft)
    assert (exp / "student_ce" / "selection.json").read_bytes() == before
    assert read_json(exp / "student_lfmmi" / "selection.json")["kept"] == about["kept"]
    of = {identifier for identifier in list(about["entropy"])[: about["kept"]]}
    assert {u.extra["clean_cut"] for u in kept} == of & {u.extra["clean_cut"] for u in every}
    assert 0 < len(kept) < len(every)


def test_a_sequence_level_student_alone(exp: Path, data: Path, tmp_path: Path) -> None:
    """From random parameters, on transcripts and occupancies, without the student of frames."""
    changed = shutil.copytree(exp, tmp_path / "exp")
    flat = ["student.soft_ce=false", "student_lfmmi.init_from=flat", "student.confident=1.0"]
    printed = run_an4(data, changed, *flat, stop="student_lfmmi")
    ran = done(printed)
    assert {name for name, again in ran.items() if again} == {"student_lfmmi"}
    assert "occupancies" in ran and not {"targets", "student_ce"} & set(ran)
    rows = read_jsonl(changed / "student_lfmmi" / "log.jsonl")
    (dev,), (train,) = ([row for row in rows if row["split"] == split] for split in ("dev", "train"))
    assert train["soft"] and dev["objective"] < 0 and "soft" not in dev  # dev has transcripts
    with pytest.raises(ConfigError, match="student_lfmmi.init_from is 'student'"):
        opened(changed, "student.soft_ce=false", "student_lfmmi.init_from=student")


def opened(exp: Path, *settings: str) -> RecipeRun:
    return recipe_run(exp, *SETTINGS, *settings, recipe="an4")


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        (["student.teacher=nobody"], ConfigError, "student.teacher is .nobody.*use teacher_ce"),
        (["student.targets=occupancies", "student.online=true"], ConfigError, "student.online is true"),
        (["student.teacher=teacher_ce", "student.head=xent"], ConfigError, "'xent' is asked for"),
        (["student.k=-1"], ConfigError, "student.k is -1"),
        (["student.targets=labels"], ConfigError, "student.targets is .labels"),
        (["student_lfmmi.soft=-1.0"], ConfigError, "student_lfmmi.soft is -1"),
        (["student.confident=0.0"], ConfigError, "student.confident is 0"),
        (["student.targets=occupancies", "student.teacher=teacher_ce"], ConfigError, "not trained with LF-MMI"),
    ],
)
def test_settings_that_make_no_sense(exp: Path, settings: List[str], error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        run = opened(exp, *settings)
        for stage in ("occupancies", "targets"):
            folder, _ = teacher_of(run, kind_of(run, stage))
        untranscribed(run, "student_ce", read_soft(run, "targets", soft_sets(run)), folder)


def test_a_teacher_of_other_senones_and_targets_of_another_teacher_are_refused(exp: Path) -> None:
    with pytest.raises(ModelError, match="of another teacher"):
        read_soft(opened(exp, "student.teacher=teacher_ce"), "targets", ["unlabelled"])
    with pytest.raises(ModelError, match="the 20 highest of a frame, wanted 30"):
        read_soft(opened(exp, "student.k=30"), "targets", ["unlabelled"])
    fewer = read_soft(opened(exp, "student.k=5"), "targets", ["unlabelled"])["unlabelled"]
    assert len(fewer[0].decode()[0][0]) == 5
    phones = exp / "teacher_ce" / "model" / "senones" / "phones.json"
    kept = phones.read_bytes()
    try:
        phones.write_text(json.dumps({**json.loads(kept), "NEW": 99}))
        with pytest.raises(ModelError, match="senones are not those of this run"):
            teacher_of(opened(exp, "student.teacher=teacher_ce"))
    finally:
        phones.write_bytes(kept)


def test_the_demo_with_unlabelled_voices_goes_on_where_it_was(tmp_path: Path) -> None:
    """Targets written by a run that is stopped and begun again are whole; nothing is done twice."""
    exp = tmp_path / "exp"
    more = ["prepare.unlabelled_minutes=0.5", "student.enabled=true", "student.online=false"]
    finish(demo(exp, *more, stop="targets"))
    marks = sorted((exp / "targets").glob("*/complete.json"))
    assert {path.parent.name for path in marks} == {"train", "unlabelled", "dev_clean"}
    stamps = {path: path.stat().st_mtime_ns for path in marks}
    printed = finish(demo(exp, *more, stop="score"))
    assert {name for name, ran in done(printed).items() if ran} == {
        "student_ce", "student_lfmmi", "graph", "decode", "score",
    }  # fmt: skip
    assert stamps == {path: path.stat().st_mtime_ns for path in marks}
    systems = {row["system"] for row in read_json(exp / "results.json")}
    assert {"ce", "lfmmi", "teacher_ce", "teacher_lfmmi", "student_ce", "student_lfmmi"} < systems
    rows = [row for row in read_jsonl(exp / "student_ce" / "log.jsonl") if row["split"] == "dev"]
    assert rows and all(row["divergence"] >= 0 for row in rows)


def test_a_student_streamed_by_a_schedule(exp: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(exp, tmp_path / "exp")
    said = run_an4(data, tmp_path / "exp", *STREAMED, stop="student_ce")
    assert "1-2        unlabelled 50%, labelled 100% @2" in said and "3 sub-epochs" in said
    run, plain = open_run(tmp_path / "exp"), read_jsonl(exp / "student_ce" / "log.jsonl")
    shards = {name: read_json(tmp_path / "exp" / "shards" / name / "complete.json")["shards"] for name in SOURCES}
    frames = {name: sum(shard["frames"]["features"] for shard in its) for name, its in shards.items()}
    assert sum(frames.values()) == plain[-2]["frames"]  # an epoch in memory
    rows = read_jsonl(tmp_path / "exp" / "student_ce" / "log.jsonl")
    heard = [row["frames"] for row in rows if row["split"] == "train"]
    assert heard[2] == frames["labelled"] and sum(heard) == 3 * frames["labelled"] + frames["unlabelled"]
    dev = [row["loss"] for row in rows if row["split"] == "dev"]
    assert dev[-1] < dev[0]
    assert (run.dir("student_ce") / "model" / "model.safetensors").exists()
    assert (run.dir("shards") / "selection.json").exists()  # student.confident
