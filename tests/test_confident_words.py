"""Confidences of a recogniser's words: from features to probabilities, for a grammar, and what is rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import List

import numpy as np
import pytest
from lhotse import CutSet, MonoCut

from hybrid.data.audio import load_samples
from hybrid.decode.calibration import Calibration, threshold_at
from hybrid.decode.confidences import Judged, score_words
from hybrid.decode.load import load
from hybrid.decode.scored_words import ScoredWord
from hybrid.errors import ConfigError, DataError
from hybrid.parallel import SerialExecutor


@pytest.fixture
def spoken(small_run: Path, small_cuts: CutSet) -> List[MonoCut]:
    """Cuts whose transcripts are what is recognised, of every second one; of the others, something else."""
    asr = load(small_run, "ce")
    results = asr.many(small_cuts)
    return [
        replace(cut, supervisions=[replace(
            cut.supervisions[0], text=results[cut.id].text if number % 2 else "ACE ACE ACE ACE ACE ACE ACE"
        )])
        for number, cut in enumerate(small_cuts)
    ]  # fmt: skip


def test_words_have_probabilities(small_run: Path, spoken: List[MonoCut]) -> None:
    asr = load(small_run, "ce")
    assert all(word.conf is None for cut in spoken for word in asr(cut).words) and asr(spoken[0]).conf is None
    told = asr.calibrated(spoken)
    results = told.many(spoken)
    for cut in spoken:
        result = results[cut.id]
        assert result.conf == min(word.conf for word in result.words if word.conf is not None)
        assert all(0.0 <= word.conf <= 1.0 for word in result.words if word.conf is not None)
        row = json.loads(json.dumps(result.to_dict()))
        assert [word["conf"] for word in row["words"]] == [round(word.conf or 0.0, 4) for word in result.words]
        assert not result.rejected and "rejected" not in row
        assert [str(word) for word in result.words] == [str(word) for word in asr.many(spoken)[cut.id].words]


def test_a_stated_share_of_the_wrong_is_accepted(small_run: Path, spoken: List[MonoCut]) -> None:
    asr = load(small_run, "ce")
    with pytest.raises(DataError, match="4 utterances that should be rejected"):
        asr.calibrated(spoken, 0.05)
    many = [replace(cut, id=f"{cut.id}-{k}") for k in range(4) for cut in spoken]
    none, all_of_it = asr.calibrated(many, 0.0), asr.calibrated(many, 1.0)
    said = none.many(spoken)
    assert all(said[cut.id].rejected for cut in spoken[::2]), "all that is wrong is rejected"
    assert said[spoken[0].id].to_dict()["rejected"] is True
    assert not any(result.rejected for result in all_of_it.many(spoken).values())


@pytest.mark.parametrize("share, expected", [(0.0, 1.0), (0.1, 0.9), (0.5, 0.5), (1.0, 0.0)])
def test_threshold(share: float, expected: float) -> None:
    conf = np.concatenate([np.arange(1, 11) / 10, np.ones(5)])
    right = np.array([False] * 10 + [True] * 5)
    threshold = threshold_at(conf, right, share)
    assert threshold == pytest.approx(expected, abs=1e-9)
    assert (conf[:10] >= threshold).mean() <= share or share == 1.0


def test_thresholds_that_cannot_be_told() -> None:
    with pytest.raises(ConfigError, match="false accepts"):
        threshold_at(np.ones(20), np.zeros(20, bool), 1.5)
    with pytest.raises(DataError, match="3 utterances that should be rejected"):
        threshold_at(np.ones(20), np.array([False] * 3 + [True] * 17), 0.1)


def test_cuts_without_transcripts(small_run: Path, small_cuts: CutSet) -> None:
    with pytest.raises(DataError, match="no transcript.*u0"):
        load(small_run, "ce").calibrated(small_cuts)


def test_a_set_over_workers_has_the_features_of_the_recogniser(small_run: Path, small_cuts: CutSet) -> None:
    asr = load(small_run, "lfmmi")
    loglikes = {
        cut.id: asr._acoustics.loglikes({cut.id: asr._features(cut.id, load_samples(cut, 8000))})[cut.id]
        for cut in small_cuts
    }
    words = score_words(
        loglikes, small_run / "graph" / "network.fst", lang=small_run / "lang",
        senones=small_run / "lfmmi" / "model" / "senones", acoustic_scale=asr.search.acoustic_scale,
        word_penalty=asr.search.word_penalty, beam=asr.search.beam, max_active=asr.search.max_active,
        executor=SerialExecutor(),
    )  # fmt: skip
    for name, rows in words.items():
        other = dict(asr._wording.scored([(name, loglikes[name], 0.0)]))[name]
        assert [row.word for row in rows] == [row.word for row in other] and rows
        assert np.array_equal([row.features for row in rows], [row.features for row in other])


def test_right_and_wrong_words() -> None:
    def word(text: str, value: float) -> ScoredWord:
        return ScoredWord(text, 0, 1, np.array([value, 0.0, 1.0]))

    said = {"a": [word("one", 1), word("too", 2), word("many", 3)], "b": []}
    judged = Judged.of(said, {"a": ["one", "two"], "b": ["lost"]})
    assert judged.features[:, 0].tolist() == [1, 2, 3]
    assert judged.right.tolist() == [True, False, False]


def test_a_calibration_keeps_its_threshold(tmp_path: Path) -> None:
    one = Calibration(0.5, (1.0, -1.0, 0.5), 9, 1, 0.25)
    one.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == one
