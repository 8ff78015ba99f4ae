"""What was recognised in one utterance: the one form that transcripts, streams and servers answer in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hybrid.decode.lattice import Lattice


def _unspelt(ids: Sequence[int]) -> List[str]:
    """Of a result without a lattice, which has no ids to spell; a function of a module, so that it can be sent."""
    return []


@dataclass(frozen=True)
class Word:
    """start, end: seconds from the beginning of the audio; None in alternatives, and where the words do not fit.
    conf: the probability that the word is right, 0 to 1; None where nothing has been calibrated."""

    word: str
    start: Optional[float] = None
    end: Optional[float] = None
    conf: Optional[float] = None

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True)
class Alternative:
    """A word sequence of an n-best list. cost: of its best path, natural log, lower is better; only differences
    count."""

    words: Tuple[Word, ...]
    cost: float

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)


@dataclass(frozen=True)
class Result:
    """What was recognised. seconds: of the audio; start: seconds before it, of a part of a recording (the times of its
    words are those of the recording); complete: False where the best path does not end as the language model lets a
    sentence end; lattice: all that was nearly as good, None where no path led through the graph; final: False while an
    utterance goes on, of whose words the first `agreed` will not change; rejected: its words are less sure than the
    recogniser asks for (`Recogniser.calibrated`)."""

    words: Tuple[Word, ...]
    seconds: float
    complete: bool = True
    start: float = 0.0
    lattice: Optional[Lattice] = field(default=None, compare=False, repr=False)
    acoustic_scale: float = field(default=1.0, compare=False, repr=False)
    spelt: Callable[[Sequence[int]], List[str]] = field(default=_unspelt, compare=False, repr=False)
    final: bool = True
    agreed: int = 0
    rejected: bool = False

    @property
    def text(self) -> str:
        return " ".join(word.word for word in self.words)

    @property
    def conf(self) -> Optional[float]:
        """How sure its least sure word is; None where words have no confidences."""
        known = [word.conf for word in self.words if word.conf is not None]
        return min(known) if known and len(known) == len(self.words) else None

    def nbest(self, number: int = 10) -> List[Alternative]:
        """Return the most probable texts, each once, the best first; as many as the lattice has, `number` at most."""
        alternatives: Dict[Tuple[str, ...], Alternative] = {}
        if self.lattice is not None:
            wanted = number
            while True:  # where words are spelled in pieces, several sequences are one text
                entries = self.lattice.nbest(wanted, self.acoustic_scale)
                for entry in entries:
                    words = tuple(self.spelt(entry.words))
                    alternatives.setdefault(words, Alternative(tuple(map(Word, words)), entry.cost))
                if len(alternatives) >= number or len(entries) < wanted:
                    break
                wanted *= 2
        return list(alternatives.values())[:number]

    def shifted(self, seconds: float) -> Result:
        """Return the result of speech that begins so much later."""
        if not seconds:
            return self
        words = tuple(
            word if word.start is None or word.end is None
            else replace(word, start=round(word.start + seconds, 3), end=round(word.end + seconds, 3))
            for word in self.words
        )  # fmt: skip
        return replace(self, words=words, start=self.start + seconds)

    def without_lattice(self) -> Result:
        """Return the words alone, which can be sent to another process."""
        return Result(self.words, self.seconds, self.complete, self.start, rejected=self.rejected)

    def to_dict(self, nbest: int = 1) -> Dict[str, Any]:
        """Return the result as JSON holds it: {"text", "words": [{"word", "start", "end", "conf"}],
        "nbest": [{"text", "cost"}], "final": true}; of an utterance that goes on, "final": false, and "agreed": how
        many words will not change; of one that is rejected, "rejected": true. nbest: how many alternatives, the best
        among them."""
        words = [
            {"word": one.word, "start": one.start, "end": one.end, "conf": _rounded(one.conf)}
            for one in self.words
        ]
        alternatives = [{"text": other.text, "cost": round(other.cost, 4)} for other in self.nbest(nbest)]
        more: Dict[str, Any] = {} if self.final else {"agreed": self.agreed}
        if self.rejected:
            more["rejected"] = True
        return {"text": self.text, "words": words, "nbest": alternatives, "final": self.final, **more}


def _rounded(conf: Optional[float]) -> Optional[float]:
    return None if conf is None else round(conf, 4)
