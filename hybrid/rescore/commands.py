"""What `hybrid rescore lists | tune | apply | train-linear` do."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, TextIO

import numpy as np

from hybrid.decode.archive import lattices_of_words
from hybrid.destination import find_destination
from hybrid.errors import ConfigError, DataError
from hybrid.io import atomic_lines, write_lines
from hybrid.lexicon.tables import read_table
from hybrid.rescore import linear
from hybrid.rescore.combine import Combination, columns, scored, tune_on
from hybrid.rescore.nbest import NbestList, SeenIds, in_order, of_entries, read_lists, row_of
from hybrid.rescore.normalise import Spelling, atis_spelling, read_rules
from hybrid.rescore.rates import ErrorSums
from hybrid.rescore.scorers import AnyScorer, load_scorer
from hybrid.run import line_progress
from hybrid.score.wer import read_text


def input_lists(options: argparse.Namespace, paths: Sequence[Path]) -> Iterator[NbestList]:
    """Yield the lists of the files, in the spelling that the options ask for, showing how far it is.

    Raises DataError as read_lists, and for an id that two files have.
    """
    spelling = find_spelling(options.spelling) if options.spelling else None
    seen = SeenIds()
    for path in paths:
        for item in shown(read_lists(path, seen), path.name):
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
    lists = list(input_lists(options, options.lists))
    scores = columns(lists, list(scorers.values()))
    combination = tune_on(lists, scores, tuple(scorers), options.spelling, options.seed)
    combination.save(options.out)
    sums = ErrorSums()
    for item, of_item in zip(lists, scores, strict=True):
        sums.add(item, int(np.argmax(combination.totals(of_item))))
    out = _stream(options.out)
    print(sums.text(), file=out)
    named = zip(combination.scorers, combination.weights, strict=True)
    weights = "".join(f", {name} {weight:.4g}" for name, weight in named)
    print(f"{options.out}: first pass {combination.first:.4g}, words {combination.words:.4g}{weights}", file=out)


def apply(options: argparse.Namespace) -> None:
    combination = Combination.load(options.weights)
    options.spelling = options.spelling or combination.spelling
    specs = options.scorers or list(combination.scorers)
    if [spec.partition(":")[0] for spec in specs] != [spec.partition(":")[0] for spec in combination.scorers]:
        raise ConfigError(
            f"scorers {', '.join(specs)}, the weights are of {', '.join(combination.scorers)}",
            remedy="give as many --scorer, of the same kinds in the same order",
        )
    if not options.out and not options.text:
        raise ConfigError("nothing to write", remedy="give --out or --text, or both")
    scorers = list(_loaded(specs, options.device).values())
    sums = ErrorSums()
    with contextlib.ExitStack() as stack:
        writers = {path: stack.enter_context(atomic_lines(path)) for path in (options.out, options.text) if path}
        for item, scores in scored(input_lists(options, options.lists), scorers):
            totals = combination.totals(scores)
            order = np.argsort(-totals, kind="stable").tolist()
            sums.add(item, order[0])
            ordered = in_order(item, order, totals)
            if options.out:
                writers[options.out](json.dumps(row_of(ordered), ensure_ascii=False))
            if options.text:
                writers[options.text](" ".join((item.id, *ordered.hypotheses[0])))
    print(sums.text(), file=_stream(options.out, options.text))


def _stream(*paths: Optional[Path]) -> TextIO:
    """Standard output; standard error where a file that is written may be standard output itself."""
    special = any(path and find_destination(path).special for path in paths)
    return sys.stderr if special else sys.stdout


def _loaded(specs: Sequence[str], device: str) -> Dict[str, AnyScorer]:
    if len(set(specs)) != len(specs):
        raise ConfigError("a scorer stands twice", remedy="give each once")
    return {spec: load_scorer(spec, device) for spec in specs}


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
    lattices = lattices_of_words(options.archive, options.acoustic_scale)
    for identifier, words in shown(lattices, options.archive.name):
        entries = words.nbest(options.number, options.acoustic_scale, options.word_penalty)
        if not entries:
            remedy = "leave it out"
            raise DataError("a lattice without a path", file=options.archive, utterance=identifier, remedy=remedy)
        hypotheses = [[_name(names, word, options, identifier) for word in entry.words] for entry in entries]
        reference: Optional[List[str]] = references.get(identifier)
        yield of_entries(
            identifier, entries, hypotheses, options.acoustic_scale, reference, speakers.get(identifier)
        )


def _name(names: Dict[int, str], word: int, options: argparse.Namespace, identifier: str) -> str:
    if word not in names:
        raise DataError(
            f"word {word} is not in {options.words}", file=options.archive, utterance=identifier,
            remedy="give the words.txt that the lattices were made with",
        )  # fmt: skip
    return names[word]
