"""Stages lang and lm."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import Callable, Dict, List, Optional, Tuple

from hybrid.errors import ConfigError, DataError
from hybrid.fst import write_fst
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import FILLERS, Lexicon, check_text
from hybrid.lexicon.piece_phones import phone_pieces
from hybrid.lexicon.subword import Pieces, Pronounce, atoms, graphemic_lexicon, piece_lexicon, spell
from hybrid.lm import arpa
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.model import NgramModel
from hybrid.lm.ngram import train as train_ngram
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.sets import prepared, texts_of
from hybrid.run import Run

UNITS = {
    "words": "of the recipe's dictionary",
    "graphemes": "the words of the training transcripts, spelled in letters",
    "pieces": "sentencepiece's of the training transcripts, spelled in letters",
    "phone_pieces": "the same pieces with the dictionary's phones",
}


def lang(run: Run, recipe: Recipe) -> None:
    """EXP/lang: phones, words (or pieces), lexicon and L. A training word that has no pronunciation, or cannot be
    spelled, stops the stage, by name."""
    settings = run.config.section("lang")
    units = check_units(run)
    train = texts_of(prepared(run, "train"))
    lexicon, pieces = _lexicon(run, recipe, units, train)
    for notice in lexicon.notices:
        run.log(f"  {notice}")
    if pieces is None:
        check_words(lexicon, train)
    for split in ("dev", "test"):
        texts = texts_of(prepared(run, split))
        if pieces is None:
            for oov in check_text(lexicon, texts):
                run.log(f"  {split}: {oov.word} ({oov.count}) is not in the lexicon: it can only be an error")
        else:
            for word in _words(texts):
                if not pieces.covers(word):
                    run.log(f"  {split}: {word} has letters that training never saw: it can only be an error")
    made = Lang.create(
        lexicon,
        silence=settings["silence"],
        position_dependent=settings["position_dependent"],
        silence_prob=settings["silence_prob"],
        pieces=pieces,
    )
    made.save(run.dir("lang"))
    run.log(f"  {len(lexicon)} {'words' if pieces is None else 'pieces'}, {len(made.phone_ids)} phones")


def check_words(lexicon: Lexicon, texts: Dict[str, str]) -> None:
    missing = check_text(lexicon, texts)
    if missing:
        names = ", ".join(f"{oov.word} ({oov.count})" for oov in missing[:10])
        raise DataError(
            f"{len(missing)} words of the training transcripts have no pronunciation: {names}",
            utterance=missing[0].utterances[0],
            remedy="add them to the lexicon",
        )


def check_units(run: Run) -> str:
    """lang.units. Raises ConfigError for an unknown one, and for a grammar that is not of these units."""
    units = run.config.get("lang.units", "words")
    if units not in UNITS:
        listed = "; ".join(f"{name}: {what}" for name, what in UNITS.items())
        raise ConfigError(f"lang.units is {units!r}", remedy=f"use one of {', '.join(UNITS)} ({listed})")
    if "pieces" in units and run.config["lm.source"] != "train":
        raise ConfigError(
            f"lm.source is {run.config['lm.source']!r}, a grammar of words, and lang.units is {units}",
            remedy="use --set lm.source=train: our own n-gram, trained on the pieces of the training transcripts",
        )
    return units


def _lexicon(run: Run, recipe: Recipe, units: str, train: Dict[str, str]) -> Tuple[Lexicon, Optional[Pieces]]:
    if units == "words":
        return recipe.lexicon(run), None
    _check_spelling(train)
    if units == "graphemes":
        return graphemic_lexicon(_words(train)), None
    pieces = Pieces.train([train[utterance] for utterance in sorted(train)], run.config["lang.pieces"])
    counts = Counter(word for text in train.values() for word in text.split() if word not in FILLERS)
    written = sum(len(pieces.encode(word)) * count for word, count in counts.items())
    run.log(f"  {written / sum(counts.values()):.2f} pieces a training word")
    if units == "pieces":
        return piece_lexicon(pieces.names, lambda letters: [spell(letters)]), pieces
    dictionary = recipe.lexicon(run)
    check_words(dictionary, train)
    return phone_pieces(pieces, dictionary, _pronounce(dictionary), counts=counts), pieces


def _pronounce(dictionary: Lexicon) -> Pronounce:
    """Letters to phones as the dictionary's words have them; trained when first asked."""

    @cache
    def model() -> G2P:
        return G2P.train(dictionary)

    return lambda letters: model().pronounce(letters, skip_unknown=True)


def _words(texts: Dict[str, str]) -> List[str]:
    """Every word of the texts once, sorted."""
    return sorted({word for text in texts.values() for word in text.split()} - FILLERS)


def _count(texts: Dict[str, str]) -> int:
    return sum(word not in FILLERS for text in texts.values() for word in text.split())


def _check_spelling(texts: Dict[str, str]) -> None:
    """Raises DataError naming the first word that has no letters, with its utterance."""
    known: Dict[str, bool] = {}
    for utterance in sorted(texts):
        for word in texts[utterance].split():
            if word in known or word in FILLERS:
                continue
            try:
                known[word] = bool(atoms(word))
            except DataError as error:
                raise DataError(error.what, utterance=utterance, remedy=error.remedy) from error


def _units(lang: Lang, text: str) -> List[str]:
    """What the n-gram sees of a transcript. A word that cannot be written in pieces stays one, unknown to it."""
    if lang.pieces is None:
        return text.split()
    units: List[str] = []
    for word in text.split():
        if word not in FILLERS:
            units += lang.pieces.encode(word) if lang.pieces.covers(word) else [word]
    return units


def lm(run: Run, recipe: Recipe) -> None:
    """EXP/lm/lm.arpa, the n-gram that decoding uses, and G.fst of it; of pieces where these are the lexicon's words."""
    source = run.config["lm.source"]
    check_units(run)
    words = Lang.load(run.dir("lang"))
    train = [_units(words, text) for text in texts_of(prepared(run, "train")).values()]
    ours = train_ngram(train, int(run.config["lm.order"]), vocabulary=words.lexicon.words)
    for notice in ours.notices:
        run.log(f"  our n-gram: {notice}")
    arpa.write(run.dir("lm") / "train.arpa", ours)
    models: Dict[str, Callable[[], NgramModel]] = {"corpus": lambda: recipe.grammar(run), "train": lambda: ours}
    if source not in models:
        raise ConfigError(f"lm.source is {source!r}", remedy="use corpus (the recipe's own) or train (ours)")
    model: NgramModel = models[source]()
    arpa.write(run.dir("lm") / "lm.arpa", model)
    write_fst(run.dir("lm") / "G.fst", arpa_to_fst(model, words.words))
    texts = texts_of(prepared(run, "dev"))
    dev = [_units(words, text) for text in texts.values()]
    for name, one in {source: model, "train": ours}.items():
        found = one.perplexity(dev)
        run.log(f"  {name}: perplexity {found.perplexity:.1f} on dev, {found.oovs} words unknown to it")
        if words.pieces is not None:
            each = math.exp(-found.logprob / (_count(texts) + found.sentences))
            run.log(f"  {name}: that is the perplexity of a piece; of a word (known or not) it is {each:.1f}")
