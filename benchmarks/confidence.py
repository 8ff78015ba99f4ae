"""Does the confidence of aligned words find the wrong ones? Transcripts of AN4, one word exchanged in every tenth.

    python -m benchmarks.confidence --exp exp/an4 [--system tri3] [--sets dev_clean test_clean] [--seed 0]

EXP is a run of the recipe an4 to its stage gmm; its development and test sets were not trained on. Each utterance is
aligned twice: as transcribed, and with one of its words exchanged for another word of the lexicon, drawn at random (a
speaker's transform is then estimated on his wrong transcripts alone, which makes it harder). Ten corpora are made of
these, each with every tenth utterance in its wrong version, each utterance wrong in one of them.

Printed are, for several forms of the score (hybrid/align/confidence.py; L_word - L_loop, also divided by phones, by
frames; the least of its phones), the area under the ROC curve: the probability that a right word's is above a wrong
word's. Then, of the form in use, how far the confidence can be taken at its word, the logistic regression that SLOPE
and OFFSET come from, and what the report of suspicious transcripts makes of the ten corpora.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from scipy.optimize import minimize

from hybrid.align import aligner as engines
from hybrid.align.aligner import Aligner
from hybrid.align.assemble import Reference, ViterbiPath, assemble, spoken_word
from hybrid.align.confidence import KAPPA, WORST, WordSpan, loop_loglikes, posterior, word_loglikes
from hybrid.align.loop import PhoneLoop
from hybrid.align.result import AlignedUtterance
from hybrid.align.suspicious import rank
from hybrid.data.arrays import read_cuts
from hybrid.errors import DataError
from hybrid.gmm.align import AlignOptions
from hybrid.gmm.passes import plain
from hybrid.hmm.alignment import phone_segments
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.segment import word_segments

ROUNDS = 10  # every tenth utterance is wrong
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0)


class Word(NamedTuple):
    """`wrong`: exchanged; `weight`: in how many of the ROUNDS corpora it stands."""

    wrong: bool
    weight: int
    scores: Dict[str, float]


def exchanged(text: str, vocabulary: Sequence[str], rng: np.random.Generator) -> tuple[List[str], int]:
    """The words with one of them replaced by another word of the vocabulary, and its place."""
    words = text.split()
    place = int(rng.integers(len(words)))
    others = [word for word in vocabulary if word != words[place]]
    words[place] = others[rng.integers(len(others))]
    return words, place


def forms(aligner: Aligner, loop: PhoneLoop, line: Sequence[str], one: ViterbiPath) -> List[Dict[str, float]]:
    """Every form of the score, of each word of an utterance."""
    base = {number: aligner.lang.base_phone(number) for number in aligner.lang.phone_ids}
    phones, durations = phone_segments(one.tids, aligner.senones)
    starts = np.r_[0, np.cumsum(durations)]
    segments = word_segments(phones, durations, aligner.lang.word_ids(" ".join(line)), aligner.lang)
    x = KAPPA * loop.loglikes(aligner.loglikes(one.features))
    words = [spoken_word(segment, aligner.lang, loop) for segment in segments]
    single = [
        WordSpan(int(starts[k]), int(durations[k]), (tuple(loop.phones([base[int(phone)]])),), (0.0,))
        for k, phone in enumerate(phones)
    ]

    def ratio(some: Sequence[WordSpan]) -> np.ndarray:
        spans = [(item.start, item.frames) for item in some]
        return np.maximum(word_loglikes(loop, x, some) - loop_loglikes(loop, x, spans), WORST)

    of_words, of_phones = ratio(words), ratio(single)
    rows = []
    for value, segment in zip(of_words, segments):
        own = of_phones[segment.first : segment.first + segment.count]
        rows.append(
            {
                "word": float(value),
                "word / phones": float(value / segment.count),
                "word / frames": float(value / segment.frames),
                "mean of phones": float(own.mean()),
                "least of phones": float(own.min()),
            }
        )
    return rows


def area(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> float:
    """Area under the ROC curve: how often a right item's score is above a wrong one's; ties count half."""
    values, place = np.unique(scores, return_inverse=True)
    bad = np.bincount(place, weights * wrong, minlength=len(values))
    good = np.bincount(place, weights * ~wrong, minlength=len(values))
    below = np.cumsum(bad) - bad / 2
    return float((good * below).sum() / (good.sum() * bad.sum()))


def calibration(r: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """SLOPE and OFFSET by logistic regression on scores clipped at -15, the offset moved to odds of 49 right words to
    a wrong one."""
    sign, r = np.where(wrong, -1.0, 1.0), np.maximum(r, -15.0)
    found = minimize(
        lambda p: float((weights * np.logaddexp(0, -sign * (p[0] * r + p[1]))).sum()), [0.3, 3.0], method="Nelder-Mead"
    ).x
    odds = float((weights * ~wrong).sum() / (weights * wrong).sum())
    return float(found[0]), float(found[1] + np.log(49 / odds))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, default=Path("exp/an4"))
    parser.add_argument("--system", default="tri3")
    parser.add_argument("--sets", nargs="+", default=["dev_clean", "test_clean"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    lang = Lang.load(options.exp / "lang")
    folder = options.exp / "gmm" / options.system
    model, about = engines.load(folder)
    base = {number: lang.base_phone(number) for number in lang.phone_ids}
    counts = engines.loop_counts(folder, model.senones, base)
    if counts is None:
        raise DataError("no alignments of the model's training", file=folder, remedy="run the recipe's stage gmm")
    loop = PhoneLoop.from_counts(counts, model.senones, base)
    rng = np.random.default_rng(options.seed)
    words: List[Word] = []
    made: Dict[bool, Dict[str, AlignedUtterance]] = {False: {}, True: {}}
    lost = total = 0
    scratch = Path(tempfile.mkdtemp(prefix="hybrid-confidence-"))
    try:
        for name in options.sets:
            features = options.exp / "features" / name / "mfcc"
            cuts = {cut.id: cut for cut in read_cuts(features)}
            for wrong in (False, True):
                changed = {i: exchanged(cut.supervisions[0].text, lang.lexicon.words, rng) if wrong
                           else (cut.supervisions[0].text.split(), -1) for i, cut in sorted(cuts.items())}
                lines = {i: line for i, (line, _) in changed.items()}
                place = scratch / f"{name}-{wrong}"
                store = engines.make_store(features, lines, about, place / "store")
                aligner, reasons = engines.align(
                    model, lang, store, place, options=AlignOptions(), log=lambda text: None, progress=plain
                )
                total += wrong * len(lines)
                lost += wrong * len(reasons)
                for index in range(aligner.num_chunks):
                    for identifier, x, tids, loglike in aligner.chunk(index):
                        if tids is None:
                            continue
                        line, at = changed[identifier]
                        known = Reference(identifier, 0, str(cuts[identifier].supervisions[0].speaker), 0.0,
                                      len(tids) / 100, line, ["lexicon"] * len(line))  # fmt: skip
                        found = ViterbiPath(x, tids, loglike)
                        made[wrong][identifier] = assemble(aligner, loop, identifier, known, found)
                        for number, scores in enumerate(forms(aligner, loop, line, found)):
                            words.append(Word(wrong and number == at, 1 if wrong else ROUNDS - 1, scores))
    finally:
        shutil.rmtree(scratch)
    report_words(words)
    print(f"{lost} of {total} utterances with a wrong word do not align at all (not counted above)")
    report_utterances(made)
    return 0


def report_words(words: Sequence[Word]) -> None:
    if not words:
        raise DataError("no utterance aligns", remedy="run the recipe to its stage gmm")
    wrong = np.array([word.wrong for word in words])
    weights = np.array([word.weight for word in words], dtype=float)
    print(f"{int(wrong.sum())} wrong words, {int((~wrong).sum())} right ones; area under the ROC curve:")
    for form in words[0].scores:
        print(f"  {form:16} {area(np.array([word.scores[form] for word in words]), wrong, weights):.4f}")
    r = np.array([word.scores["word"] for word in words])
    print("slope {:.3f}, offset {:.2f} by logistic regression".format(*calibration(r, wrong, weights)))
    sure = posterior(r)
    print("confidence      words   right, %   mean confidence, %")
    for low, high in zip(BINS, BINS[1:]):
        some = (sure >= low) & ((sure < high) | (high == 1.0))
        if some.any():
            right = float((weights * ~wrong)[some].sum() / weights[some].sum())
            mean = float((weights * sure)[some].sum() / weights[some].sum())
            print(f"{low:4.2f} to {high:4.2f} {int(weights[some].sum()):8d} {100 * right:10.1f} {100 * mean:15.1f}")
    for name, some in (("wrong", wrong), ("right", ~wrong)):
        share = float((weights * (sure < 0.5))[some].sum() / weights[some].sum())
        print(f"{100 * share:.1f} % of the {name} words have a confidence under 0.5")


def report_utterances(made: Dict[bool, Dict[str, AlignedUtterance]]) -> None:
    """Suspicion scores in corpora of which every tenth utterance is wrong."""
    values: List[float] = []
    wrong: List[bool] = []
    for turn in range(ROUNDS):
        corpus = []
        for number, identifier in enumerate(sorted(made[False])):
            bad = number % ROUNDS == turn and identifier in made[True]
            corpus.append((bad, made[bad][identifier]))
        bad_ids = {one.id for bad, one in corpus if bad}
        for row in rank([one for _, one in corpus]):
            values.append(row.score)
            wrong.append(row.id in bad_ids)
    scores, bad_ones = np.array(values), np.array(wrong)
    found = 100 * float((scores[bad_ones] >= 1).mean())
    false = 100 * float((scores[~bad_ones] >= 1).mean())
    print(
        f"suspicious transcripts: area {area(-scores, bad_ones, np.ones(len(scores))):.4f}; {found:.1f} % of the wrong "
        f"ones and {false:.1f} % of the right ones are named"
    )


if __name__ == "__main__":
    raise SystemExit(main())
