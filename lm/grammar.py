"""G: an n-gram model as an acceptor of word sequences.

A state is a history; its arcs are the words listed after it, and a back-off arc to the history without its
first word. The arc of n-gram h w costs -ln P(h w), the back-off arc of h costs -ln B(h), the final cost of h is
-ln P(h </s>). Only histories that something is listed after become states: a history that nothing follows
would have no arc but the back-off, so its cost is put on the arcs that lead there (Kaldi's arpa2fst removes
these states afterwards, RemoveRedundantStates).

The back-off arc stands for "any other word", but lets listed words pass too, so a sentence has several paths:
one of them costs exactly -ln p(sentence), and the best may be cheaper. Kaldi decodes with the same approximation.
Its input is #0 and not epsilon, so that L o G can be determinized (lexicon/fst.py).
"""

from __future__ import annotations

import logging
from os import PathLike
from typing import Dict, Mapping, Tuple, Union

import kaldifst

from hybrid.errors import GraphError
from hybrid.lm import arpa
from hybrid.lm.model import END, LN10, START, Ngram, NgramModel

log = logging.getLogger(__name__)


def arpa_to_fst(
    model: Union[NgramModel, str, PathLike], words: Mapping[str, int], *, backoff: str = "#0"
) -> kaldifst.StdVectorFst:
    """Make G of the model (or of the ARPA file at that path), costs natural logs, arcs sorted by input label.

    Matches Kaldi's arpa2fst with --disambig-symbol=#0: `<s>` is the start state's history, `</s>` a final cost,
    back-off arcs read `backoff` and write epsilon. n-grams with words that `words` lacks are left out, counted
    and logged, and so are n-grams whose history is not listed itself (nothing leads there).
    A sentence-begin state is made wherever the model has `<s>`, at order 1 too.

    Raises GraphError where no sentence is left, or where `words` lacks the back-off symbol.
    """
    if not isinstance(model, NgramModel):
        model = arpa.read(model)
    if backoff not in words:
        raise GraphError(f"the table of words has no {backoff}", remedy="use the words of a Lang")
    # A word that is its own marker or epsilon can never be spoken.
    usable_words = {word for (word,) in model.probs[0] if word in words and word not in (backoff, "<eps>")}
    usable_words |= {START, END}
    missing = [word for word in model.vocabulary if word not in usable_words]
    fst = kaldifst.StdVectorFst()
    states: Dict[Ngram, int] = {(): fst.add_state()}
    if (START,) in model.probs[0]:
        states[(START,)] = fst.add_state()
        fst.start = states[(START,)]
    else:
        fst.start = states[()]

    num_unreachable = 0
    num_left_out = len(missing)
    scored_ngrams = []
    for order, prob in enumerate(model.probs, 1):
        for ngram, value in sorted(prob.items()):
            # <s> only begins and </s> only ends; Kaldi skips other n-grams with a warning.
            if ngram[-1] == START or START in ngram[1:] or END in ngram[:-1]:
                continue
            if not usable_words.issuperset(ngram):
                num_left_out += order > 1
                continue
            history = ngram[:-1]
            if history and history not in model.probs[order - 2]:
                num_unreachable += 1
                continue
            if history not in states:
                states[history] = fst.add_state()
            scored_ngrams.append((ngram, value))

    def target(history: Ngram) -> Tuple[int, float]:
        cost = 0.0
        while history not in states:
            cost -= LN10 * model.backoffs[len(history) - 1].get(history, 0.0)
            history = history[1:]
        return states[history], cost

    for ngram, value in scored_ngrams:
        history, word = ngram[:-1], ngram[-1]
        if word == END:
            fst.set_final(states[history], -LN10 * value)
            continue
        state, cost = target(ngram if len(ngram) < model.order else ngram[1:])
        fst.add_arc(states[history], kaldifst.StdArc(words[word], words[word], cost - LN10 * value, state))
    for history, source in states.items():
        if history:
            state, cost = target(history[1:])
            cost -= LN10 * model.backoffs[len(history) - 1].get(history, 0.0) if model.order > 1 else 0.0
            fst.add_arc(source, kaldifst.StdArc(words[backoff], 0, cost, state))

    for count, what in (
        (len(missing), f"words of the language model are not in the table of words: {' '.join(missing[:10])}"),
        (num_left_out - len(missing), "n-grams hold such words"),
        (num_unreachable, "n-grams follow a history that is not listed"),
    ):
        if count:
            log.warning("%d %s; left out of the grammar", count, what)
    kaldifst.connect(fst)
    if fst.start < 0 or not any(True for ngram, _ in scored_ngrams if ngram[-1] != END):
        raise GraphError(
            "the grammar accepts no sentence",
            remedy="check that the language model and the lexicon write their words alike, and that </s> is listed",
        )
    kaldifst.arcsort(fst, sort_type="ilabel")
    return fst
