"""The stage graph: graphs of systems, and what a killed run left of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import gmm_tools
import numpy as np
import pytest

from hybrid.fst import FstArrays, write_fst
from hybrid.fst_file import read_arrays
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.lm import ngram
from hybrid.lm.grammar import arpa_to_fst
from hybrid.pipeline import decoding

SYSTEMS: List[Any] = [
    SimpleNamespace(graph="tri1", network=False), SimpleNamespace(graph="network", network=True),
    SimpleNamespace(graph="network", network=True),
]  # fmt: skip


def test_each_graph_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lang = gmm_tools.make_lang()
    grammar = arpa_to_fst(ngram.train([["AB", "BA"], ["CAB"]], order=2), lang.words)
    write_fst(tmp_path / "lm" / "G.fst", grammar)
    kinds = {"tri1": "bootstrap", "network": "network"}
    senones = {name: gmm_tools.make_senones(lang, kind) for name, kind in kinds.items()}
    made: List[str] = []

    def load(run: Any, name: str) -> Any:
        made.append(name)
        return SimpleNamespace(senones=senones[name])

    def network_senones(run: Any) -> Any:
        return load(run, "network").senones

    monkeypatch.setattr(decoding.gmm_stage, "load", load)
    monkeypatch.setattr(decoding.gmm_stage, "lang_of", lambda run, name: lang)
    monkeypatch.setattr(decoding, "network_senones", network_senones)
    settings = SimpleNamespace(graph=SimpleNamespace(self_loop_scale=0.1, network_self_loop_scale=1.0),
                               decode=SimpleNamespace(systems=[]))  # fmt: skip
    lines: List[str] = []
    run: Any = SimpleNamespace(
        settings=settings, dir=lambda name: tmp_path / name, log=lines.append,
        progress=lambda items, **_: items, bar=lambda name: lambda items, **_: items,
    )  # fmt: skip
    decoding.graph(run, SYSTEMS)
    assert made == ["tri1", "network"]
    graphs: Dict[str, FstArrays] = {}
    for name, scale in (("tri1", 0.1), ("network", 1.0)):
        graphs[name] = read_arrays(tmp_path / "graph" / f"{name}.fst")
        wanted = decoding_graph(lang, grammar, senones[name], self_loop_scale=scale)
        assert np.array_equal(graphs[name].arcs, wanted.arcs) and np.array_equal(graphs[name].final, wanted.final)
        assert any(f"{name}: {wanted.num_states} states, {len(wanted.arcs)} arcs" in line for line in lines)
    (tmp_path / "graph" / "network.fst").unlink()  # killed before it was made
    decoding.graph(run, SYSTEMS)
    assert made == ["tri1", "network", "network"]
    assert np.array_equal(read_arrays(tmp_path / "graph" / "network.fst").arcs, graphs["network"].arcs)
