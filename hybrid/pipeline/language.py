"""Stages lang and lm."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import Dict, List, Optional, Tuple

from hybrid.errors import DataError
from hybrid.fst import write_fst
from hybrid.io import write_text
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import FILLERS, Lexicon
from hybrid.lexicon.missing import Vocabulary, cover
from hybrid.lexicon.piece_phones import phone_pieces
from hybrid.lexicon.subword import Pieces, Pronounce, atoms, graphemic_lexicon, piece_lexicon, spell
from hybrid.lexicon.unheard import unheard_notices
from hybrid.lm import arpa
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.model import NgramModel
from hybrid.lm.ngram import train as train_ngram
from hybrid.pipeline.corpus_settings import PYTHON, units_of
from hybrid.pipeline.recipe_run import RecipeRun, about
from hybrid.pipeline.sets import prepared, texts_of
from hybrid.pipeline.spelling import read_lexicon


def lang(run: RecipeRun) -> None:
    """Write EXP/lang: phones, words (or pieces), lexicon and L. A training word that cannot be spelled stops the stage,
    by name."""
    settings, corpus = run.settings.lang, run.settings.corpus
    train = texts_of(prepared(run, "train"))
    lexicon, pieces = _lexicon(run, units_of(corpus), train)
    for notice in lexicon.notices:
        run.log(f"  {notice}")
    vocabulary = Vocabulary(lexicon)
    if units_of(corpus) == "words":  # the stage prepare has said which words are not among those
        vocabulary = _covering(run, lexicon, train)
    else:
        for name in dict.fromkeys(row["set"] for row in about(run)["sets"]):
            for word in _words(texts_of(prepared(run, name))):
                if word not in lexicon if pieces is None else not pieces.covers(word):
                    reason = "is no word of training" if pieces is None else "has letters that training never saw"
                    run.log(f"  {name}: {word} {reason}: it can only be an error")
    language = Lang.create(
        vocabulary.lexicon,
        silence=settings.silence,
        spoken_noise=vocabulary.spoken_noise,
        oov=vocabulary.unknown_word,
        position_dependent=settings.position_dependent,
        silence_prob=settings.silence_prob,
        pieces=pieces,
    )
    for notice in language.notices:
        run.log(f"  {notice}")
    language.save(run.dir("lang"))
    if pieces is None:
        for notice in unheard_notices(vocabulary.lexicon, _words(train), language.silence_phones):
            run.log(f"  {notice}")
    kind = "words" if pieces is None else "pieces"
    run.log(f"  {len(vocabulary.lexicon)} {kind}, {len(language.phone_ids)} phones")


def _covering(run: RecipeRun, lexicon: Lexicon, train: Dict[str, str]) -> Vocabulary:
    """Return the lexicon with what corpus.oov makes of the training words that it lacks; EXP/lang/g2p.txt.

    Utterances with words that even G2P cannot read are named by the stages that train on them."""
    counts = Counter(word for text in train.values() for word in text.split())
    vocabulary = cover(lexicon, counts, run.settings.corpus.oov)
    summary = vocabulary.summary()
    if summary:
        run.log(f"  {summary}")
    if vocabulary.made:
        lines = (f"{word}\t{' '.join(item.phones)}\n" for word, items in vocabulary.made.items() for item in items)
        write_text(run.dir("lang") / "g2p.txt", "".join(lines))
    return vocabulary


def _lexicon(run: RecipeRun, units: str, train: Dict[str, str]) -> Tuple[Lexicon, Optional[Pieces]]:
    if units == "words":
        return read_lexicon(run), None
    _check_spelling(train)
    if units == "graphemes":
        return graphemic_lexicon(_words(train)), None
    pieces = Pieces.train([train[utterance] for utterance in sorted(train)], run.settings.lang.pieces)
    counts = Counter(word for text in train.values() for word in text.split() if word not in FILLERS)
    num_pieces = sum(len(pieces.encode(word)) * count for word, count in counts.items())
    run.log(f"  {num_pieces / sum(counts.values()):.2f} pieces a training word")
    if units == "pieces":
        return piece_lexicon(pieces.names, lambda letters: [spell(letters)]), pieces
    dictionary = read_lexicon(run)
    cover(dictionary, counts, "error")
    return phone_pieces(pieces, dictionary, _pronounce(dictionary), counts=counts), pieces


def _pronounce(dictionary: Lexicon) -> Pronounce:
    """Return the function from letters to phones as the dictionary's words have them; trained when first asked."""

    @cache
    def model() -> G2P:
        return G2P.train(dictionary)

    return lambda letters: model().pronounce(letters, skip_unknown=True)


def _words(texts: Dict[str, str]) -> List[str]:
    """Return every word of the texts once, sorted."""
    return sorted({word for text in texts.values() for word in text.split()} - FILLERS)


def _count(texts: Dict[str, str]) -> int:
    return sum(word not in FILLERS for text in texts.values() for word in text.split())


def _check_spelling(texts: Dict[str, str]) -> None:
    """Raise DataError naming the first word that has no letters, with its utterance."""
    spellable: Dict[str, bool] = {}
    for utterance in sorted(texts):
        for word in texts[utterance].split():
            if word in spellable or word in FILLERS:
                continue
            try:
                spellable[word] = bool(atoms(word))
            except DataError as error:
                raise DataError(error.what, utterance=utterance, remedy=error.remedy) from error


def _units(lang: Lang, text: str) -> List[str]:
    """Return what the n-gram sees of a transcript. A word that cannot be written in pieces stays one, unknown to it."""
    if lang.pieces is None:
        return text.split()
    units: List[str] = []
    for word in text.split():
        if word not in FILLERS:
            units += lang.pieces.encode(word) if lang.pieces.covers(word) else [word]
    return units


def lm(run: RecipeRun) -> None:
    """Write EXP/lm/lm.arpa, the n-gram that decoding uses, and G.fst of it; of pieces where these are the lexicon's
    words."""
    corpus = run.settings.corpus
    language = Lang.load(run.dir("lang"))
    transcripts = texts_of(prepared(run, "train"))
    train = [_known(language, _units(language, text)) for text in transcripts.values()]
    trained = train_ngram(train, run.settings.lm.order, vocabulary=language.lexicon.words)
    for notice in trained.notices:
        run.log(f"  our n-gram: {notice}")
    arpa.write(run.dir("lm") / "train.arpa", trained)
    model: NgramModel = trained if corpus.lm == "train" else _given(run, corpus.lm)
    arpa.write(run.dir("lm") / "lm.arpa", model)
    write_fst(run.dir("lm") / "G.fst", arpa_to_fst(model, language.words))
    if language.pieces is None and model is not trained:
        for notice in unheard_notices(language.lexicon, _words(transcripts), language.silence_phones, model.vocabulary):
            run.log(f"  {notice}")
    texts = texts_of(prepared(run, "dev"))
    dev = [_units(language, text) for text in texts.values()]
    for name, ngram in {corpus.lm: model, "train": trained}.items():
        result = ngram.perplexity(dev)
        run.log(f"  {name}: perplexity {result.perplexity:.1f} on dev, {result.oovs} words unknown to it")
        if language.pieces is not None:
            per_word = math.exp(-result.logprob / (_count(texts) + result.sentences))
            run.log(f"  {name}: that is the perplexity of a piece; of a word (known or not) it is {per_word:.1f}")


def _given(run: RecipeRun, name: str) -> NgramModel:
    if name == PYTHON:
        model: NgramModel = run.hook.call("lm", run)
        return model
    return arpa.read(run.find(name))


def _known(lang: Lang, words: List[str]) -> List[str]:
    """Return the words, those that the lexicon lacks as the unknown word, where there is one."""
    return words if lang.oov is None else [word if word in lang.lexicon else lang.oov for word in words]
