"""Graphones: which letters of a word stand for which phones, found by EM on the pronunciations alone.

S. Deligne, F. Yvon and F. Bimbot, "Variable-length sequence matching for phonetic transcription using joint
multigrams", Eurospeech 1995; M. Bisani and H. Ney, "Joint-sequence models for grapheme-to-phoneme conversion",
Speech Communication 50, 2008; shapes as in S. Jiampojamarn et al., "Applying many-to-many alignments and hidden
Markov models to letter-to-phoneme conversion", NAACL-HLT 2007, and Phonetisaurus.

A graphone e is a chunk of a letters with a chunk of b phones, (a, b) one of `shapes`: one letter without a phone,
with one or with two. A segmentation S cuts the letters g_1..g_n and the phones
f_1..f_m of one word side by side into graphones. The model is the simplest there is, each graphone by itself:

    p(g, f) = sum over S of  product over e in S of p(e)                  sum over e of p(e) = 1

Forward: the first i letters with the first j phones; backward: what follows them.

    alpha(0, 0) = 1    alpha(i, j) = sum over shapes (a, b) of alpha(i-a, j-b) p(g_{i-a+1..i}, f_{j-b+1..j})
    beta(n, m) = 1     beta(i, j)  = sum over shapes (a, b) of p(g_{i+1..i+a}, f_{j+1..j+b}) beta(i+a, j+b)

E step: the expected count of e sums, over the words and the places (i, j) where e fits,

    alpha(i, j) p(e) beta(i+a, j+b) / alpha(n, m)                         M step: p(e) = count(e) / sum of counts

No iteration lowers the sum of log p(g, f). What EM reaches depends on where it starts. The start here is p(e) =
c^a with c such that p sums to 1: then each segmentation of a word has the same probability c^n. (From the uniform p,
a segmentation into few graphones starts ahead by a factor of tens of thousands for each that it saves.)

Where the code differs from the formulas: since every shape has a >= 1, alpha of row i needs earlier rows alone, so
that a row is one array operation over all j and all words of as many letters (`Batch`). p is multiplied by s^a,
s = exp(-the mean log-likelihood of a letter): a path through n letters takes s^n whatever the segmentation, so the
posteriors stay the same and products of 60 letters stay within a float's range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError

Shape = Tuple[int, int]

# (letters, phones). Small graphones and a long n-gram do best, as Bisani and Ney found. A tenth of CMUdict held out
# (4,000 words, 8-gram): 25.0 % words wrong; with (2, 1), as Phonetisaurus has, 25.3 %; with (2, 2) too, 28.4 %.
SHAPES: Tuple[Shape, ...] = ((1, 1), (1, 0), (1, 2))
MAX_LETTERS = 60  # longer words are left out; the longest of CMUdict has 34
_BATCH = 2048  # words in one array operation


class Graphone(NamedTuple):
    letters: str
    phones: Tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """Words of as many letters. `letters[a][word, i]` numbers the chunk of a letters from i on, `phones[b][word, j]`
    that of b phones from j on; past a word's phones stands the number of chunks, whose probability is 0."""

    pairs: List[int]
    n: int  # letters of every word
    lengths: np.ndarray  # phones of each word
    letters: Dict[int, np.ndarray]
    phones: Dict[int, np.ndarray]


class Aligner:
    """EM over the pairs, and their best segmentations.

    `pairs` are (word, phones); `rejected` lists the indices of those that no segmentation covers (more phones
    than their letters can stand for) or that are longer than MAX_LETTERS, and `accepted` the others.
    Raises DataError where none is left, ConfigError for a shape without letters or given twice.
    """

    def __init__(self, pairs: Sequence[Tuple[str, Sequence[str]]], *, shapes: Sequence[Shape] = SHAPES) -> None:
        if not shapes or len({*shapes}) < len(shapes) or any(a < 1 or b < 0 for a, b in shapes):
            raise ConfigError(f"graphone shapes {list(shapes)}", remedy="give pairs (letters >= 1, phones >= 0)")
        self.shapes = tuple(shapes)
        possible = {(len(word), len(phones)) for word, phones in pairs if len(word) <= MAX_LETTERS}
        possible = {lengths for lengths in possible if _fits(*lengths, self.shapes)}
        self.accepted = [k for k, (word, phones) in enumerate(pairs) if (len(word), len(phones)) in possible]
        self.rejected = sorted({*range(len(pairs))} - {*self.accepted})
        if not self.accepted:
            raise DataError(
                f"none of {len(pairs)} pronunciations can be cut into graphones",
                remedy="give a lexicon of words spelled with letters, at most two phones a letter",
            )
        self._letter_chunks = {
            a: _chunks((pairs[k][0] for k in self.accepted), a) for a in sorted({a for a, _ in shapes})
        }
        self._phone_chunks = {
            b: _chunks((pairs[k][1] for k in self.accepted), b) for b in sorted({b for _, b in shapes})
        }
        self._batches = list(self._make_batches(pairs))
        sizes = {(a, b): (len(self._letter_chunks[a]), len(self._phone_chunks[b])) for a, b in self.shapes}
        start = _start([(a, k * p) for (a, _), (k, p) in sizes.items()])
        # [letter chunks, phone chunks + 1]; the last column is the chunk past a word's phones.
        self._probs = {shape: np.full((k, p + 1), start ** shape[0]) for shape, (k, p) in sizes.items()}
        for table in self._probs.values():
            table[:, -1] = 0.0
        self._scale = 1.0 / start

    def _make_batches(self, pairs: Sequence[Tuple[str, Sequence[str]]]) -> Iterable[Batch]:
        by_length: Dict[int, List[int]] = {}
        for k in sorted(self.accepted, key=lambda k: len(pairs[k][1])):  # little padding
            by_length.setdefault(len(pairs[k][0]), []).append(k)
        for n in sorted(by_length):
            for begin in range(0, len(by_length[n]), _BATCH):
                members = by_length[n][begin : begin + _BATCH]
                words, phones = zip(*(pairs[k] for k in members))
                lengths = np.array([*map(len, phones)])
                longest = int(lengths.max())
                yield Batch(
                    members,
                    n,
                    lengths,
                    {a: _numbers(words, a, n, chunks) for a, chunks in self._letter_chunks.items()},
                    {b: _numbers(phones, b, longest, chunks) for b, chunks in self._phone_chunks.items()},
                )

    def step(self) -> float:
        """Run one EM iteration. Returns the natural log-likelihood of the accepted pairs as it was before."""
        counts = {shape: np.zeros(table.size) for shape, table in self._probs.items()}
        scaled = {shape: table * self._scale ** shape[0] for shape, table in self._probs.items()}
        total, letters = 0.0, 0
        for batch in self._batches:
            likelihood = self._expect(batch, scaled, counts)
            total += float(np.log(likelihood).sum()) - len(likelihood) * batch.n * math.log(self._scale)
            letters += len(likelihood) * batch.n
        mass = sum(float(count.sum()) for count in counts.values())
        for shape, count in counts.items():
            self._probs[shape] = (count / mass).reshape(self._probs[shape].shape)
        self._scale = math.exp(-total / letters)
        return total

    def train(self, iterations: int = 10, *, gain: float = 1e-3) -> List[float]:
        """Run EM until the log-likelihood of a letter rises by less than `gain`; returns that of all before each step.

        Raises ConfigError for less than 1 iteration."""
        if iterations < 1:
            raise ConfigError(f"{iterations} iterations of EM", remedy="give 1 or more; usual: 10")
        letters = sum(len(batch.pairs) * batch.n for batch in self._batches)
        history: List[float] = []
        for _ in range(iterations):
            history.append(self.step())
            if len(history) > 1 and history[-1] - history[-2] < gain * letters:
                break
        return history

    def probs(self) -> Dict[Graphone, float]:
        """Return the probability of every graphone for which it is above 0."""
        probs = {}
        for (a, b), table in self._probs.items():
            letters, phones = list(self._letter_chunks[a]), list(self._phone_chunks[b])
            for row, column in zip(*np.nonzero(table)):
                probs[Graphone("".join(letters[row]), phones[column])] = float(table[row, column])
        return probs

    def best(self) -> List[Tuple[Graphone, ...]]:
        """Return the most probable segmentation of each accepted pair, in the order of `accepted` (Viterbi; among
        equals the one whose last graphones have the earlier shapes)."""
        paths: Dict[int, Tuple[Graphone, ...]] = {}
        with np.errstate(divide="ignore"):
            logs = {shape: np.log(table) for shape, table in self._probs.items()}
        letters = {a: list(chunks) for a, chunks in self._letter_chunks.items()}
        phones = {b: list(chunks) for b, chunks in self._phone_chunks.items()}
        for batch in self._batches:
            choice = self._viterbi(batch, logs)
            for word, k in enumerate(batch.pairs):
                i, j, path = batch.n, int(batch.lengths[word]), []
                while i:
                    a, b = self.shapes[choice[i, word, j]]
                    i, j = i - a, j - b
                    path.append(
                        Graphone("".join(letters[a][batch.letters[a][word, i]]), phones[b][batch.phones[b][word, j]])
                    )
                paths[k] = tuple(reversed(path))
        return [paths[k] for k in self.accepted]

    def _expect(self, batch: Batch, probs: Dict[Shape, np.ndarray], counts: Dict[Shape, np.ndarray]) -> np.ndarray:
        """Adds the batch's expected counts; returns the (scaled) likelihood of each word."""
        n, m = batch.n, int(batch.lengths.max())
        words = np.arange(len(batch.pairs))
        alpha = np.zeros((n + 1, len(words), m + 1))
        beta = np.zeros_like(alpha)
        alpha[0, :, 0] = 1.0
        beta[n, words, batch.lengths] = 1.0
        for i in range(1, n + 1):
            for (a, b), table in probs.items():
                if a <= i and b <= m:
                    p = table.ravel()[_places(batch, i - a, (a, b), table.shape[1])]
                    alpha[i, :, b:] += alpha[i - a, :, : m + 1 - b] * p
        # A word beyond the range, were there one, would count for nothing: its alpha beta are 0.
        likelihood = np.maximum(alpha[n, words, batch.lengths], np.finfo(np.float64).tiny)
        weight = 1.0 / likelihood[:, None]
        contributions: Dict[Shape, List[Tuple[np.ndarray, np.ndarray]]] = {shape: [] for shape in probs}
        for i in range(n - 1, -1, -1):
            for (a, b), table in probs.items():
                if i + a <= n and b <= m:
                    places = _places(batch, i, (a, b), table.shape[1])
                    continuation = table.ravel()[places] * beta[i + a, :, b:]
                    beta[i, :, : m + 1 - b] += continuation
                    contributions[a, b].append((places, alpha[i, :, : m + 1 - b] * continuation * weight))
        for shape, parts in contributions.items():
            if parts:
                places, amounts = (np.concatenate([part.ravel() for part in column]) for column in zip(*parts))
                counts[shape] += np.bincount(places, amounts, minlength=len(counts[shape]))
        return likelihood

    def _viterbi(self, batch: Batch, logs: Dict[Shape, np.ndarray]) -> np.ndarray:
        """[letters + 1, words, phones + 1]: the number of the shape that the best path to (i, j) ends with."""
        n, m = batch.n, int(batch.lengths.max())
        best = np.full((n + 1, len(batch.pairs), m + 1), -np.inf)
        best[0, :, 0] = 0.0
        choice = np.zeros(best.shape, np.int8)
        for i in range(1, n + 1):
            for number, (a, b) in enumerate(self.shapes):
                if a <= i and b <= m:
                    table = logs[a, b]
                    score = best[i - a, :, : m + 1 - b] + table.ravel()[_places(batch, i - a, (a, b), table.shape[1])]
                    better = score > best[i, :, b:]
                    best[i, :, b:][better] = score[better]
                    choice[i, :, b:][better] = number
        return choice


def _places(batch: Batch, i: int, shape: Shape, width: int) -> np.ndarray:
    """[words, starts j]: where the graphone of `shape` at letter i and phone j stands in the flat table."""
    return batch.letters[shape[0]][:, i, None] * width + batch.phones[shape[1]]


def _fits(n: int, m: int, shapes: Sequence[Shape]) -> bool:
    """Whether n letters and m >= 1 phones can be cut into graphones."""
    cells = {(0, 0)}
    for i in range(n):
        cells |= {(i + a, j + b) for k, j in tuple(cells) if k == i for a, b in shapes if i + a <= n and j + b <= m}
    return n > 0 and m > 0 and (n, m) in cells


def _chunks(items: Iterable[Sequence[str]], size: int) -> Dict[Tuple[str, ...], int]:
    """The chunks of that size, numbered in sorted order."""
    chunks = {tuple(item[k : k + size]) for item in items for k in range(len(item) - size + 1)}
    return {chunk: number for number, chunk in enumerate(sorted(chunks))}


def _numbers(items: Sequence[Sequence[str]], size: int, longest: int, table: Dict[Tuple[str, ...], int]) -> np.ndarray:
    """[items, max(longest - size + 1, 0)]: the numbers of the chunks, padded with len(table)."""
    numbers = np.full((len(items), max(longest - size + 1, 0)), len(table), np.int64)
    for row, item in enumerate(items):
        for k in range(len(item) - size + 1):
            numbers[row, k] = table[tuple(item[k : k + size])]
    return numbers


def _start(sizes: Sequence[Tuple[int, int]]) -> float:
    """c with sum over (a, number) of number c^a = 1, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(k * middle**a for a, k in sizes) < 1.0 else (low, middle)
    return low
