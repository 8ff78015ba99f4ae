"""Bad input of a whole run: what the command `hybrid run an4` prints, its exit code, and that mending it is enough.

What single functions make of bad files stands in test_bad_data.py, test_arpa.py, test_lexicon.py.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
import soundfile
from conftest import PROJECT
from recipe_tools import recipe_run
from test_an4_prepare import make_an4
from test_audio import write_sphere
from test_stages import FullDisk

import hybrid.io
from hybrid.cli import main
from hybrid.errors import ConfigError
from hybrid.io import read_json, read_jsonl
from hybrid.parallel import SerialExecutor
from hybrid.pipeline.systems import chosen
from hybrid.run import Run

VICTIM = "an1-fash-b"
SETTINGS = [
    "run.jobs=1", "corpus.dev_speakers=1", "augment.speeds=[]", "augment.noisy_copies=0", "gmm.mono.passes=3",
    "gmm.mono.gaussians=30", "gmm.splice=1", "gmm.lda_dim=8",  # LDA needs more frames than dimensions
    *(f"gmm.{system}.{setting}" for system in ("tri1", "tri2", "tri3")
      for setting in ("passes=2", "leaves=30", "gaussians=30")),
]  # fmt: skip
WORDS = "YES GO RUBOUT HELP A B C STOP ENTER NINE".split()
UNIGRAMS = "".join(f"-1.1 {word}\n" for word in WORDS)
ARPA = f"\\data\\\nngram 1=12\n\n\\1-grams:\n-99 <s>\n-1.0 </s>\n{UNIGRAMS}\n\\end\\\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus without a fault: four speakers of tones and hiss, some noise, two rooms of two responses."""
    root = tmp_path_factory.mktemp("whole")
    an4 = make_an4(root / "an4")
    rng = np.random.default_rng(0)
    for path in sorted((an4 / "wav").rglob("*.sph")):
        time = np.arange(16000) / 16000
        tones = sum(0.1 * np.sin(2 * np.pi * rng.uniform(200, 3000) * time) for _ in range(3))
        write_sphere(path, tones * (np.sin(2 * np.pi * 3 * time) ** 2) + 0.01 * rng.standard_normal(16000))
    # Every word its own two phones.
    (an4 / "etc" / "an4.dic").write_text("".join(f"{w}  P{i} P{(i + 3) % 10}\n" for i, w in enumerate(WORDS)))
    (an4 / "etc" / "an4.ug.lm").write_text(ARPA)
    for part in ("train", "test"):
        folder = root / "noise" / part / "music"
        folder.mkdir(parents=True)
        for number in range(3):  # as many as a cut may want at once
            soundfile.write(folder / f"{part}{number}.flac", 0.1 * rng.standard_normal(64000), 16000)
    for part in ("dev", "test"):
        (root / "rir" / part).mkdir(parents=True)
        for place in ("S1_M1", "S2_M1"):
            response = rng.standard_normal(4000) * np.exp(-np.arange(4000) / 600) * 0.1
            response[100] = 1.0
            soundfile.write(root / "rir" / part / f"HALL_{place}.flac", response, 16000)
    return root


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "data")


Printed = Tuple[int, str, str]
Go = Callable[..., Printed]


@pytest.fixture
def go(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Go:
    """go(data, stage, settings...) -> exit code, what was printed, the message.

    first: the stage to begin at. Unless `processes`, their work is done in this process, which saves their starts.
    """

    def run(
        folder: Any,
        stop: str,
        *settings: str,
        exp: Path = tmp_path / "exp",
        first: str = "prepare",
        processes: bool = False,
    ) -> Printed:
        arguments = ["run", "an4", "--exp", str(exp), "--stage", first, "--stop-stage", stop]
        arguments += ["--set", *SETTINGS, *settings]
        capsys.readouterr()
        with monkeypatch.context() as patch:
            if not processes:
                patch.setattr(Run, "executor", lambda self: SerialExecutor())
            code = main(arguments + ([] if folder is None else ["--data", str(folder)]))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err and "defect" not in out + err, out + err
        message = [line for line in err.splitlines() if line.startswith("hybrid: ")]
        message = [line for line in message if "GB of disk" not in line]  # a warning before it begins
        assert len(message) == (0 if code == 0 else 1), err
        return code, out, "".join(message)

    return run


def etc(data: Path, name: str) -> Path:
    return data / "an4" / "etc" / name


def victim(data: Path) -> Path:
    return data / "an4" / "wav" / "an4_clstk" / "fash" / f"{VICTIM}.sph"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# ------------------------------------------------------------------ the folder


def missing(data: Path) -> Path:
    return data / "nowhere"


def empty(data: Path) -> Path:
    (data / "empty").mkdir()
    return data / "empty"


def a_file(data: Path) -> Path:
    return etc(data, "an4.dic")


def another_corpus(data: Path) -> Path:
    return data / "noise"


def none(data: Path) -> None:
    return None


def no_audio_at_all(data: Path) -> Path:
    shutil.rmtree(data / "an4" / "wav" / "an4_clstk")
    return data


@pytest.mark.parametrize(
    "folder, what",
    [
        (missing, "no such folder"),
        (empty, "the folder is empty"),
        (a_file, "--data is a file"),
        (another_corpus, "holds no AN4"),
        (none, "AN4 needs its data folder"),
        (no_audio_at_all, "no audio at all"),
    ],
)
def test_no_corpus(data: Path, tmp_path: Path, go: Go, folder, what: str) -> None:
    where = folder(data)
    code, _, message = go(where, "prepare")
    assert code == 1 and what in message
    assert where is None or str(where) in message
    assert "Remedy: " in message
    assert not (tmp_path / "exp" / "prepare" / "train.jsonl.gz").exists()


# ------------------------------------------------------------------ files of the corpus, each at its stage


def word_unknown(data: Path) -> None:
    edit(etc(data, "an4_train.transcription"), f"GO ({VICTIM})", f"GO XYLOPHONE ({VICTIM})")


def no_lexicon(data: Path) -> None:
    etc(data, "an4.dic").unlink()


def empty_lexicon(data: Path) -> None:
    etc(data, "an4.dic").write_text("")


def word_without_phones(data: Path) -> None:
    edit(etc(data, "an4.dic"), "GO  P1 P4\n", "GO\n")


def no_header(data: Path) -> None:
    edit(etc(data, "an4.ug.lm"), "\\data\\\n", "")


def header_of_letters(data: Path) -> None:
    edit(etc(data, "an4.ug.lm"), "ngram 1=12", "ngram 1=many")


def other_count(data: Path) -> None:
    edit(etc(data, "an4.ug.lm"), "ngram 1=12", "ngram 1=13")


def cut_off(data: Path) -> None:
    edit(etc(data, "an4.ug.lm"), "\\end\\\n", "")


def no_grammar(data: Path) -> None:
    etc(data, "an4.ug.lm").unlink()


def no_noises(data: Path) -> None:
    shutil.rmtree(data / "noise" / "test")


def empty_noises(data: Path) -> None:
    for path in (data / "noise" / "test" / "music").iterdir():
        path.unlink()


def broken_noise(data: Path) -> None:
    (data / "noise" / "test" / "music" / "test0.flac").write_text("a letter")


def cut_noise(data: Path) -> None:
    path = data / "noise" / "test" / "music" / "test0.flac"
    path.write_bytes(path.read_bytes()[:-90000])


def no_rooms(data: Path) -> None:
    shutil.rmtree(data / "rir")


def broken_room(data: Path) -> None:
    for path in (data / "rir" / "test").iterdir():
        path.write_bytes(b"fLaC" + bytes(300))


BEFORE: Dict[str, List[str]] = {"prepare": [], "lm": ["prepare", "lang"], "augment": ["prepare"]}


@pytest.mark.parametrize(
    "damage, stage, parts",
    [
        (word_unknown, "prepare", ["XYLOPHONE (1)", VICTIM, "add them to the lexicon"]),
        (no_lexicon, "prepare", ["an4.dic", "no such lexicon"]),
        (empty_lexicon, "prepare", ["an4.dic"]),
        (word_without_phones, "prepare", ["an4.dic", "line 2", "GO"]),
        (no_header, "lm", ["an4.ug.lm", "\\data\\"]),
        (header_of_letters, "lm", ["an4.ug.lm", "line 2", "ngram 1=many"]),
        (other_count, "lm", ["an4.ug.lm", "13", "12"]),
        (cut_off, "lm", ["an4.ug.lm", "\\end\\"]),
        (no_grammar, "lm", ["an4.ug.lm", "no such file"]),
        (no_noises, "augment", ["noise/test", "no noises for test"]),
        (empty_noises, "augment", ["noise/test"]),
        (broken_noise, "augment", ["noise/test/music/test0.flac"]),
        (cut_noise, "augment", ["noise/test/music/test0.flac"]),
        (no_rooms, "augment", ["no rir; looked for as ", "/data/rir"]),
        (broken_room, "augment", ["rir/test/HALL_"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_bad_files_stop_their_stage(whole, data, tmp_path, go, damage, stage, parts) -> None:
    damage(data)
    for one in BEFORE[stage]:
        assert go(data, one, first=one)[0] == 0
    code, _, message = go(data, stage, first=stage)
    assert code == 1
    for part in [*parts, "Remedy: "]:
        assert part in message, message
    marks = {mark["stage"]: mark["state"] for mark in map(read_json, sorted((tmp_path / "exp" / "marks").iterdir()))}
    assert marks.get(stage, "started") == "started"
    # Once the file is mended, the same command ends well.
    shutil.rmtree(data)
    shutil.copytree(whole, data)
    for one in BEFORE[stage]:
        assert go(data, one, first=one)[0] == 0
    code, printed, _ = go(data, stage, first=stage)
    assert code == 0 and f" {stage}: " in printed


def test_unknown_words_of_the_test_set_are_said_and_counted(data: Path, go: Go) -> None:
    edit(etc(data, "an4_test.transcription"), "STOP", "HALT")
    code, printed, _ = go(data, "prepare")
    assert code == 0
    said = "test: 1 words (1 times) are not in the lexicon, each of them can only be an error: HALT (1)"
    assert said in printed and "train: 1 words" not in printed and "dev: 1 words" not in printed


# ------------------------------------------------------------------ single utterances


def truncated(data: Path) -> None:
    victim(data).write_bytes(victim(data).read_bytes()[:-2000])


def zero_length(data: Path) -> None:
    write_sphere(victim(data), np.zeros(0))


def no_transcript(data: Path) -> None:
    edit(etc(data, "an4_train.transcription"), f"GO ({VICTIM})\n", "")


def no_audio(data: Path) -> None:
    victim(data).unlink()


@pytest.mark.parametrize(
    "damage, reason",
    [
        (truncated, "the audio file is truncated"),
        (zero_length, "no sample"),
        (no_transcript, "audio without transcript"),
        (no_audio, "transcript without audio"),
    ],
)
def test_an_utterance_is_left_out_and_above_the_limit_the_stage_stops(data, tmp_path, go, damage, reason) -> None:
    damage(data)
    record = tmp_path / "exp" / "prepare" / "problems.jsonl"
    code, _, message = go(data, "prepare")
    assert code == 1
    assert f"1 of 8 utterances cannot be used, above the limit of 2 %; the first: {VICTIM}: " in message
    assert reason in message and str(record) in message and "limits.problems=SHARE" in message

    assert go(data, "prepare", "limits.problems=0.2")[0] == 0
    rows = read_jsonl(record)
    assert [(row["stage"], row["utterance"]) for row in rows] == [("prepare", VICTIM)] and reason in rows[0]["reason"]
    cuts = [row["id"] for split in ("train", "dev", "test") for row in
            read_jsonl(tmp_path / "exp" / "prepare" / f"{split}.jsonl.gz")]  # fmt: skip
    assert len(cuts) == 7 and VICTIM not in cuts


def test_an_utterance_too_short_for_its_words_is_named(data: Path, tmp_path: Path, go: Go) -> None:
    # 20 words of two phones of three states each cannot stand in 100 frames of 10 ms.
    name = VICTIM
    edit(etc(data, "an4_train.transcription"), f"GO ({name})", f"{'GO ' * 20}({name})")
    code, _, message = go(data, "gmm")
    assert code == 1 and f"{name}: too short for its words: 100 frames of 10 ms, they need 120" in message
    assert str(tmp_path / "exp" / "gmm" / "problems.jsonl") in message
    code, _, message = go(data, "gmm", "limits.problems=0.3")
    assert code == 0, message
    rows = read_jsonl(tmp_path / "exp" / "gmm" / "problems.jsonl")
    assert [(row["stage"], row["utterance"]) for row in rows] == [("gmm", name)]


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize("names", ["[]", '["test"]', '["test","dev"]', '["dev","train"]', "1", "[1]"])
def test_sets_that_scales_cannot_be_chosen_on(tmp_path: Path, names: str) -> None:
    run = recipe_run(tmp_path, 'decode.tune_on=["dev","test"]', recipe="an4")
    assert run.settings.decode.tune_on == ["dev", "test"]
    assert recipe_run(tmp_path, "decode.tune_on=dev", recipe="an4").settings.decode.tune_on == ["dev"]
    said = {"1": "decode.tune_on must be a list", "[1]": r"tune_on\[0\] must be a text"}
    with pytest.raises(ConfigError, match=said.get(names, r'decode.tune_on is .*Remedy: use \["dev"\]')):
        recipe_run(tmp_path, f"decode.tune_on={names}", recipe="an4")


FLAT = (
    "senones.align_with=none", "lfmmi.init_from=flat", "lfmmi.numerators=words",
    "lfmmi.criterion.xent_targets=numerator",
)  # fmt: skip
NO_GMM = (*FLAT, "gmm.last=none")


@pytest.mark.parametrize("names", ['["tri9"]', '["ce","tri9"]'])
def test_systems_that_cannot_be_decoded(tmp_path: Path, names: str) -> None:
    def of(systems: str, *more: str) -> List[str]:
        run = recipe_run(tmp_path, f"decode.systems={systems}", *more, recipe="an4")
        return [system.name for system in chosen(run.settings)]

    assert of('["lfmmi","mono"]') == ["mono", "lfmmi"]
    assert of("[]", *FLAT, "gmm.last=mono") == ["mono", "lfmmi"]  # [] is all there are
    assert of('["tri3"]') == ["tri3_si", "tri3"]  # the second pass starts from the first
    known = "mono, tri1, tri2, tri3_si, tri3, teacher_ce, teacher_lfmmi, ce, lfmmi, student_ce, student_lfmmi"
    with pytest.raises(ConfigError, match=f"decode.systems is .*Remedy: some or all of {known}"):
        of(names)
    assert of('["lfmmi"]', *NO_GMM) == ["lfmmi"]
    with pytest.raises(ConfigError, match="names tri3_si, tri3: left out by gmm.last.*Remedy: some of mono, lfmmi"):
        of('["mono","tri3","tri3_si"]', *FLAT, "gmm.last=mono")


# ------------------------------------------------------------------ the disk


def made(exp: Path, stages: List[str]) -> Dict[str, bytes]:
    """What the stages have written, but for paths and times."""
    names = [path for stage in stages for path in sorted((exp / stage).rglob("*")) if path.is_file()]
    data = {str(path.relative_to(exp)): path.read_bytes() for path in names}
    return {name: value for name, value in data.items() if not name.endswith((".jsonl.gz", ".tar", ".json"))}


def test_a_disk_that_fills_up_at_any_file(data: Path, tmp_path: Path, go: Go, monkeypatch) -> None:
    """Full at one file after the other, in stages that write in the main process."""
    exp, clean = tmp_path / "exp", tmp_path / "clean"
    assert go(data, "lm", exp=clean)[0] == 0
    messages = 0
    for at in (1, 5, 9, 3, 2):
        with monkeypatch.context() as patch:
            patch.setattr(hybrid.io.os, "replace", FullDisk(at))
            code, _, message = go(data, "lm", exp=exp)
        if code:
            assert code == 1 and os.strerror(errno.ENOSPC) in message and "Remedy: free some space" in message
            messages += 1
        assert not list(exp.rglob(".*.tmp"))
    assert messages >= 3
    assert go(data, "lm", exp=exp)[0] == 0
    assert made(exp, ["lang", "lm"]) == made(clean, ["lang", "lm"]) != {}


def test_a_real_full_disk_under_the_workers(data: Path, tmp_path: Path, go: Go) -> None:
    """Stages whose files are written by worker processes, on a file system that is too small, then made larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "none", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    try:
        stopped = []
        for size in ("150k", "500k", "30m"):
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            code, printed, message = go(data, "gmm", exp=disk / "exp", processes=True)
            if code:
                assert code == 1
                assert os.strerror(errno.ENOSPC) in message and "Remedy: free some space" in message, message
                stopped.append(re.findall(r"^stage \d+ (\w+):", printed, re.MULTILINE)[-1])
        assert code == 0 and "augment" in stopped and len(stopped) >= 2, stopped
        exp = tmp_path / "exp"
        assert go(data, "gmm", exp=exp)[0] == 0
        for system in ("mono", "tri1", "tri2", "tri3"):
            passes = [read_jsonl(e / "gmm" / system / "passes.jsonl") for e in (disk / "exp", exp)]
            assert passes[0] == passes[1]
        flacs = [made(e, ["augment"]) for e in (disk / "exp", exp)]
        assert flacs[0] == flacs[1] and flacs[0]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# ------------------------------------------------------------------ a process of its own


@pytest.mark.parametrize("arguments, code, what", [  # one start of Python each
    (["--data", "nowhere"], 1, "hybrid: no such folder (file: nowhere). Remedy: get an4_sphere.tar.gz"),
    (["--set", "gmm.mono.pases=3"], 2, "hybrid: no setting gmm.mono.pases"),
])  # fmt: skip
def test_exit_codes_and_one_line_on_stderr(tmp_path: Path, arguments, code: int, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hybrid.cli", "run", "an4", "--exp", "exp", *arguments],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.startswith(what) and done.stderr.count("\n") == 1
