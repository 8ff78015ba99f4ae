"""Our recipes of LibriSpeech: on a folder of its layout from the corpus to the table, and what they ask for."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest
from corpora import Spoken
from libri_tools import LEFT_OUT, LEXICON, STRANGE, TRIGRAM, write_all
from little_runs import ENVIRONMENT
from mini_demo import SETTINGS

from hybrid.config import tomllib
from hybrid.errors import ConfigError
from hybrid.io import read_json, read_jsonl, read_lines
from hybrid.pipeline.recipe import find_recipe

# As small as a demo of a minute: what its settings say of the demo's own Python is left out.
QUICK = [setting for setting in SETTINGS if not setting.startswith(("prepare.", "gmm.learn_probs", "decode.tune_on"))]
QUICK += ["augment.speeds=[0.9]", "augment.noisy_copies=1", "decode.confidence=none", "model.tdnnf.hidden=32"]
CONDITIONS = ("clean", "noisy", "rerecorded")


class Done(NamedTuple):
    exp: Path
    data: Path
    printed: str
    parts: Dict[str, List[Spoken]]


def hybrid(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hybrid.cli", *words]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, text=True, capture_output=True, timeout=500)


@pytest.fixture(scope="module")
def run_of_100(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    data = tmp_path_factory.mktemp("data")
    parts = write_all(data, shared_data)
    exp = tmp_path_factory.mktemp("runs") / "libri"
    done = hybrid("run", "librispeech_100", "--data", str(data), "--exp", str(exp), "--set", *QUICK, cwd=data.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return Done(exp, data, done.stdout, parts)


@pytest.mark.slow
def test_every_stage_runs_and_every_set_is_scored(run_of_100: Done) -> None:
    stages = [read_json(path) for path in sorted((run_of_100.exp / "marks").glob("*.json"))]
    assert [mark["stage"] for mark in stages] == [
        "prepare", "augment", "lang", "lm", "features", "gmm", "senones", "ce", "lfmmi", "graph", "decode", "score",
        "report",
    ]  # fmt: skip
    assert all(mark["state"] == "done" for mark in stages)
    rows = {(row["system"], row["set"], row["condition"]): row for row in read_json(run_of_100.exp / "results.json")}
    sets = {"dev": "dev-clean", **{name: name for name in ("test-clean", "test-other", "dev-other")}}
    systems = ("tri3_si", "tri3", "ce", "lfmmi")
    assert set(rows) == {(system, name, condition) for system in systems for name in sets for condition in CONDITIONS}
    for (_, name, _), row in rows.items():
        assert row["words"] == sum(len(one.text.split()) for one in run_of_100.parts[sets[name]])
        assert row["tuned_on"] == "dev" and 0 <= row["low"] <= row["wer"] <= row["high"]
    # Six speakers are too few for a recogniser, and enough for Gaussians to be far better than nothing heard.
    assert rows["tri3", "test-clean", "clean"]["wer"] < 80


@pytest.mark.slow
def test_speakers_words_and_sets_are_the_corpus_s(run_of_100: Done) -> None:
    exp, parts = run_of_100.exp, run_of_100.parts
    train = list(read_jsonl(exp / "prepare" / "train.jsonl.gz"))
    said = Counter(row["supervisions"][0]["text"] for row in train)
    assert said == Counter(one.text for one in parts["train-clean-100"])
    assert len({row["supervisions"][0]["speaker"] for row in train}) == len(
        {one.speaker for one in parts["train-clean-100"]}
    )
    assert all(row["id"].startswith(row["supervisions"][0]["speaker"] + "-1-") for row in train)
    sets = read_json(exp / "augment" / "sets.json")
    assert sets["clean"] == ["train", "train_sp0.9"] and sets["noisy"] == ["train_noisy1", "train_sp0.9_noisy1"]
    # The word that the lexicon lacks is pronounced, the trigram's has no path.
    words = {line.split()[0] for line in read_lines(exp / "lang" / "words.txt")}
    assert LEFT_OUT in words and STRANGE not in words
    assert f"train: 1 words (1 times) are not in the lexicon, pronounced by G2P: {LEFT_OUT}" in run_of_100.printed


@pytest.mark.slow
def test_noises_and_rooms_are_musan_s_and_those_of_rirs_noises(run_of_100: Done) -> None:
    custom: Dict[str, List[Any]] = {}
    for name in ("train_noisy1", "dev_noisy", "test-other_rerecorded"):
        custom[name] = [row.get("custom", {}) for row in read_jsonl(run_of_100.exp / "augment" / f"{name}.jsonl.gz")]
        assert len(custom[name]) == len(run_of_100.parts[{"train": "train-clean-100", "dev": "dev-clean"}.get(
            name.partition("_")[0], "test-other")])  # fmt: skip
    texts = {name: str(rows) for name, rows in custom.items()}
    assert all("free-sound" in text or "fma" in text or "librivox" in text for text in texts.values())
    assert "RWCP" in texts["test-other_rerecorded"] or "RVB2014" in texts["test-other_rerecorded"]


@pytest.mark.slow
def test_the_folder_of_the_archive_alone_will_do(run_of_100: Done, tmp_path: Path) -> None:
    """--data LibriSpeech itself, nothing beside it but the words; and no noises."""
    for path in run_of_100.data.iterdir():
        if path.name == "LibriSpeech":
            for part in path.iterdir():
                (tmp_path / part.name).symlink_to(part)
        elif path.is_file():
            (tmp_path / path.name).symlink_to(path)
    settings = [*QUICK, "corpus.noise=", "corpus.rooms=", 'decode.systems=["mono"]', "gmm.last=mono"]
    done = hybrid(
        "run", "librispeech_100", "--data", ".", "--exp", "exp", "--stop-stage", "augment", "--set", *settings,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sets = read_json(tmp_path / "exp" / "augment" / "sets.json")
    assert sets["noisy"] == [] and {row["condition"] for row in sets["decode"]} == {"clean"}


@pytest.mark.slow
def test_mini_librispeech_holds_its_development_set_out(run_of_100: Done, tmp_path: Path) -> None:
    """Its archive's own parts, and the smaller of openslr 11's trigrams."""
    (tmp_path / "LibriSpeech").mkdir()
    for name, part in (("train-clean-5", "train-clean-100"), ("dev-clean-2", "test-clean")):
        (tmp_path / "LibriSpeech" / name).symlink_to(run_of_100.data / "LibriSpeech" / part)
    for name in ("musan", "RIRS_NOISES", LEXICON):
        (tmp_path / name).symlink_to(run_of_100.data / name)
    (tmp_path / "3-gram.pruned.3e-7.arpa.gz").symlink_to(run_of_100.data / TRIGRAM)
    done = hybrid(
        "run", "mini_librispeech", "--data", ".", "--exp", "exp", "--stop-stage", "lm", "--set", *QUICK,
        "augment.speeds=[]", "augment.noisy_copies=0", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    speakers = {
        name: {row["supervisions"][0]["speaker"] for row in read_jsonl(tmp_path / f"exp/prepare/{name}.jsonl.gz")}
        for name in ("train", "dev", "dev-clean-2")
    }
    assert [len(its) for its in speakers.values()] == [6, 1, 1] and not speakers["train"] & speakers["dev"]
    decoded = {(row["set"], row["condition"]) for row in read_json(tmp_path / "exp/augment/sets.json")["decode"]}
    assert decoded == {(name, condition) for name in ("dev", "dev-clean-2") for condition in CONDITIONS}


def test_a_run_depends_on_its_parts_alone(tmp_path: Path) -> None:
    corpus = tmp_path / "LibriSpeech"
    for part in ("train-clean-100", "dev-clean", "train-other-500"):
        (corpus / part).mkdir(parents=True)
    recipe = find_recipe("librispeech_100")
    run = recipe.run(tmp_path / "exp", recipe.config([]), data=tmp_path)
    sources = ("lhotse:librispeech/train-clean-100", "lhotse:librispeech/dev-clean", "lhotse:librispeech/dev-other")
    assert run.find_all(*sources) == [corpus / "train-clean-100", corpus / "dev-clean", tmp_path]
    assert run.find_all("lhotse:yesno/test") == [tmp_path]


@pytest.mark.slow
def test_a_part_that_is_missing_is_named(run_of_100: Done, tmp_path: Path) -> None:
    done = hybrid(
        "run", "librispeech", "--data", str(run_of_100.data), "--exp", str(tmp_path / "e"), "--stop-stage", "prepare",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode in (1, 2) and "train-clean-360" in done.stderr and "Remedy" in done.stderr, done.stderr


@pytest.mark.parametrize("name, hours, hidden, epochs", [
    ("mini_librispeech", 5, 320, 6), ("librispeech_100", 100, 640, 4), ("librispeech", 960, 1000, 3),
])  # fmt: skip
def test_sizes_follow_from_the_hours(name: str, hours: float, hidden: int, epochs: int, tmp_path: Path) -> None:
    recipe = find_recipe(name)
    config = recipe.config().sized(hours)
    assert (config["model.hidden"], config["lfmmi.trainer.epochs"]) == (hidden, epochs)
    assert config["corpus.noise"] == "musan" and config["corpus.rooms"] == "RIRS_NOISES"
    recipe.run(tmp_path / "e", recipe.config())  # all settings are checked


def test_test_sets_of_a_recipe_that_is_like_another_are_its_own() -> None:
    mini, hundred, whole = (
        find_recipe(name).config() for name in ("mini_librispeech", "librispeech_100", "librispeech")
    )
    assert list(mini["corpus.test"]) == ["dev-clean-2"]
    assert hundred["corpus.test"] == whole["corpus.test"]
    assert list(whole["corpus.test"]) == ["test-clean", "test-other", "dev-other"]
    assert hundred["corpus.train"] == whole["corpus.train"][:1] and mini["decode.beam"] == whole["decode.beam"] == 15.0


@pytest.mark.parametrize("text, words", [
    ('like = "librispeach"', "no such recipe.*librispeech"),
    ("like = 3", "no such recipe"),
    ('like = "an4"', "Python of its own"),
    ('like = "mini_librispeech"\n[corpus]\ntest = { a = "x" }\n[model]\nhiden = 3', "no setting model.hiden.*hidden"),
])  # fmt: skip
def test_like_what_there_is_not(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        find_recipe(str(file)).config()
    assert str(file) in str(caught.value)


def test_a_user_s_recipe_may_be_like_ours(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('like = "mini_librispeech"\n[corpus]\nnoise = ""\nrooms = ""\n')
    config = find_recipe(str(tmp_path / "my.toml")).config()
    assert config["corpus.noise"] == "" and config["corpus.lm"] == "3-gram.pruned.3e-7.arpa.gz"
    assert tomllib.loads((tmp_path / "my.toml").read_text())["like"] == "mini_librispeech"
