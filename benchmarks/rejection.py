"""How well what is not in a grammar is rejected, at a stated share of false accepts.

    python -m benchmarks.rejection EXP [--system lfmmi] [--false-accepts 0.01 0.05 0.1]

The grammar is the sentences of every second utterance of the development and the test set of EXP, the others are not in
it. Confidences and thresholds are learnt on the development set (`Recogniser.calibrated`) and counted on the test set:
the share of utterances outside the grammar that are accepted, of those in it that are rejected, and of those in it that
are accepted with the right words. Words right and wrong are told apart by the calibrated confidence, whose error (ECE)
is beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List

import numpy as np
from lhotse import CutSet, MonoCut

import hybrid
from hybrid.decode.calibration import calibration_error
from hybrid.score.wer import align


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--system", default="lfmmi")
    parser.add_argument("--false-accepts", nargs="+", type=float, default=[0.01, 0.05, 0.1])
    options = parser.parse_args()
    dev, test = (list(CutSet.from_file(options.exp / "prepare" / f"{name}.jsonl.gz")) for name in ("dev", "test"))
    sentences = sorted({text_of(cut) for cut in [*dev[::2], *test[::2]]})
    asr = hybrid.load(options.exp, options.system).with_grammar(sentences)
    inside = [text_of(cut) in sentences for cut in test]
    print(f"{len(sentences)} sentences; test: {sum(inside)} utterances in the grammar, {len(test) - sum(inside)} not")
    print(f"{'asked for':>10} {'accepted outside':>17} {'rejected inside':>16} {'right inside':>13} {'ECE':>6}")
    for share in options.false_accepts:
        judge(asr.calibrated(dev, share), test, inside, share)


def text_of(cut: MonoCut) -> str:
    return " ".join(str(cut.supervisions[0].text).split())


def judge(asr: hybrid.Recogniser, test: List[MonoCut], inside: List[bool], share: float) -> None:
    results = asr.many(test)
    outside_accepted = inside_rejected = inside_right = 0
    conf: List[float] = []
    right: List[bool] = []
    for cut, known in zip(test, inside, strict=True):
        result = results[cut.id]
        accepted = bool(result.text) and not result.rejected
        outside_accepted += accepted and not known
        inside_rejected += known and not accepted
        inside_right += known and accepted and result.text == text_of(cut)
        conf += [word.conf or 0.0 for word in result.words]
        pairs = align(text_of(cut).split(), result.text.split())
        right += [reference == word for reference, word in pairs if word is not None]
    total = max(sum(inside), 1)
    print(
        f"{100 * share:9.1f}% {100 * outside_accepted / max(len(test) - sum(inside), 1):16.1f}% "
        f"{100 * inside_rejected / total:15.1f}% {100 * inside_right / total:12.1f}% "
        f"{100 * calibration_error(np.array(conf), np.array(right)):5.2f}%", flush=True
    )  # fmt: skip


if __name__ == "__main__":
    main()
