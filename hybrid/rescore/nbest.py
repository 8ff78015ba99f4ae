"""N-best lists: what a recogniser thinks was said, best first, to be put into another order.

Ours is JSON Lines, plain or gzipped, a list a line:

    {"id": "u1", "speaker": "s1", "reference": "a b c",
     "hypotheses": [{"text": "a b c", "score": -12.3}, {"text": "a b", "score": -13.1}]}

score: natural log, of the whole hypothesis, higher is better; without any score the order is all that is known. speaker
and reference may be absent. A hypothesis may have "parts": {"graph": -7.1}, the share that models had in its score, of
the same names in the whole list, which weights may count apart (scorers.py). HyPoradise's lists (v0; .json or .json.gz:
a list of {"input", "output", "am_score", "id"}) are read too. Its am_score is an average a token: times one length of
the utterance, that of its first hypothesis, it is the score of each; times each hypothesis's own it would favour the
short ones.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from hybrid.decode.paths import Entry
from hybrid.errors import DataError, HybridError
from hybrid.io import PathLike, iter_jsonl, open_bytes, write_jsonl
from hybrid.score.distance import edit_distances

MOST = 10_000  # hypotheses of a list
_ATIS_SPEAKER = 3  # characters of an id


@dataclass(frozen=True, eq=False)
class NbestList:
    """hypotheses: n of words, each once; scores: float64 [n], natural log of the first pass; ranked: only their order
    is known, and scores are 0, -1, -2 ...; speaker: the id where it is not known; parts: float64 [n] by name."""

    id: str
    hypotheses: Tuple[Tuple[str, ...], ...]
    scores: np.ndarray
    reference: Optional[Tuple[str, ...]]
    speaker: str
    ranked: bool = False
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The place of the hypothesis that the first pass likes best; of several the first."""
        return int(np.argmax(self.scores))

    def errors(self) -> np.ndarray:
        """Return the edit distance of each hypothesis to the reference, int64 [n].

        Raises DataError where there is no reference.
        """
        if self.reference is None:
            raise DataError("a list without a reference", utterance=self.id, remedy="leave it out of what is scored")
        return edit_distances(self.reference, self.hypotheses)

    def part(self, name: str) -> np.ndarray:
        """Return the part of each hypothesis's score, float64 [n]. Raises DataError where the list does not have it."""
        if name not in self.parts:
            has = f"it has {', '.join(sorted(self.parts))}" if self.parts else "it has none"
            raise DataError(f"no part {name!r} of scores: {has}", utterance=self.id, remedy="leave part: out")
        return self.parts[name]


def make_list(
    identifier: str,
    hypotheses: Sequence[Sequence[str]],
    scores: Optional[Sequence[float]] = None,
    reference: Optional[Sequence[str]] = None,
    speaker: Optional[str] = None,
    parts: Optional[Mapping[str, Sequence[float]]] = None,
) -> NbestList:
    """Make a list of what may hold doubles: of those of the same words the best score stays, at the first's place.

    Raises DataError that names the utterance: nothing in the list, scores or parts of another number or not finite.
    """

    def bad(what: str) -> DataError:
        return DataError(what, utterance=identifier, remedy="leave the list out, or write it anew")

    if not hypotheses:
        raise bad("a list without a hypothesis")
    if len(hypotheses) > MOST:
        raise bad(f"{len(hypotheses)} hypotheses, above {MOST}")

    def column(values: Sequence[Any], what: str) -> np.ndarray:
        if len(values) != len(hypotheses):
            raise bad(f"{len(values)} {what}s for {len(hypotheses)} hypotheses")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise bad(f"the {what} {value!r} is not a finite number")
        return np.array(values, dtype=np.float64)

    whole = -np.arange(float(len(hypotheses))) if scores is None else column(scores, "score")
    columns = {name: column(values, f"part {name!r}") for name, values in (parts or {}).items()}
    best: Dict[Tuple[str, ...], int] = {}  # of each sequence of words, the place of its best score
    for place, words in enumerate(hypotheses):
        key = tuple(words)
        best[key] = max(best.get(key, place), place, key=whole.__getitem__)
    places = list(best.values())
    return NbestList(
        identifier, tuple(best), -np.arange(float(len(best))) if scores is None else whole[places],
        None if reference is None else tuple(reference), speaker or identifier, scores is None,
        {name: values[places] for name, values in columns.items()},
    )  # fmt: skip


def of_entries(
    identifier: str, entries: Sequence[Entry], hypotheses: Sequence[Sequence[str]], acoustic_scale: float,
    reference: Optional[Sequence[str]] = None, speaker: Optional[str] = None,
) -> NbestList:  # fmt: skip
    """Make a list of a lattice's n-best list. hypotheses: the words of each entry; part "graph" of a score: all of it
    but the acoustics, which is to say the language model, pronunciations, transitions and word penalties."""
    scores = [-float(entry.cost) for entry in entries]
    graph = [acoustic_scale * float(entry.part) - float(entry.cost) for entry in entries]
    return make_list(identifier, hypotheses, scores, reference, speaker, {"graph": graph})


def in_order(item: NbestList, places: Sequence[int], scores: np.ndarray) -> NbestList:
    """Return the list with its hypotheses in the order of `places`; scores: float64 [n], in the place of its own."""
    rows = list(places)
    return replace(
        item, hypotheses=tuple(item.hypotheses[place] for place in rows), scores=scores[rows], ranked=False,
        parts={name: values[rows] for name, values in item.parts.items()},
    )  # fmt: skip


class SeenIds:
    """The ids that were read, 8 bytes each: their hashes. Two of a million ids are taken for one once in 4e7 times."""

    def __init__(self) -> None:
        self._recent: Set[int] = set()
        self._sorted = np.zeros(0, np.int64)

    def add(self, name: str) -> bool:
        """Return whether the id is new."""
        value = hash(name)
        place = int(np.searchsorted(self._sorted, value))
        if value in self._recent or (place < len(self._sorted) and self._sorted[place] == value):
            return False
        self._recent.add(value)
        if len(self._recent) >= 1 << 16:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._recent, np.int64))
            self._recent = set()
        return True


def read_lists(path: PathLike, seen: Optional[SeenIds] = None) -> Iterator[NbestList]:
    """Yield the lists of a file, ours one by one, HyPoradise's after all of it has been read.

    seen: ids of other files. Raises DataError that names file and line or list, and for an id that stands twice.
    """
    path = Path(path)
    seen, number = seen or SeenIds(), 0
    elsewhere = path.name.endswith((".json", ".json.gz"))
    for item in _of_array(path) if elsewhere else _rows(path):
        if not seen.add(item.id):
            raise DataError("the id stands twice", file=path, utterance=item.id, remedy="ids must be unique")
        number += 1
        yield item
    if not number:
        raise DataError("no list in it", file=path, remedy="give n-best lists, one a line")


def _rows(path: Path) -> Iterator[NbestList]:
    for number, row in enumerate(iter_jsonl(path), 1):
        yield _told(path, f"line {number}", lambda row=row: _ours(row))  # type: ignore[misc]


def _ours(row: Any) -> NbestList:
    hypotheses = row.get("hypotheses") if isinstance(row, dict) else None
    if not isinstance(hypotheses, list) or not all(isinstance(item, dict) for item in hypotheses):
        raise DataError('no "hypotheses", a list of {"text", "score"}')
    identifier = _text(row, "id")
    scores = [item.get("score") for item in hypotheses]
    known = [score is not None for score in scores]
    if any(known) and not all(known):
        raise DataError("a score for some hypotheses, and none for others", utterance=identifier)
    return make_list(
        identifier, [_text(item, "text").split() for item in hypotheses], scores if all(known) else None,  # type: ignore[arg-type]
        None if row.get("reference") is None else _text(row, "reference").split(),
        None if row.get("speaker") is None else _text(row, "speaker"), _parts(hypotheses, identifier),
    )  # fmt: skip


def _parts(hypotheses: Sequence[Dict[str, Any]], identifier: str) -> Dict[str, List[Any]]:
    rows = [item.get("parts", {}) for item in hypotheses]
    if not all(isinstance(row, dict) for row in rows) or len({frozenset(row) for row in rows}) > 1:
        raise DataError("parts that are no objects of the same names in the whole list", utterance=identifier)
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


def _of_array(path: Path) -> Iterator[NbestList]:
    with open_bytes(path, "give a file of n-best lists", what="file of n-best lists") as stream:
        raw = stream.read()
    try:
        rows = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", file=path, remedy="give JSON Lines, or HyPoradise's list") from None
    if not isinstance(rows, list):
        raise DataError("JSON, but no list of n-best lists", file=path, remedy="name it .jsonl where it is JSON Lines")
    for number, row in enumerate(rows, 1):
        yield _told(path, f"list {number}", lambda row=row, number=number: _hyporadise(row, number))  # type: ignore[misc]


def _hyporadise(row: Any, number: int) -> NbestList:
    if not isinstance(row, dict) or not isinstance(row.get("input"), list):
        raise DataError('no "input", a list of texts')
    texts = row["input"]
    if not all(isinstance(text, str) for text in texts):
        raise DataError('"input" is no list of texts')
    hypotheses = [text.split() for text in texts]
    identifier = _text(row, "id") if "id" in row else f"list-{number}"
    averages = row.get("am_score")
    scores = None
    if averages is not None:
        if not isinstance(averages, list) or not all(isinstance(value, (int, float)) for value in averages):
            raise DataError("am_score is no list of numbers", utterance=identifier)
        scores = [value * max(1, len(hypotheses[0])) for value in averages] if hypotheses else []
    speaker = identifier[:_ATIS_SPEAKER] if "id" in row else None
    return make_list(identifier, hypotheses, scores, _text(row, "output").split(), speaker)


def _text(row: Dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f'no "{name}", a text')
    return value


def _told(path: Path, place: str, make: Any) -> NbestList:
    """Return make(); its errors name the file and the place in it."""
    try:
        return make()  # type: ignore[no-any-return]
    except HybridError as error:
        raise DataError(
            f"{place}: {error.what}", file=path, utterance=error.utterance,
            remedy=error.remedy or "the format stands in hybrid/rescore/nbest.py",
        ) from None  # fmt: skip


def write_lists(path: PathLike, lists: Iterable[NbestList]) -> None:
    """Write lists in our format, one by one, to a file that is whole or not there."""
    write_jsonl(path, map(row_of, lists))


def row_of(item: NbestList) -> Dict[str, Any]:
    """Return the JSON object of a list."""
    hypotheses: List[Dict[str, Any]] = []
    for place, (words, score) in enumerate(zip(item.hypotheses, item.scores.tolist(), strict=True)):
        hypotheses.append({"text": " ".join(words)} if item.ranked else {"text": " ".join(words), "score": score})
        if item.parts:
            hypotheses[-1]["parts"] = {name: float(values[place]) for name, values in item.parts.items()}
    row: Dict[str, Any] = {"id": item.id, "speaker": item.speaker, "hypotheses": hypotheses}
    return row if item.reference is None else {**row, "reference": " ".join(item.reference)}


def oracle(lists: Iterable[NbestList]) -> Tuple[int, int]:
    """Return the fewest errors that the lists allow, and the words of their references."""
    errors, words = 0, 0
    for item in lists:
        errors += int(item.errors().min())
        words += len(item.reference or ())
    return errors, words
