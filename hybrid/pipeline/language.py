"""Stage lang: phones, words, lexicon and L."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Dict, List, Optional, Tuple

from hybrid.errors import DataError
from hybrid.io import write_text
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import FILLERS, Lexicon
from hybrid.lexicon.missing import Vocabulary, cover
from hybrid.lexicon.piece_phones import phone_pieces
from hybrid.lexicon.subword import Pieces, Pronounce, atoms, graphemic_lexicon, piece_lexicon, spell
from hybrid.lexicon.unheard import unheard_notices
from hybrid.pipeline.corpus_settings import units_of
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
            for word in words_of(texts_of(prepared(run, name))):
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
        for notice in unheard_notices(vocabulary.lexicon, words_of(train), language.silence_phones):
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
        return graphemic_lexicon(words_of(train)), None
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


def words_of(texts: Dict[str, str]) -> List[str]:
    """Return every word of the texts once, sorted."""
    return sorted({word for text in texts.values() for word in text.split()} - FILLERS)


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
