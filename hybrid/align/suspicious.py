"""Which transcripts are probably wrong: utterances ranked by how far they lie from the others.

Five things are looked at, each in units of its own limit (1 is the limit):

    likelihood     log-likelihood a frame below the speaker's median (the corpus's, where a speaker has few utterances)
    confidence     the number of wrong words to be expected, the sum of 1 - confidence over the words
    rate           phones a second of speech, above or below the median
    pause          the longest silence between two words
    long phone     the longest phone of a word

Distances are robust ones, z = (x - median) / (1.4826 MAD): median and median absolute deviation do not move with the
outliers that are looked for (Rousseeuw and Croux 1993), where mean and standard deviation would. A score is the
largest of the five, and from 1 on the transcript is worth a look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np

from hybrid.align.result import AlignedUtterance
from hybrid.io import PathLike, write_text

LOW = 0.5  # confidence under which a word is doubted
Z_LIMIT = 4.0  # of a normal distribution, one value in 16,000 lies beyond
WRONG_LIMIT = 0.5  # wrong words expected: one doubted word is enough
WRONG_SHARE = 0.05  # or so much of the words, in a long utterance
PAUSE_LIMIT = 2.0  # s of silence between two words
PHONE_LIMIT = 0.8  # s of one phone: words that are said and not written end up in one
FEW = 5  # utterances of a speaker below which the corpus's median stands for his


@dataclass(frozen=True)
class Suspicion:
    """`score` of 1 or more: worth a look; `reasons` in words, the worst first, empty below 1."""

    id: str
    score: float
    reasons: List[str]
    text: str

    @property
    def suspicious(self) -> bool:
        return self.score >= 1.0


def rank(utterances: Sequence[AlignedUtterance]) -> List[Suspicion]:
    """Rank all utterances, the most suspicious first."""
    if not utterances:
        return []
    likelihoods = _likelihood(utterances)
    rates = np.log([_rate(utterance) for utterance in utterances])
    rate = robust_z(rates, floor=0.1)
    usual_rate = float(np.exp(np.median(rates)))
    rows = []
    for number, utterance in enumerate(utterances):
        findings = [
            (
                max(0.0, -likelihoods[number]) / Z_LIMIT,
                f"log-likelihood {utterance.loglike:.1f} a frame, "
                f"{-likelihoods[number]:.1f} deviations below the others",
            ),
            _doubted(utterance),
            (
                abs(rate[number]) / Z_LIMIT,
                f"{_rate(utterance):.1f} phones a second of speech, where {usual_rate:.1f} are usual",
            ),
            _pause(utterance),
            _long_phone(utterance),
        ]
        findings.sort(key=lambda finding: -finding[0])
        reasons = [reason for score, reason in findings if score >= 1.0]
        rows.append(Suspicion(utterance.id, round(findings[0][0], 3), reasons, utterance.text))
    return sorted(rows, key=lambda row: (-row.score, row.id))


def robust_z(values: np.ndarray, *, floor: float) -> np.ndarray:
    """Return (x - median) / (1.4826 MAD) [n]; the deviation is `floor` at least, for values that hardly differ."""
    values = np.asarray(values, dtype=np.float64)
    median = np.median(values)
    return (values - median) / max(1.4826 * float(np.median(np.abs(values - median))), floor)


def _likelihood(utterances: Sequence[AlignedUtterance]) -> np.ndarray:
    """Log-likelihoods a frame less the speaker's median, as robust z of the corpus."""
    values = np.array([utterance.loglike for utterance in utterances])
    speakers: Dict[str, List[int]] = {}
    for number, utterance in enumerate(utterances):
        speakers.setdefault(utterance.speaker, []).append(number)
    centred = values - np.median(values)
    for members in speakers.values():
        if len(members) >= FEW:
            centred[members] = values[members] - np.median(values[members])
    return robust_z(centred, floor=0.5)


def _rate(utterance: AlignedUtterance) -> float:
    phones = [phone for phone in utterance.phones if phone.word is not None]
    return max(len(phones), 1) / max(sum(phone.end - phone.start for phone in phones), 0.01)


def _doubted(utterance: AlignedUtterance) -> Tuple[float, str]:
    confidences = [(word.confidence, word) for word in utterance.words if word.confidence is not None]
    num_wrong = sum(1.0 - confidence for confidence, _ in confidences)
    lowest = sorted(confidences, key=lambda pair: pair[0])
    examples = lowest[:1] + [pair for pair in lowest[1:5] if pair[0] < LOW]
    word_list = ", ".join(f"{word.word} ({confidence:.2f}) at {word.start:.2f} s" for confidence, word in examples)
    count = sum(confidence < LOW for confidence, _ in confidences)
    reason = f"{count} of {len(confidences)} words doubted: {word_list}"
    return num_wrong / max(WRONG_LIMIT, WRONG_SHARE * len(confidences)), reason


def _pause(utterance: AlignedUtterance) -> Tuple[float, str]:
    pauses = [phone for phone in utterance.phones[1:-1] if phone.word is None]
    longest = max(pauses, key=lambda phone: phone.end - phone.start, default=None)
    if longest is None:
        return 0.0, ""
    seconds = longest.end - longest.start
    return seconds / PAUSE_LIMIT, f"a silence of {seconds:.1f} s between words, at {longest.start:.2f} s"


def _long_phone(utterance: AlignedUtterance) -> Tuple[float, str]:
    phones = [phone for phone in utterance.phones if phone.word is not None]
    longest = max(phones, key=lambda phone: phone.end - phone.start, default=None)
    if longest is None or longest.word is None:
        return 0.0, ""
    seconds = longest.end - longest.start
    word = utterance.words[longest.word].word
    return seconds / PHONE_LIMIT, f"{longest.phone} of {word} lasts {seconds:.2f} s, at {longest.start:.2f} s"


def write_suspicious(path: PathLike, rows: Sequence[Suspicion]) -> None:
    """Write all utterances, a line each, with the columns rank, score, utterance, reasons, text, parted by tabs."""
    lines = ["rank\tscore\tutterance\treasons\ttext\n"]
    for number, row in enumerate(rows, 1):
        text = " ".join(row.text.split())
        lines.append(f"{number}\t{row.score:.2f}\t{row.id}\t{'; '.join(row.reasons) or '-'}\t{text}\n")
    write_text(path, "".join(lines))
