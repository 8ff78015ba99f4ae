"""Any corpus in: AN4's speech as a Kaldi folder, as Lhotse's manifests, as audio with labels, laid out as LibriSpeech
and as yesno, each from `hybrid init` or a recipe of ours to its word error rates, without a line of Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from conftest import PROJECT
from corpora import (
    Spoken,
    an4_utterances,
    write_audio_folder,
    write_kaldi,
    write_lhotse,
    write_librispeech,
    write_yesno,
)
from little_runs import ENVIRONMENT

from hybrid.config import tomllib
from hybrid.data.arrays import read_arrays
from hybrid.io import read_json, read_jsonl

pytestmark = pytest.mark.slow

QUICK = [
    "run.jobs=1", 'decode.systems=["mono"]', "gmm.last=mono", "gmm.mono.passes=10",
    "gmm.mono.gaussians=200", "augment.speeds=[]", "decode.gmm.scales=[0.0833]", "decode.gmm.penalties=[0.0]",
]  # fmt: skip


def hybrid(*words: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "hybrid.cli", *words]
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, text=True, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sets(shared_data: Path) -> Dict[str, List[Spoken]]:
    """Some speakers of AN4: disjoint."""
    train, test = an4_utterances(shared_data, "train"), an4_utterances(shared_data, "test")
    speakers = sorted({one.speaker for one in train})[:8]
    return {
        "train": [one for one in train if one.speaker in speakers[:6]],
        "dev": [one for one in train if one.speaker in speakers[6:]],
        "test": [one for one in test if one.speaker == test[0].speaker],
    }


def test_three_forms_of_one_corpus_give_the_same_cuts_and_the_same_features(sets, shared_data, tmp_path) -> None:
    lexicon = str(shared_data / "an4" / "etc" / "an4.dic")
    more = {"kaldi": [], "lhotse": [], "audio": ["--speaker", r"^\w+-(\w+)-"]}
    cuts, features = {}, {}
    for form, write in (("kaldi", write_kaldi), ("lhotse", write_lhotse), ("audio", write_audio_folder)):
        root = tmp_path / form
        for name, spoken in sets.items():
            write(root / "data" / name, spoken)
        recipe = hybrid("init", "data", "--lexicon", lexicon, *more[form], cwd=root)
        assert len(recipe.splitlines()) <= 40
        corpus = tomllib.loads(recipe)["corpus"]
        assert (corpus["train"], corpus["dev"], corpus["test"]) == ("data/train", "data/dev", {"test": "data/test"})
        (root / "my.toml").write_text(recipe)
        last = [] if form == "kaldi" else ["--stop-stage", "features"]  # behind it all is one
        hybrid("run", "my.toml", *last, "--set", *QUICK, cwd=root)
        exp = root / "exp" / "my"
        cuts[form] = {
            name: [about(row) for row in read_jsonl(exp / "prepare" / f"{name}.jsonl.gz")] for name in sets
        }
        features[form] = {name: read_arrays(exp / "features" / f"{name}{end}" / "mfcc", "mfcc")[1] for name, end in (
            ("train", ""), ("dev", "_clean"), ("test", "_clean"),
        )}  # fmt: skip
    assert {name: len(rows) for name, rows in cuts["kaldi"].items()} == {name: len(its) for name, its in sets.items()}
    assert cuts["kaldi"] == cuts["lhotse"] == cuts["audio"]
    for form in ("lhotse", "audio"):
        for name, arrays in features["kaldi"].items():
            assert arrays.keys() == features[form][name].keys() and len(arrays) == len(sets[name])
            assert all(np.array_equal(array, features[form][name][key]) for key, array in arrays.items())
    results = read_json(tmp_path / "kaldi" / "exp" / "my" / "results.json")
    rows = {(row["set"], row["condition"]): row for row in results}
    assert set(rows) == {("dev", "clean"), ("test", "clean")} and 0 < rows["test", "clean"]["wer"] < 60


def about(row: dict) -> tuple:
    """What of a cut does not depend on where its audio lies."""
    said = row["supervisions"][0]
    return row["id"], row["start"], row["duration"], row["channel"], said["text"], said["speaker"]


def test_a_folder_laid_out_as_librispeech_gives_two_test_sets(sets, shared_data, tmp_path) -> None:
    half = len(sets["test"]) // 2
    parts = {
        "train-clean-100": sets["train"], "dev-clean": sets["dev"],
        "test-clean": sets["test"][:half], "test-other": sets["test"][half:],
    }  # fmt: skip
    write_librispeech(tmp_path / "LibriSpeech", parts)
    recipe = hybrid(
        "init", "lhotse:librispeech/train-clean-100", "--data", "LibriSpeech", "--dev", "lhotse:librispeech/dev-clean",
        "--test", "clean=lhotse:librispeech/test-clean", "--test", "other=lhotse:librispeech/test-other",
        "--lexicon", str(shared_data / "an4" / "etc" / "an4.dic"), cwd=tmp_path,
    )  # fmt: skip
    (tmp_path / "mine.toml").write_text(recipe)
    hybrid("run", "mine.toml", "--data", "LibriSpeech", "--set", *QUICK, cwd=tmp_path)
    rows = {row["set"]: row for row in read_json(tmp_path / "exp" / "mine" / "results.json")}
    words = {name: sum(len(one.text.split()) for one in parts[f"test-{name}"]) for name in ("clean", "other")}
    assert {name: rows[name]["words"] for name in ("clean", "other")} == words
    table = hybrid("report", "exp/mine", cwd=tmp_path)
    assert "| system | clean" in table and "| other" in table
    # Our own recipe of LibriSpeech asks for the same sets, and only for what of it this folder lacks beside.
    values = tomllib.loads((PROJECT / "recipes" / "librispeech" / "librispeech.toml").read_text())["corpus"]
    made = tomllib.loads(recipe)["corpus"]
    assert values["test"].items() >= {f"test-{name}": source for name, source in made["test"].items()}.items()
    assert values["dev"] == made["dev"] and made["train"] in values["train"]


def test_yesno_stays_at_8_khz(shared_data, tmp_path) -> None:
    write_yesno(tmp_path / "waves_yesno", an4_utterances(shared_data, "train"))
    quick = ["run.jobs=1", "gmm.mono.passes=15", "corpus.dev_speakers=3"]
    hybrid("run", "yesno", "--data", "waves_yesno", "--exp", "e", "--set", *quick, cwd=tmp_path)
    exp = tmp_path / "e"
    assert read_json(exp / "prepare" / "about.json")["rate"] == 8000
    assert read_json(exp / "features" / "features.json")["mfcc"]["sampling_rate"] == 8000
    rows = {row["set"]: row for row in read_json(exp / "results.json")}
    assert rows["test"]["words"] == 240 and rows["test"]["wer"] < 25


def test_a_real_re_recording_is_a_test_set_like_any_other(sets, shared_data, tmp_path) -> None:
    """Two test sets in one run, one with its own condition, one of some speakers by a table."""
    spoken = [*sets["test"], *sets["dev"]]
    for name, its in (("train", sets["train"]), ("dev", sets["dev"]), ("test", spoken)):
        write_kaldi(tmp_path / name, its)
    speakers = sorted({one.speaker for one in spoken})
    (tmp_path / "spk2age").write_text("".join(f"{speaker} {10 * (k + 1)}\n" for k, speaker in enumerate(speakers)))
    (tmp_path / "two.toml").write_text(
        '[corpus]\ntrain = "train"\ndev = "dev"\n'
        f"lexicon = {json.dumps(str(shared_data / 'an4' / 'etc' / 'an4.dic'))}\n"
        '[corpus.test]\nfar = { path = "test", condition = "rerecorded" }\n'
        'young = { path = "test", by = "spk2age", most = 15 }\n'
    )
    hybrid("run", "two.toml", "--set", *QUICK, cwd=tmp_path)
    rows = {(row["set"], row["condition"]): row for row in read_json(tmp_path / "exp" / "two" / "results.json")}
    assert set(rows) == {("dev", "clean"), ("far", "rerecorded"), ("young", "clean")}
    young = [one for one in spoken if one.speaker == speakers[0]]
    assert rows["young", "clean"]["words"] == sum(len(one.text.split()) for one in young)
    assert rows["far", "rerecorded"]["words"] == sum(len(one.text.split()) for one in spoken)
