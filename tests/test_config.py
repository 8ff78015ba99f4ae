from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.config import BASE, Config, load_config
from hybrid.errors import ConfigError

TOML = """
[gmm]
states = 100          # why
beams = [10.0, 40.0]
kind = "tri"
[gmm.align]
retry = true
[train]
epochs = 4
rate = 1e-3
empty = []
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(TOML)
    return path


def test_reading(path: Path) -> None:
    config = load_config(path, [])
    assert config["gmm.states"] == 100
    assert config["gmm.align.retry"] is True
    assert config.section("gmm") == {"states": 100, "beams": [10.0, 40.0], "kind": "tri", "align": {"retry": True}}
    assert config.get("gmm.none", 7) == 7 and config.get("train.rate") == 1e-3
    assert config.under("gmm.align") == {"gmm.align.retry": True}
    assert "gmm.align" in config and "gmm.align.x" not in config
    assert list(config.flat()) == sorted(config.flat())
    assert config["limits.problems"] == BASE["limits"]["problems"]
    assert set(config) == {"gmm", "train", "run", "limits"}


def test_a_recipe_may_change_what_every_recipe_has(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[limits]\nproblems = 0.5\n")
    config = load_config(tmp_path / "a.toml", ["run.jobs=3"])
    assert config["limits.problems"] == 0.5 and config["run.jobs"] == 3 and config["run.threads"] == 1
    assert BASE["run"]["jobs"] == 0


def test_what_is_handed_out_changes_nothing(path: Path) -> None:
    config = load_config(path)
    config.section("gmm")["states"] = 1
    config["gmm.beams"].append(3.0)
    assert config["gmm.states"] == 100 and config["gmm.beams"] == [10.0, 40.0]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.epochs=6", "train.epochs", 6),
        (" train.epochs = 6 ", "train.epochs", 6),
        ("train.rate=2", "train.rate", 2.0),
        ("train.rate=1e-4", "train.rate", 1e-4),
        ("gmm.kind=mono", "gmm.kind", "mono"),
        ('gmm.kind="two words"', "gmm.kind", "two words"),
        ("gmm.kind=a=b", "gmm.kind", "a=b"),
        ("gmm.kind=3", "gmm.kind", "3"),
        ("gmm.kind=true", "gmm.kind", "true"),
        ("gmm.kind=", "gmm.kind", ""),
        ("gmm.beams=[1, 2.5]", "gmm.beams", [1.0, 2.5]),
        ("gmm.beams=[]", "gmm.beams", []),
        ("train.empty=[\"x\"]", "train.empty", ["x"]),
        ("gmm.align.retry=false", "gmm.align.retry", False),
    ],
)
def test_overrides(path: Path, override: str, key: str, value: object) -> None:
    found = load_config(path, [override])[key]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=6", "no setting train.epoch; near it: train.epochs"),
        ("gmm.epochs=6", "train.epochs"),
        ("xyz=6", "no setting xyz"),
        ("train.epochs.x=6", "no setting train.epochs.x"),
        ("train=6", "train is a section"),
        ("train.epochs", "not of the form name=value"),
        ("=3", "not of the form name=value"),
        ("train.epochs=many", "must be a whole number, as its default 4"),
        ("train.epochs=2.5", "must be a whole number"),
        ("train.epochs=true", "must be a whole number"),
        ("train.rate=fast", "must be a number, as its default 0.001"),
        ("train.rate=true", "must be a number"),
        ("gmm.align.retry=1", "must be true or false, as its default true"),
        ("gmm.align.retry=yes", "must be true or false"),
        ("gmm.beams=3", "must be a list"),
        ('gmm.beams=["a"]', "gmm.beams[0] must be a number"),
    ],
)
def test_overrides_that_make_no_sense(path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such settings file"), (b"[gmm\n", "not TOML"), (b"a = '\xff'", "not TOML"), (b"a=1\na=2", "not TOML")],
)
def test_files_that_cannot_be_read(tmp_path: Path, content, message: str) -> None:
    file = tmp_path / "r.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(file)
    assert str(file) in str(caught.value)


REALS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.integers(-(2**62), 2**62), REALS, st.booleans(), st.text("ab c'=\\"))
def test_any_value_comes_back(integer: int, real: float, truth: bool, text: str) -> None:
    config = Config({"a": {"i": 1, "f": 1.0, "b": False, "s": "x"}})
    quoted = '"' + text.replace("\\", "\\\\") + '"'
    changed = config.with_overrides([f"a.i={integer}", f"a.f={real!r}", f"a.b={str(truth).lower()}", f"a.s={quoted}"])
    assert changed.section("a") == {"i": integer, "f": real, "b": truth, "s": text}
    assert config["a.i"] == 1


def test_a_file_of_settings_stands_in_place_of_the_recipes(tmp_path):
    recipe, own, later = tmp_path / "r.toml", tmp_path / "own.toml", tmp_path / "later.toml"
    recipe.write_text('[train]\nepochs = 4\nrate = 0.1\n[train.deep]\nnames = ["a"]\n')
    own.write_text('[train]\nepochs = 6\nrate = 1\n[train.deep]\nnames = ["b", "c"]\n')
    later.write_text("train.epochs = 7\n")
    config = load_config(recipe, ["train.rate=0.5"], [own, later])
    assert (config["train.epochs"], config["train.rate"]) == (7, 0.5) and config["train.deep.names"] == ["b", "c"]
    assert isinstance(load_config(recipe, files=[own])["train.rate"], float)


@pytest.mark.parametrize(
    "text, says",
    [("[train]\nepoch = 3\n", "train.epoch; near it: train.epochs"), ("[train]\nepochs = true\n", "whole number"),
     ("train = 3\n", "section"), ("[train\n", "not TOML"), ("[train.epochs]\nx = 1\n", "no setting train.epochs.x")],
)  # fmt: skip
def test_files_of_settings_that_are_refused(tmp_path, text, says):
    recipe, own = tmp_path / "r.toml", tmp_path / "own.toml"
    recipe.write_text("[train]\nepochs = 4\n")
    own.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(recipe, files=[own])
    assert str(own) in str(caught.value)
