"""A recogniser loaded from a real run gives the run's own hypotheses, for every system and condition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hybrid
from hybrid.data.arrays import read_arrays, read_cuts
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.trained import systems
from hybrid.decode.word_times import WordTimes
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.sets import speakers_of


@pytest.fixture(scope="module")
def exp(demo_run: Path) -> Path:
    return demo_run


@pytest.mark.slow
def test_the_runs_very_hypotheses(exp: Path) -> None:
    known = systems(exp)
    assert {"mono", "tri1", "tri2", "tri3_si", "ce", "lfmmi"} <= set(known)
    said = set()
    for path in sorted(exp.glob("decode/*/*/*/hyp.txt")):
        system, condition, name = path.relative_to(exp / "decode").parts[:3]
        if system not in known or name.endswith("-tuned-on-test"):
            continue  # one that adapts to speakers; or at another scale than the recogniser's
        asr = hybrid.load(exp, system, condition=condition)
        found = asr.many(read_cuts(exp / "features" / f"{name}_{condition}" / "logmel"))
        lines = dict(line.partition(" ")[::2] for line in path.read_text().splitlines())
        assert {identifier: result.text for identifier, result in found.items()} == {
            identifier: text.strip() for identifier, text in lines.items()
        }
        said |= set(lines.values())
    assert len(said) > 10
    assert hybrid.load(exp).system in known


@pytest.mark.slow
@pytest.mark.parametrize("system", ["tri1", "lfmmi"])
def test_words_have_the_times_at_which_they_were_spoken(exp: Path, system: str) -> None:
    """The synthesiser says when it spoke each word; the boundaries of its words, aligned, lie near."""
    acoustics = load_acoustics(exp / ("lfmmi/model" if system == "lfmmi" else f"gmm/{system}"), system == "lfmmi")
    kind, lang = kind_of(acoustics.features), Lang.load(exp / "lang")
    cuts, features = read_arrays(exp / "features" / "test_clean" / kind, kind)
    loglikes = acoustics.loglikes(features, speakers_of(cuts))
    times = WordTimes(lang, acoustics.senones)
    differences = []
    for cut in cuts:
        supervision = cut.supervisions[0]
        spoken = supervision.alignment["word"]
        spans = times.spans(lang.word_ids(supervision.text), loglikes[cut.id], acoustics.scale)
        assert spans is not None
        for item, span in zip(spoken, spans, strict=True):
            shift = acoustics.frame_shift
            differences += [item.start - shift * span.start, item.end - shift * span.end]
    assert len(differences) > 50
    assert np.median(np.abs(differences)) < 0.06
