"""The benchmark of big graphs on a little one: its words, its table, graphs that can be searched."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict

import gmm_tools
import pytest

from benchmarks import big_graphs
from hybrid.decode.decoder import Decoder
from hybrid.io import write_json
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lm import arpa, ngram

WORDS = {"ab": ["AA0 B"], "ba": ["B AA1"], "cab": ["K AA B", "CH B"], "babe": ["B AA B"]}
TEXT = ["ab ba cab", "ba ba ab", "cab ab"]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dict[str, Path]:
    """A run of two systems without CH, a dictionary with stress, and an ARPA that lacks the last word."""
    lang = Lang.create(Lexicon.from_dict({"x": ["AA B K T"]}), silence_prob=0.2)
    lang.save(tmp_path / "exp" / "lang")
    known = {}
    for name, graph, kind in (("lfmmi", "network.fst", "network"), ("tri1", "tri1.fst", "bootstrap")):
        folder = tmp_path / "exp" / name
        gmm_tools.make_senones(lang, kind).save(folder / "senones")
        known[name] = SimpleNamespace(graph=Path(graph), network=kind == "network", model=folder)
    monkeypatch.setattr(big_graphs, "systems", lambda exp: known)
    monkeypatch.setattr(big_graphs, "in_process", in_this_process)
    write_json(tmp_path / "exp" / "config.json", {"graph.self_loop_scale": 0.1, "graph.network_self_loop_scale": 1.0})
    Lexicon.from_dict(WORDS).save(tmp_path / "dictionary")
    arpa.write(tmp_path / "lm.arpa", ngram.train(TEXT, 3))
    return {"exp": tmp_path / "exp", "out": tmp_path / "out", "--arpa": tmp_path / "lm.arpa",
            "--dictionary": tmp_path / "dictionary"}  # fmt: skip


def in_this_process(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def run(inputs: Dict[str, Path], monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    named = [part for name, path in inputs.items() if name.startswith("--") for part in (name, str(path))]
    monkeypatch.setattr(sys, "argv", ["big_graphs", str(inputs["exp"]), str(inputs["out"]), *named, *more])
    big_graphs.main()


def test_a_row_for_each_graph_and_size(
    inputs: Dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(inputs, monkeypatch, "--words", "3", "6", "--recipe")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["3"] * 5 + ["6"] * 5
    lang = Lang.load(inputs["out"] / "6" / "lang")
    words = set(lang.lexicon.words)
    assert {"ab", "ba", "cab", "babe"} < words and len(words) == 6 and all("_" in word for word in words - set(WORDS))
    assert ("T", "B") in [item.phones for item in lang.lexicon.pronunciations("cab")]  # the nearest to CH
    for number in ("3", "6"):
        for name in ("network.fst", "tri1.fst"):
            decoder = Decoder(inputs["out"] / number / name)
            (row,) = [row for row in rows if row[0] == number and row[2] == name and row[3] != "by"]
            assert [int(row[5]), int(row[6])] == [decoder.graph.num_states, decoder.graph.num_arcs]
            assert decoder.max_word == int(number)


def test_n_grams_that_matter_most(
    inputs: Dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run(inputs, monkeypatch, "--words", "3", "--ngrams", "2", "--systems", "lfmmi", "--order", "2")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[2] for row in rows] == ["lexicon", "network.fst"]
    assert int(rows[0][1]) <= 3 + 2 and (inputs["out"] / "network.fst").exists()


def test_systems_that_are_not_there(inputs: Dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(big_graphs.ConfigError, match="no system tri9") as info:
        run(inputs, monkeypatch, "--systems", "tri9")
    assert "lfmmi" in str(info.value.remedy)
