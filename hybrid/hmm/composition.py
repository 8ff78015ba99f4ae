"""Composes lexicon and grammar over HMMs in context (compose.py): reads G, gives the arrays room, trims the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple

import numpy as np

from hybrid.compiled import compiled
from hybrid.fst import ARC, FstArrays
from hybrid.hmm import compose, shared_states
from hybrid.hmm.phone_contexts import PhoneContexts
from hybrid.hmm.spellings import Spellings

_GROWTH, _SPARE = 1.5, 1024
_AT_ONCE = 5000  # places between two looks at the clock
Bar = Callable[..., Iterable[Any]]  # RecipeRun.bar's


@dataclass(frozen=True)
class BackOffGrammar:
    """An acceptor of words with at most one back-off a state, and at most one arc a word.

    first: int64 [states + 1]; word, target: int32 [arcs]; cost: float64 [arcs]; back_off: int32 [states], -1 where
    there is none; back_off_cost, final: float32 [states]."""

    start: int
    first: np.ndarray
    word: np.ndarray
    target: np.ndarray
    cost: np.ndarray
    back_off: np.ndarray
    back_off_cost: np.ndarray
    final: np.ndarray

    @staticmethod
    def of(grammar: FstArrays, back_off: int, words: int) -> Optional[BackOffGrammar]:
        """Return the grammar whose back-off arcs read the word `back_off`; None where it is of another shape, or has
        other words than 1 to `words`."""
        arcs, sources = grammar.arcs, grammar.sources
        backs = arcs["ilabel"] == back_off
        usual = ~backs
        listed, targets = arcs["ilabel"][usual], np.full(grammar.num_states, -1, np.int32)
        keys = sources[usual].astype(np.int64) * (words + 1) + listed
        if (
            grammar.start < 0 or not len(listed) or listed.min() < 1 or listed.max() > words
            or (listed != arcs["olabel"][usual]).any() or arcs["olabel"][backs].any()
            or (np.bincount(sources[backs], minlength=1) > 1).any() or not _distinct(keys)
        ):  # fmt: skip
            return None
        costs = np.zeros(grammar.num_states, np.float32)
        targets[sources[backs]], costs[sources[backs]] = arcs["nextstate"][backs], arcs["weight"][backs]
        if _goes_round(targets):
            return None
        first = np.zeros(grammar.num_states + 1, np.int64)
        np.cumsum(np.bincount(sources[usual], minlength=grammar.num_states), out=first[1:])
        return BackOffGrammar(
            grammar.start, first, listed.copy(), arcs["nextstate"][usual].copy(),
            arcs["weight"][usual].astype(np.float64), targets, costs, grammar.final,
        )  # fmt: skip


def _distinct(keys: np.ndarray) -> bool:
    rising = np.diff(keys)
    if (rising > 0).all():
        return True
    keys = np.sort(keys)
    return bool((np.diff(keys) > 0).all())


def _goes_round(targets: np.ndarray) -> bool:
    """Whether following back-offs never ends somewhere."""
    current = np.flatnonzero(targets >= 0)
    for _ in range(64):  # longer than any history
        current = targets[current]
        current = np.unique(current[current >= 0])
        if not len(current):
            return False
    return True


def composed(contexts: PhoneContexts, lexicon: Spellings, grammar: BackOffGrammar, right: bool,
             depth: int, bar: Optional[Bar] = None) -> FstArrays:  # fmt: skip
    """Return the graph over numbers of HMMs (0: epsilon) and words, trimmed.

    right: whether an HMM depends on the phone after it; depth: phones that a context remembers; bar: shows progress,
    an item for every thousand states of the grammar.
    """
    work, room = _work(contexts, lexicon, grammar, right, depth)
    done, need = 0, int(room[grammar.start])
    work = _with_room(work, need)
    compose.begin(work, grammar.start, contexts.start, lexicon.start)

    def thousands() -> Iterator[None]:
        nonlocal work, done, need
        shown = 0
        while need:
            work = _with_room(work, need)
            done, need = compose.make_places(work, done, room, _AT_ONCE)
            while shown < work.counts[compose.MET] // 1000:
                yield None
                shown += 1

    for _ in thousands() if bar is None else bar(thousands(), total=len(grammar.final) // 1000):
        pass
    return _trimmed(work)


def _work(
    contexts: PhoneContexts, lexicon: Spellings, grammar: BackOffGrammar, right: bool, depth: int
) -> Tuple[Any, np.ndarray]:
    states = len(grammar.back_off)
    item_pron, item_arc, item_first = _items(lexicon, grammar)
    lengths = np.diff(lexicon.first)
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[item_pron] + 2, dtype=np.int64)])
    room = 64 + 4 * contexts.next.shape[1] + 2 * sum(total[row[1:]] - total[row[:-1]] for row in item_first)
    longest, most = int(lengths.max()), int((item_first[:, 1:] - item_first[:, :-1]).max())
    children = (longest + 4) * (contexts.next.shape[1] + 4)
    stack = 4 * most + 8 * children
    sizes: Dict[str, Tuple[Any, Any]] = {
        "s_label": (np.int32, stack), "s_word": (np.int32, stack), "s_cost": (np.float64, stack),
        "s_target": (np.int32, stack), "c_low": (np.int64, children), "c_high": (np.int64, children),
        "c_label": (np.int32, children), "c_next": (np.int32, children), "c_code": (np.int64, children),
        "c_cost": (np.float64, children), "c_word": (np.int64, children), "tail": (np.int32, longest + 1),
        "frames": (np.int64, (longest + 4, 9)),
        "label": (np.int32, 0), "word": (np.int32, 0), "weight": (np.float32, 0), "target": (np.int32, 0),
        "final": (np.float32, 0), "place_key": (np.int64, 0), "place_state": (np.int32, 0),
        "memo_state": (np.int32, 0), "memo_cost": (np.float64, 0), "memo_word": (np.int32, 0),
        "counts": (np.int64, 7), "met": (np.bool_, states),
    }  # fmt: skip
    arrays = {name: np.zeros(size, dtype) for name, (dtype, size) in sizes.items()}
    numbers = [states, lexicon.silence, lexicon.silent, depth, 0, int(right)]
    work = compose.Work(
        hmm=contexts.hmm, next=contexts.next, pron_phones=lexicon.phones, pron_first=lexicon.first,
        pron_word=lexicon.word, pron_costs=lexicon.costs, pron_after=lexicon.after, item_pron=item_pron,
        item_arc=item_arc, item_first=item_first, item_code=np.full(len(item_pron), compose.UNKNOWN, np.int32),
        entered_once=np.bincount(grammar.target[item_arc], minlength=states) == 1, g_cost=grammar.cost,
        g_target=grammar.target,
        back_off=grammar.back_off, back_off_cost=grammar.back_off_cost, g_final=grammar.final, pause=lexicon.pause,
        go_on=lexicon.go_on, ends=lexicon.ends, numbers=np.array(numbers, np.int64), first=np.zeros(1, np.int64),
        bits=arrays["weight"].view(np.uint32), found=np.full(1, -1, np.int32), place_found=np.full(1, -1, np.int32),
        memo_key=np.full(1, -1, np.int64), **arrays,
    )  # fmt: skip
    return work, room


def _items(lexicon: Spellings, grammar: BackOffGrammar) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pronunciation and arc of each pair of an arc of G and a pronunciation of its word, sorted by lists, states
    and phones; and [2, states + 1] where each state's begin, by lists."""
    states = len(grammar.back_off)
    counts = (lexicon.words[1:] - lexicon.words[:-1])[grammar.word]
    arc = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    begins = np.cumsum(counts) - counts
    offsets = np.arange(len(arc)) - np.repeat(begins, counts)
    pron = lexicon.of_word[lexicon.words[grammar.word[arc]] + offsets]
    sources = np.repeat(np.arange(states, dtype=np.int64), np.diff(grammar.first))[arc]
    rows = sources + states * ~lexicon.begins[pron]
    order = np.argsort(rows * len(lexicon.word) + pron)
    first = np.zeros(2 * states + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=2 * states), out=first[1:])
    return pron[order], arc[order], np.stack([first[: states + 1], first[states:]])


def _with_room(work: Any, need: int) -> Any:
    """Return the same with room for `need` more arcs, states and places, where it has not got it."""
    counts, changed = work.counts, {}

    def grown(names: str, used: int) -> None:
        for name in names.split():
            old = getattr(work, name)
            if used + need + 2 > len(old):
                new = np.zeros(max(int(_GROWTH * len(old)), used + need + 2 + _SPARE), old.dtype)
                new[: len(old)] = old
                changed[name] = new

    arcs = int(work.first[counts[shared_states.STATES]])
    grown("label word weight target", arcs)
    grown("first final", int(counts[shared_states.STATES]) + 2)
    grown("place_key place_state", int(counts[compose.PLACES]))
    work = work._replace(**changed)
    if "weight" in changed:
        work = work._replace(bits=work.weight.view(np.uint32))
    states, places = int(counts[shared_states.STATES]), int(counts[compose.PLACES])
    if 3 * (states + need) >= 2 * len(work.found):
        found = np.full(_size(2 * (states + need)), -1, np.int32)
        shared_states.refill(found, work.label, work.word, work.bits, work.target, work.first[: states + 1])
        work = work._replace(found=found)
    if 2 * (places + need) >= len(work.place_found):
        found = np.full(_size(3 * (places + need)), -1, np.int32)
        compose.refill_places(found, work.place_key, places)
        work = work._replace(place_found=found)
    memos = int(counts[compose.MEMOS]) + need // compose.SEVERAL
    if 2 * memos >= len(work.memo_key):
        work = _with_memos(work, _size(3 * memos))
    return work


def _size(least: int) -> int:
    """The power of two above."""
    return 1 << int(least).bit_length()


def _with_memos(work: Any, size: int) -> Any:
    new = {name: np.zeros(size, getattr(work, name).dtype) for name in ("memo_state", "memo_cost", "memo_word")}
    keys = np.full(size, -1, np.int64)
    compose.refill_memos(keys, *new.values(), work.memo_key, work.memo_state, work.memo_cost, work.memo_word)
    return work._replace(memo_key=keys, **new)


def _trimmed(work: Any) -> FstArrays:
    """Return what the first place leads to; places become states."""
    states = int(work.counts[shared_states.STATES])
    arcs = int(work.first[states])
    places = work.place_state[: int(work.counts[compose.PLACES])]
    target, first = work.target[:arcs], work.first[: states + 1]
    below = target < 0
    target[below] = places[-1 - target[below]]
    number, order = _reached(int(places[0]), first, target)
    counts = np.diff(first)[order]
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    result = np.empty(int(offsets[-1]), ARC)
    _gathered(order, first, work.label, work.word, work.weight, target, number, result)
    return FstArrays(0, work.final[order], offsets, result)


@compiled
def _gathered(order, first, label, word, weight, target, number, result):
    """Write the arcs of the states in this order."""
    at = 0
    for state in order:
        for arc in range(first[state], first[state + 1]):
            result[at].ilabel = label[arc]
            result[at].olabel = word[arc]
            result[at].weight = weight[arc]
            result[at].nextstate = number[target[arc]]
            at += 1


@compiled
def _reached(start, first, target):
    """Return the new number of each state, -1 where it is not reached, and the states reached, breadth first."""
    number = np.full(len(first) - 1, -1, np.int32)
    order = np.empty(len(first) - 1, np.int32)
    number[start] = 0
    order[0] = start
    met, done = 1, 0
    while done < met:
        for arc in range(first[order[done]], first[order[done] + 1]):
            if number[target[arc]] < 0:
                number[target[arc]] = met
                order[met] = target[arc]
                met += 1
        done += 1
    return number, order[:met]
