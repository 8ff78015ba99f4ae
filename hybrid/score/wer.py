"""Word error rate: the fewest substitutions, insertions and deletions that make the reference the hypothesis.

Levenshtein distance with weights 1, 1, 1, as Kaldi's `compute-wer` and kaldialign count. sclite aligns with weights 4,
3, 3: its sum may be larger by an error in a long utterance, and is never smaller. Among alignments of equal cost ours
is fixed, from the end of the utterance backwards: the diagonal only where it alone is best, then a deletion where it is
better than an insertion, else an insertion. That is `compute-wer`'s order, so ins, del and sub agree one by one, and of
two alignments with equally many errors it takes the one with more words right.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.io import PathLike, read_lines

Pair = Tuple[Optional[str], Optional[str]]


@dataclass(frozen=True)
class Counts:
    """Errors against `words` words of reference."""

    words: int = 0
    ins: int = 0
    dels: int = 0
    sub: int = 0

    @property
    def errors(self) -> int:
        return self.ins + self.dels + self.sub

    @property
    def wer(self) -> float:
        """The word error rate in percent; nan where there is no word of reference."""
        return 100.0 * self.errors / self.words if self.words else float("nan")

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.words + other.words, self.ins + other.ins, self.dels + other.dels, self.sub + other.sub
        )

    def as_dict(self) -> Dict[str, int]:
        return {"errors": self.errors, "words": self.words, "ins": self.ins, "del": self.dels, "sub": self.sub}


@dataclass
class Score:
    """The score of a set. Utterances are in sorted order of their ids.

    total; utterances: id -> Counts; speakers: speaker -> Counts (empty where none were given); pairs: id -> aligned
    (reference word, hypothesis word), None on one side for an insertion or a deletion; missing: ids without hypothesis
    (each counted as deletions of all its words); speaker_of: id -> speaker.
    """

    total: Counts
    utterances: Dict[str, Counts]
    speakers: Dict[str, Counts]
    pairs: Dict[str, List[Pair]]
    missing: List[str]
    speaker_of: Dict[str, str] = field(default_factory=dict)

    @property
    def wer(self) -> float:
        return self.total.wer

    def confusions(self) -> Dict[str, List[Tuple[str, str, int]]]:
        """Returns {"sub", "ins", "del"} -> (reference, hypothesis, count), the most frequent first, "" for none."""
        return confusions(self.pairs)


def align(ref: Sequence[str], hyp: Sequence[str]) -> List[Pair]:
    """Returns the aligned pairs of one utterance: with D(i, j) the distance of the first i and j words,

        D(i, j) = min( D(i-1, j-1) + [ref_i != hyp_j],  D(i-1, j) + 1 (deletion),  D(i, j-1) + 1 (insertion) )
    """
    rows = [list(range(len(hyp) + 1))]
    for i, word in enumerate(ref, 1):
        above = rows[-1]
        row = [i]
        for j, hyp_word in enumerate(hyp, 1):
            best = above[j - 1] + (word != hyp_word)
            if above[j] < best:
                best = above[j] + 1
            if row[j - 1] < best:
                best = row[j - 1] + 1
            row.append(best)
        rows.append(row)
    pairs: List[Pair] = []
    i, j = len(ref), len(hyp)
    while i or j:
        ins = rows[i][j - 1] + 1 if j else len(ref) + len(hyp) + 1
        dels = rows[i - 1][j] + 1 if i else len(ref) + len(hyp) + 1
        if i and j and rows[i - 1][j - 1] + (ref[i - 1] != hyp[j - 1]) < min(ins, dels):
            i, j = i - 1, j - 1
            pairs.append((ref[i], hyp[j]))
        elif dels < ins:
            i -= 1
            pairs.append((ref[i], None))
        else:
            j -= 1
            pairs.append((None, hyp[j]))
    pairs.reverse()
    return pairs


def count(pairs: Sequence[Pair]) -> Counts:
    ins = sum(ref is None for ref, _ in pairs)
    dels = sum(hyp is None for _, hyp in pairs)
    sub = sum(ref != hyp for ref, hyp in pairs) - ins - dels
    return Counts(len(pairs) - ins, ins, dels, sub)


def score(
    refs: Mapping[str, Sequence[str]],
    hyps: Mapping[str, Sequence[str]],
    *,
    speakers: Optional[Mapping[str, str]] = None,
) -> Score:
    """Scores words as they stand: no case folding, no normalisation. speakers: id -> speaker of every reference.

    An utterance without hypothesis counts as all its words deleted and is named in `missing`. Raises DataError for a
    hypothesis without reference, for no references at all, and for an utterance without speaker.
    """
    if not refs:
        raise DataError("no reference to score against", remedy="give the transcripts of the set")
    extra = sorted(set(hyps) - set(refs))
    if extra:
        raise DataError(
            f"{len(extra)} hypotheses have no reference",
            utterance=extra[0],
            remedy="score against the transcripts of the set that was decoded",
        )
    pairs = {name: align(list(refs[name]), list(hyps.get(name, ()))) for name in sorted(refs)}
    utterances = {name: count(aligned) for name, aligned in pairs.items()}
    by_speaker: Dict[str, Counts] = {}
    speaker_of: Dict[str, str] = {}
    if speakers is not None:
        for name in utterances:
            if name not in speakers:
                raise DataError("no speaker", utterance=name, remedy="give every utterance a speaker, or none")
            speaker_of[name] = speakers[name]
        for speaker in sorted(set(speaker_of.values())):
            speaker_counts = (utterances[name] for name in utterances if speaker_of[name] == speaker)
            by_speaker[speaker] = sum(speaker_counts, Counts())
    missing = [name for name in utterances if name not in hyps]
    return Score(sum(utterances.values(), Counts()), utterances, by_speaker, pairs, missing, speaker_of)


def confusions(pairs: Mapping[str, Sequence[Pair]]) -> Dict[str, List[Tuple[str, str, int]]]:
    """Counts the errors by kind and word, the most frequent first, then by word."""
    counters: Dict[str, Counter] = {"sub": Counter(), "ins": Counter(), "del": Counter()}
    for aligned in pairs.values():
        for ref, hyp in aligned:
            if ref != hyp:
                kind = "ins" if ref is None else "del" if hyp is None else "sub"
                counters[kind][(ref or "", hyp or "")] += 1
    return {
        kind: [(ref, hyp, n) for (ref, hyp), n in sorted(counter.items(), key=lambda item: (-item[1], item[0]))]
        for kind, counter in counters.items()
    }


def read_text(path: PathLike) -> Dict[str, List[str]]:
    """Reads Kaldi's text file, plain or gzipped: a line an utterance, `id word word ...`; it may have no words.

    Raises DataError (absent, not UTF-8, an id twice, no line) with the line's number.
    """
    rows: Dict[str, List[str]] = {}
    for number, line in enumerate(read_lines(path, "give a Kaldi text file"), 1):
        fields = line.split()
        if not fields:
            continue
        name, words = fields[0], fields[1:]
        if name in rows:
            raise DataError(f"line {number}: the id stands twice", file=path, utterance=name, remedy="remove one")
        rows[name] = words
    if not rows:
        raise DataError("no utterance in the file", file=path, remedy="give a Kaldi text file")
    return rows


def format_text(rows: Mapping[str, Sequence[str]]) -> str:
    """Returns Kaldi's text file, sorted by id."""
    return "".join(" ".join((name, *rows[name])) + "\n" for name in sorted(rows))


def score_files(ref: PathLike, hyp: PathLike) -> Score:
    """Scores two Kaldi text files."""
    return score(read_text(ref), read_text(hyp))


def format_score(result: Score) -> str:
    """Returns text for the terminal: the line of Kaldi's `compute-wer`, the sentence errors, and what is missing."""
    total = result.total
    wrong = sum(counts.errors > 0 for counts in result.utterances.values())
    share = f"{total.wer:.2f}" if total.words else "-"
    lines = [
        f"%WER {share} [ {total.errors} / {total.words}, {total.ins} ins, {total.dels} del, {total.sub} sub ]",
        f"%SER {100 * wrong / len(result.utterances):.2f} [ {wrong} / {len(result.utterances)} ]",
    ]
    if result.missing:
        lines.append(f"{len(result.missing)} without hypothesis, all words deleted; the first: {result.missing[0]}")
    return "\n".join(lines)


def format_aligned(result: Score) -> str:
    """Returns three lines an utterance (ref, hyp, operations C S D I) in columns.

    As sclite's `pralign`, for people to read.
    """
    out = []
    for name, aligned in result.pairs.items():
        counts = result.utterances[name]
        columns = [(ref or "***", hyp or "***", _operation(ref, hyp)) for ref, hyp in aligned]
        widths = [max(map(len, column)) for column in columns]
        out.append(f"{name}  {counts.errors} of {counts.words}: {counts.sub} sub, {counts.ins} ins, {counts.dels} del")
        for k, label in enumerate(("ref", "hyp", "op ")):
            cells = (column[k].ljust(width) for column, width in zip(columns, widths, strict=True))
            out.append(f"  {label} {' '.join(cells)}".rstrip())
        out.append("")
    return "\n".join(out) + "\n"


def _operation(ref: Optional[str], hyp: Optional[str]) -> str:
    return "I" if ref is None else "D" if hyp is None else "C" if ref == hyp else "S"
