"""Phone language model of the denominator: an n-gram as a deterministic acceptor without epsilon arcs.

Matches Kaldi's `chain-est-phone-lm` (chain/language-model.h) in kind: a state is a history of at most
order-1 phones; histories of up to `no_prune_order`-1 phones are all kept, of the longer ones the
`max_extra_states` whose removal would lose most likelihood. A history that is not kept is replaced by its
longest kept suffix, so that back-off costs no arc.

Estimation. Let the kept histories be the states, and the state after phone p in state h the longest kept
suffix of hp. That automaton is deterministic, so every training sequence walks one path through it and the
counts c(h, p) of the arcs walked (p may be the end) are sufficient; the maximum likelihood estimate is
c(h, p) / c(h). Every training sequence is accepted, other sequences may not be.

With smoothing="interpolated" every state gets an arc for every phone (Witten and Bell 1991, as interpolated
in Chen and Goodman 1998, eq. 17): with t(h) the number of different p seen after h and h' the history
without its oldest phone

    P(p | h) = (C(h, p) + t(h) P(p | h')) / (C(h) + t(h)),     P(p | no phone) = (C(p) + 1) / (C + V)

where C counts all occurrences of hp in the training sequences (not only those walked in state h), and V is
the number of phones plus one for the end. The graph becomes dense: states x phones arcs; bound the states.

smoothing="bigrams" stops one step earlier: P(p | one phone) is C(q p) / C(q), longer histories as above. Every sequence
of phone pairs that were seen is accepted, no other is, and a state has as many arcs as its last phone has successors:
of some 80 phones a tenth. In between the two: sparse as "none", and utterances that were not in training are covered
unless they hold a new pair.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Dict, Iterable, List, Protocol, Sequence, Set, Tuple

from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, read_json, write_json
from hybrid.train.fsa import NEG_INF, PhoneAcceptor

SMOOTHING = ("none", "bigrams", "interpolated")
End = 0  # the end of the sequence, as a phone; also the start, in a history
History = Tuple[int, ...]


class Sequences(Protocol):
    """Phone sequences by utterance: a mapping, or what yields them anew, in the same order, whenever it is asked."""

    def items(self) -> Iterable[Tuple[str, Sequence[int]]]: ...


def train_phone_lm(
    sequences: Sequences,
    *,
    order: int = 4,
    no_prune_order: int = 3,
    max_extra_states: int = 2000,
    smoothing: str = "none",
    phones: Sequence[int] = (),
) -> PhoneAcceptor:
    """Train an n-gram of phones; return it as an acceptor whose state 0 is the start.

    sequences: utterance id -> phone ids (from 1), gone through twice, so that not all need lie in memory;
    order: longest n-gram; no_prune_order: histories for n-grams up to this order are all kept;
    max_extra_states: how many longer ones are; smoothing: "none", "bigrams" or "interpolated";
    phones: those that the interpolated model covers beside the ones seen.

    Raises ConfigError for a bad setting; DataError for no sequences, an empty one, or a phone below 1.
    """
    if smoothing not in SMOOTHING:
        raise ConfigError(f"phone LM smoothing is {smoothing!r}", remedy=f"use one of {', '.join(SMOOTHING)}")
    if smoothing == "bigrams" and min(order, no_prune_order) < 2:
        raise ConfigError("this n-gram has not all bigrams", remedy="set order and no_prune_order to 2 or more")
    if not 1 <= order <= 10 or not 1 <= no_prune_order or max_extra_states < 0:
        raise ConfigError(
            f"phone LM of order {order}, all kept up to {no_prune_order}, {max_extra_states} more",
            remedy="use 1 <= order <= 10, no_prune_order >= 1, max_extra_states >= 0",
        )
    counts = _count(sequences, order)
    if not counts:
        raise DataError("no phone sequences to train the phone LM on", remedy="run the alignment stage again")
    histories = _choose_histories(counts, order, min(no_prune_order, order), max_extra_states)
    if smoothing == "none":
        return _acceptor(_walk(sequences, histories, order), histories, order)
    all_phones = sorted({*phones, *counts[()]} - {End})
    return _acceptor(_interpolate(counts, histories, all_phones, 1 if smoothing == "bigrams" else 0), histories, order)


def _count(sequences: Sequences, order: int) -> Dict[History, Counter]:
    """history of 0 .. order-1 symbols (may begin with the start, 0) -> counts of what follows (0: the end)."""
    counts: Dict[History, Counter] = defaultdict(Counter)
    for utterance, sequence in sequences.items():
        if len(sequence) == 0 or min(sequence) < 1:
            raise DataError(
                "phone sequence is empty or holds a phone below 1", utterance=utterance, remedy="align it again"
            )
        symbols = [End, *map(int, sequence), End]
        for position in range(1, len(symbols)):
            for length in range(min(order - 1, position) + 1):
                counts[tuple(symbols[position - length : position])][symbols[position]] += 1
    return counts


def _log_likelihood(counts: Counter) -> float:
    total = sum(counts.values())
    return sum(count * math.log(count / total) for count in sorted(counts.values()))


def _choose_histories(
    counts: Dict[History, Counter], order: int, no_prune_order: int, max_extra_states: int
) -> Set[History]:
    """The kept histories: closed under dropping the oldest phone, so that back-off is one step at a time."""
    histories = {history for history in counts if len(history) < no_prune_order}
    histories |= {(), (End,)} if order > 1 else {()}
    extra: List[Tuple[float, History]] = []
    for history, following in counts.items():
        if len(history) >= no_prune_order:
            # What the training data lose when `history` is replaced by its suffix.
            shorter = counts[history[1:]]
            total = sum(shorter.values())
            # In the order of phones, not of the sequences: rounding must not choose between histories as good as each
            # other.
            backed_off = sum(c * math.log(shorter[p] / total) for p, c in sorted(following.items()))
            loss = _log_likelihood(following) - backed_off
            extra.append((loss, history))
    extra.sort(key=lambda item: (-item[0], item[1]))
    # A longer history is only worth its state when its suffix is one too.
    room = max_extra_states
    for loss, history in extra:
        suffixes = []
        suffix = history
        while suffix not in histories:
            suffixes.append(suffix)
            suffix = suffix[1:]
        if loss > 0.0 and len(suffixes) <= room:
            histories.update(suffixes)
            room -= len(suffixes)
    return histories


def _next(history: History, phone: int, kept_histories: Set[History], order: int) -> History:
    after = (*history, phone)[-(order - 1) :] if order > 1 else ()
    while after not in kept_histories:
        after = after[1:]
    return after


def _start(order: int) -> History:
    return (End,) if order > 1 else ()


def _walk(
    sequences: Sequences, kept_histories: Set[History], order: int
) -> Dict[History, Dict[int, float]]:
    counts: Dict[History, Counter] = defaultdict(Counter)
    for _, sequence in sequences.items():
        state = _start(order)
        for phone in map(int, sequence):
            counts[state][phone] += 1
            state = _next(state, phone, kept_histories, order)
        counts[state][End] += 1
    return {
        state: {phone: count / sum(following.values()) for phone, count in sorted(following.items())}
        for state, following in counts.items()
    }


def _interpolate(
    counts: Dict[History, Counter], kept_histories: Set[History], phones: Sequence[int], counted: int
) -> Dict[History, Dict[int, float]]:
    """counted: histories of that length are relative frequencies, where interpolation ends; 0: it ends in unigrams."""
    unigram = counts[()]
    total = sum(unigram.values()) + len(phones) + 1
    table: Dict[History, Dict[int, float]] = {(): {p: (unigram[p] + 1) / total for p in [End, *phones]}}
    for history in sorted(kept_histories, key=len):
        if not history:
            continue
        following = counts[history]
        mass, types = sum(following.values()), len(following)
        if len(history) == counted:
            table[history] = {p: count / mass for p, count in sorted(following.items())}
        else:
            shorter = table[history[1:]]
            table[history] = {p: (following[p] + types * shorter[p]) / (mass + types) for p in shorter}
    return table


def _acceptor(probs: Dict[History, Dict[int, float]], kept_histories: Set[History], order: int) -> PhoneAcceptor:
    """Only the states that can be reached from the start."""
    number = {_start(order): 0}
    histories = [_start(order)]
    arcs: List[Dict[int, Tuple[int, float]]] = []
    final: List[float] = []
    for history in histories:  # grows while it is walked
        leaving = {}
        for phone, prob in probs[history].items():
            if phone == End:
                continue
            after = _next(history, phone, kept_histories, order)
            if after not in number:
                number[after] = len(histories)
                histories.append(after)
            leaving[phone] = (number[after], math.log(prob))
        arcs.append(leaving)
        end = probs[history].get(End, 0.0)
        final.append(math.log(end) if end > 0.0 else NEG_INF)
    return PhoneAcceptor(arcs, final)


def save_phone_lm(path: PathLike, lm: PhoneAcceptor) -> None:
    """Write JSON: a list a state of [phone, destination, log probability]; `final`: null where a state cannot end."""
    write_json(
        path,
        {
            "arcs": [[[phone, to, weight] for phone, (to, weight) in leaving.items()] for leaving in lm.arcs],
            "final": [weight if weight > NEG_INF else None for weight in lm.final],
        },
    )


def load_phone_lm(path: PathLike) -> PhoneAcceptor:
    """Read a phone LM. Raises DataError where the file is absent or not a phone LM."""
    value = read_json(path)
    try:
        return PhoneAcceptor(
            [{int(p): (int(to), float(w)) for p, to, w in leaving} for leaving in value["arcs"]],
            [NEG_INF if weight is None else float(weight) for weight in value["final"]],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a phone LM: {error!r}", file=path, remedy="run the stage that writes it again") from error
