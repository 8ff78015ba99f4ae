"""Confidences of the words of a run: learnt on its development sets, judged on its test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from hybrid.align.ctm import CtmRow, write_ctm
from hybrid.data.feature_config import config_from_json
from hybrid.decode.calibration import CALIBRATION, Calibration, summary
from hybrid.decode.confidences import Judged, score_words
from hybrid.decode.run import Loglikes
from hybrid.decode.tuning import Tuning
from hybrid.io import read_json, write_json
from hybrid.pipeline.loglikes import model_folder
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import OUTPUT_FRAME_SHIFT, DecodeSet
from hybrid.pipeline.systems import System
from hybrid.score.results import decode_folder

JUDGED = "confidence.json"  # in EXP/decode/SYSTEM/CONDITION/SET


class Confidences:
    """Those of one system in one condition; the development set is given first.

    A system that adapts to its speakers has none: what it recognises with is not what a recogniser loads.
    """

    def __init__(
        self, run: RecipeRun, system: System, condition: str, graph: Path, executor: Any, search: Mapping[str, Any]
    ) -> None:
        self.run, self.system, self.condition, self.graph = run, system, condition, graph
        self.executor, self.search = executor, search
        self.sets = {"none": (), "dev": ("dev",), "test": ("dev", "test")}[run.settings.decode.confidence]
        self.calibration: Optional[Calibration] = None
        self.learnt_on: Optional[Dict[str, str]] = None
        self.path = run.dir("decode") / system.name / condition / CALIBRATION

    def add(
        self, eval_set: DecodeSet, tuning: Tuning, loglikes: Loglikes, references: Mapping[str, List[str]]
    ) -> None:
        """Write calibration.json of the development set, confidence.json of each, and words.ctm of a test set.

        confidence.json: what `calibration.summary` returns, and the set and condition that was learnt on, "learnt_on".
        """
        if eval_set.role not in self.sets or self.system.first_pass:
            return
        run, system = self.run, self.system
        model = model_folder(run, system)
        words = score_words(
            loglikes, self.graph, lang=run.dir("lang"), senones=model / "senones", acoustic_scale=tuning.scale,
            word_penalty=tuning.penalty, ids=[name for name in references if name in loglikes],
            executor=self.executor, **self.search,
        )  # fmt: skip
        judged = Judged.of(words, references)
        if eval_set.role == "dev":
            self.calibration = Calibration.fit(judged.features, judged.right)
            self.calibration.save(self.path)
            self.learnt_on = {"set": eval_set.set, "condition": eval_set.condition}
        if self.calibration is None:
            return
        conf = self.calibration.conf(judged.features)
        folder = decode_folder(run.exp, system.name, eval_set.condition, eval_set.set)
        write_json(folder / JUDGED, {**summary(conf, judged.right), "learnt_on": self.learnt_on})
        if eval_set.role == "test":
            shift = _frame_shift(model, system)
            rows = [
                CtmRow(name, "1", shift * word.start, shift * (word.end - word.start), word.word, float(p))
                for name, said in words.items()
                for word, p in zip(said, self.calibration.conf([word.features for word in said]), strict=True)
                if word.start is not None and word.end is not None
            ]
            write_ctm(folder / "words.ctm", rows)


def _frame_shift(model: Path, system: System) -> float:
    if system.network:
        return OUTPUT_FRAME_SHIFT
    return float(config_from_json(read_json(model / "features.json")["mfcc"]).frame_shift)
