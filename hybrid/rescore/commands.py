"""What `hybrid rescore lists | tune | apply | train-linear` do."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.decode.archive import read_lattices
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, atomic_lines, write_lines
from hybrid.lexicon.tables import read_table
from hybrid.rescore import linear
from hybrid.rescore.combine import Combination, tune_on
from hybrid.rescore.combine import apply as apply_to
from hybrid.rescore.nbest import NbestList, make_list, read_lists, row_of
from hybrid.rescore.normalise import Spelling, atis_spelling, read_rules
from hybrid.rescore.scorers import Scorer, load_scorer
from hybrid.run import line_progress
from hybrid.score.significance import bootstrap_interval
from hybrid.score.wer import read_text


def input_lists(options: argparse.Namespace, paths: Sequence[Path]) -> Iterator[NbestList]:
    """Yield the lists of the files, in the spelling that the options ask for, showing how far it is.

    Raises DataError as read_lists, and for an id that two files have.
    """
    spelling = find_spelling(options.spelling) if getattr(options, "spelling", "") else None
    seen = set()
    for path in paths:
        for item in shown(read_lists(path), path.name):
            if item.id in seen:
                raise DataError("the id stands in two files", file=path, utterance=item.id, remedy="ids must be unique")
            seen.add(item.id)
            yield item if spelling is None else spelling.of_list(item)


def find_spelling(name: str) -> Spelling:
    return atis_spelling() if name == "atis" else read_rules(name)


def shown(items: Iterable[Any], name: str) -> Iterator[Any]:
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=name, leave=False, dynamic_ncols=True)
    else:
        yield from line_progress(items, None, name, 10.0)


def train_linear(options: argparse.Namespace) -> None:
    model = linear.train_linear(input_lists(options, options.lists), l2=options.l2, least=options.least)
    model.save(options.out)
    print(f"{options.out}: {len(model.places)} features, weight of the first pass {model.first_weight:.3f}")


def tune(options: argparse.Namespace) -> None:
    if not options.scorers:
        raise ConfigError("no scorer", remedy="give --scorer KIND:PATH, one or several times")
    scorers = _loaded(options.scorers, options.device)
    rates = _Rates()
    combination = tune_on(rates.watched(input_lists(options, options.lists)), scorers, options.seed)
    combination.save(options.out)
    after = rates.rescored(apply_to(iter(rates.lists), list(scorers.values()), combination))
    for _ in after:
        pass
    print(rates.text())
    named = zip(combination.scorers, combination.weights, strict=True)
    weights = "".join(f", {name} {weight:.4g}" for name, weight in named)
    print(f"{options.out}: first pass {combination.first:.4g}, words {combination.words:.4g}{weights}")


def apply(options: argparse.Namespace) -> None:
    combination = Combination.load(options.weights)
    specs = options.scorers or list(combination.scorers)
    if [spec.partition(":")[0] for spec in specs] != [spec.partition(":")[0] for spec in combination.scorers]:
        raise ConfigError(
            f"scorers {', '.join(specs)}, the weights are of {', '.join(combination.scorers)}",
            remedy="give as many --scorer, of the same kinds in the same order",
        )
    if not options.out and not options.text:
        raise ConfigError("nothing to write", remedy="give --out or --text, or both")
    scorers = list(_loaded(specs, options.device).values())
    rates = _Rates()
    rescored = rates.rescored(apply_to(input_lists(options, options.lists), scorers, combination))
    if options.text:
        rescored = _writing(options.text, rescored, lambda item: " ".join((item.id, *item.hypotheses[0])))
    if options.out:
        rescored = _writing(options.out, rescored, lambda item: json.dumps(row_of(item), ensure_ascii=False))
    for _ in rescored:
        pass
    print(rates.text())


def _loaded(specs: Sequence[str], device: str) -> Dict[str, Scorer]:
    if len(set(specs)) != len(specs):
        raise ConfigError("a scorer stands twice", remedy="give each once")
    return {spec: load_scorer(spec, device) for spec in specs}


def _writing(path: PathLike, items: Iterable[NbestList], line_of: Any) -> Iterator[NbestList]:
    """Write a line an item as they pass; the file is there when all have."""
    with atomic_lines(path) as write:
        for item in items:
            write(line_of(item))
            yield item


class _Rates:
    """Errors of lists with references: of the first pass, of the second, and the fewest there could be."""

    def __init__(self) -> None:
        self.lists: List[NbestList] = []
        self.errors: Dict[str, Dict[str, Tuple[int, int]]] = {"first pass": {}, "rescored": {}, "oracle": {}}
        self.speakers: Dict[str, str] = {}
        self.number = 0

    def watched(self, lists: Iterable[NbestList]) -> Iterator[NbestList]:
        for item in lists:
            self.lists.append(item)
            yield item

    def rescored(self, pairs: Iterable[Tuple[NbestList, NbestList]]) -> Iterator[NbestList]:
        for before, after in pairs:
            self.number += 1
            if before.reference is not None:
                of_words = dict(zip(before.hypotheses, before.errors().tolist(), strict=True))
                found = {
                    "first pass": of_words[before.first], "rescored": of_words[after.hypotheses[0]],
                    "oracle": min(of_words.values()),
                }  # fmt: skip
                for row, errors in found.items():
                    self.errors[row][before.id] = (errors, len(before.reference))
                self.speakers[before.id] = before.speaker
            yield after

    def text(self) -> str:
        if not self.speakers:
            return f"{self.number} lists, without references"
        rows = [f"{self.number} lists, {len(self.speakers)} with references"]
        for row, errors in self.errors.items():
            words = sum(count for _, count in errors.values())
            low, high = bootstrap_interval(errors, speakers=self.speakers)
            rate = 100.0 * sum(count for count, _ in errors.values()) / words if words else float("nan")
            rows.append(f"{row:12} WER {rate:6.2f} % [{low:.2f}, {high:.2f}] of {words} words")
        return "\n".join(rows)


def write_from_lattices(options: argparse.Namespace) -> None:
    if options.number < 1:
        raise ConfigError(f"{options.number} hypotheses", remedy="1 or more")
    if not (np.isfinite(options.acoustic_scale) and options.acoustic_scale > 0):
        raise ConfigError(f"an acoustic scale of {options.acoustic_scale}", remedy="a number above 0")
    names = {number: name for name, number in read_table(options.words).items()}
    references = read_text(options.text) if options.text else {}
    rows = read_text(options.utt2spk) if options.utt2spk else {}
    speakers = {name: fields[0] for name, fields in rows.items() if fields}
    items = _of_lattices(options, names, references, speakers)
    write_lines(options.out, (json.dumps(row_of(item), ensure_ascii=False) for item in items))


def _of_lattices(
    options: argparse.Namespace, names: Dict[int, str], references: Dict[str, List[str]], speakers: Dict[str, str]
) -> Iterator[NbestList]:
    for identifier, lattice in shown(read_lattices(options.archive), options.archive.name):
        words = lattice.determinised(options.acoustic_scale)
        entries = words.nbest(options.number, options.acoustic_scale, options.word_penalty)
        if not entries:
            remedy = "leave it out"
            raise DataError("a lattice without a path", file=options.archive, utterance=identifier, remedy=remedy)
        hypotheses = [[_name(names, word, options, identifier) for word in entry.words] for entry in entries]
        reference: Optional[List[str]] = references.get(identifier)
        yield make_list(
            identifier, hypotheses, [-float(entry.cost) for entry in entries], reference, speakers.get(identifier)
        )


def _name(names: Dict[int, str], word: int, options: argparse.Namespace, identifier: str) -> str:
    if word not in names:
        raise DataError(
            f"word {word} is not in {options.words}", file=options.archive, utterance=identifier,
            remedy="give the words.txt that the lattices were made with",
        )  # fmt: skip
    return names[word]
