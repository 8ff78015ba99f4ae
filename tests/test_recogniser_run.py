"""A recogniser loaded from a real run gives the run's own hypotheses, for every system and condition."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from little_runs import demo, finish

import hybrid
from hybrid.data.arrays import read_cuts
from hybrid.decode.trained import systems


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("the demo's speech needs espeakng-loader (pip install espeakng-loader)")
    folder = tmp_path_factory.mktemp("demo") / "exp"
    finish(demo(folder, 'decode.tune_on=["dev"]', stop="score"))
    return folder


@pytest.mark.slow
def test_the_runs_very_hypotheses(exp: Path) -> None:
    known = systems(exp)
    assert {"mono", "tri1", "tri2", "tri3_si", "ce", "lfmmi"} <= set(known)
    said = set()
    for path in sorted(exp.glob("decode/*/*/*/hyp.txt")):
        system, condition, name = path.relative_to(exp / "decode").parts[:3]
        if system not in known:
            continue  # one that adapts to speakers
        asr = hybrid.load(exp, system, condition=condition)
        found = asr.many(read_cuts(exp / "features" / f"{name}_{condition}" / "logmel"))
        lines = dict(line.partition(" ")[::2] for line in path.read_text().splitlines())
        assert {identifier: result.text for identifier, result in found.items()} == {
            identifier: text.strip() for identifier, text in lines.items()
        }
        said |= set(lines.values())
    assert len(said) > 10
    assert hybrid.load(exp).system in known
