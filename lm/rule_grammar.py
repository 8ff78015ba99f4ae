"""G of a grammar: the word sequences of rules (lm/jsgf.py), or of a list of sentences, as an acceptor.

A rule is written out where it is referred to (Thompson's construction), so that what is reached through two references
is there twice; MAX_ARCS bounds that. A rule may refer to itself where it ends,

    <digits> = <digit> | <digit> <digits>

for then the reference is an arc back to its beginning. Where something follows the reference the language is not
regular, or where nothing goes before it the rule never begins to say a word: such rules are refused by name.

Costs: -ln of an alternative's share of the weights given; alternatives without weights, options and repetitions cost
nothing. Epsilons are removed, and the acceptor is determinized and minimized, so that L o G can be determinized.
"""

from __future__ import annotations

import logging
import math
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

import kaldifst

from hybrid.errors import DataError, GraphError
from hybrid.lm import jsgf
from hybrid.lm.jsgf import Alternatives, Expression, Grammar, Repeat, Rule, Word

log = logging.getLogger(__name__)

MAX_ARCS, MAX_DEPTH = 1_000_000, 200  # of what is written out: all arcs, and parts within parts


def words_of(grammar: Grammar) -> List[Word]:
    """Return each word of the rules once, at the line where it stands first."""
    found: Dict[str, Word] = {}
    waiting: List[Expression] = list(grammar.rules.values())[::-1]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Word):
            found.setdefault(part.text, part)
        elif isinstance(part, (jsgf.Sequence, Alternatives)):
            waiting += part.parts[::-1]
        elif isinstance(part, Repeat):
            waiting.append(part.part)
    return list(found.values())


def grammar_fst(grammar: Grammar, ids: Callable[[Word], Sequence[int]]) -> kaldifst.StdVectorFst:
    """Return G of a grammar. ids: gives those of a word (several, where words are
    spelled in pieces), or raises DataError.

    Raises DataError for a rule that refers to itself before its end, for rules that are too large when written out, and
    for a grammar in which nothing can be said; GraphError where G cannot be determinized.
    """
    builder = _Builder(grammar, ids)
    fst = builder.fst
    start, end = fst.add_state(), fst.add_state()
    fst.start = start
    fst.set_final(end, 0.0)
    for name in grammar.public:
        builder.rule(Rule(name, 0), start, end, [])
    kaldifst.connect(fst)
    if fst.num_states == 0 or fst.start < 0:
        raise DataError("nothing can be said by this grammar", file=grammar.file, remedy="give a rule that has words")
    kaldifst.rmepsilon(fst)
    limit = 10_000 + 5 * fst.num_states
    try:
        stopped = kaldifst.determinize_star(fst, max_states=limit)
    except RuntimeError:
        stopped = True
    if stopped:
        raise GraphError(
            "the grammar cannot be determinized: it says the same words in ways that differ in weight without end",
            file=grammar.file,
            remedy="leave the weights out of what is repeated",
        )
    kaldifst.minimize(fst)
    kaldifst.arcsort(fst, sort_type="ilabel")
    log.info("G of a grammar: %d states", fst.num_states)
    return fst


class _Builder:
    def __init__(self, grammar: Grammar, ids: Callable[[Word], Sequence[int]]) -> None:
        self.grammar, self.ids = grammar, ids
        self.fst = kaldifst.StdVectorFst()
        self.arcs = 0
        self.depth = 0

    def fail(self, what: str, line: int, remedy: str) -> DataError:
        return DataError(f"line {line}: {what}" if line else what, file=self.grammar.file, remedy=remedy)

    def arc(self, source: int, label: int, cost: float, target: int) -> None:
        self.arcs += 1
        if self.arcs > MAX_ARCS:
            raise self.fail(
                f"the rules written out have more than {MAX_ARCS} arcs", 0, "refer to large rules less often"
            )
        self.fst.add_arc(source, kaldifst.StdArc(label, label, cost, target))

    def rule(self, reference: Rule, source: int, target: int, open_rules: List[Tuple[str, int, int]]) -> None:
        """Write a rule out between two states. open_rules: those that it stands in, with the states of each."""
        name, line = reference.name, reference.line
        for other, begin, end in open_rules:
            if other != name:
                continue
            if target == end and source != begin and not self.without_word(begin, source):
                self.arc(source, 0, 0.0, begin)
                return
            left = source == begin or self.without_word(begin, source)
            where = "before it has said a word" if left else "within itself, where something follows"
            raise self.fail(
                f"the rule <{name}> refers to itself {where}", line, "write the repetition with * or +"
            )
        # states of its own, so that an arc back to its beginning is not one to what stands before it
        begin, end = (self.fst.add_state(), target) if open_rules else (self.fst.add_state(), self.fst.add_state())
        self.arc(source, 0, 0.0, begin)
        if end != target:
            self.arc(end, 0, 0.0, target)
        self.write(self.grammar.rules[name], begin, end, [*open_rules, (name, begin, end)])

    def without_word(self, begin: int, state: int) -> bool:
        """Whether epsilons alone lead from one state to another."""
        seen: Set[int] = {begin}
        waiting = [begin]
        while waiting:
            current = waiting.pop()
            if current == state:
                return True
            arcs = kaldifst.ArcIterator(self.fst, current)
            while not arcs.done:
                arc = arcs.value
                if arc.ilabel == 0 and arc.nextstate not in seen:
                    seen.add(arc.nextstate)
                    waiting.append(arc.nextstate)
                arcs.next()
        return False

    def write(self, part: Expression, source: int, target: int, open_rules: List[Tuple[str, int, int]]) -> None:
        if self.depth >= MAX_DEPTH:
            name = open_rules[-1][0]
            raise self.fail(f"parts within parts {MAX_DEPTH} deep, at the rule <{name}>", 0, "flatten the grammar")
        self.depth += 1
        self._write(part, source, target, open_rules)
        self.depth -= 1

    def _write(self, part: Expression, source: int, target: int, open_rules: List[Tuple[str, int, int]]) -> None:
        if isinstance(part, Word):
            ids = list(self.ids(part))
            for label in ids[:-1]:
                following = self.fst.add_state()
                self.arc(source, label, 0.0, following)
                source = following
            self.arc(source, ids[-1], 0.0, target)
        elif isinstance(part, Rule):
            self.rule(part, source, target, open_rules)
        elif isinstance(part, jsgf.Sequence):
            for inner in part.parts[:-1]:
                following = self.fst.add_state()
                self.write(inner, source, following, open_rules)
                source = following
            self.write(part.parts[-1], source, target, open_rules)
        elif isinstance(part, Alternatives):
            self.alternatives(part, source, target, open_rules)
        elif isinstance(part, Repeat):
            self.repeat(part, source, target, open_rules)
        elif part.possible:
            self.arc(source, 0, 0.0, target)

    def alternatives(
        self, part: Alternatives, source: int, target: int, open_rules: List[Tuple[str, int, int]]
    ) -> None:
        weights: Optional[Tuple[float, ...]] = part.weights
        for index, inner in enumerate(part.parts):
            begin = source
            if weights is not None:
                if weights[index] == 0:
                    continue
                begin = self.fst.add_state()
                self.arc(source, 0, math.log(sum(weights) / weights[index]), begin)
            self.write(inner, begin, target, open_rules)

    def repeat(self, part: Repeat, source: int, target: int, open_rules: List[Tuple[str, int, int]]) -> None:
        if not part.more:
            self.write(part.part, source, target, open_rules)
            self.arc(source, 0, 0.0, target)
            return
        begin, end = self.fst.add_state(), self.fst.add_state()
        self.arc(source, 0, 0.0, begin)
        self.write(part.part, begin, end, open_rules)
        self.arc(end, 0, 0.0, begin)
        self.arc(end, 0, 0.0, target)
        if part.least == 0:
            self.arc(source, 0, 0.0, target)
