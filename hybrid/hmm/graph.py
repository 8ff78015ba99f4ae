"""Decoding graphs (HCLG), training graphs, and what is done to them before they are searched.

    HCLG = self-loops( min( det( H o C o min( det( L o G ) ) ) ) )

G maps words to words with the language model's costs, L phones to words, C context windows to phones, H
transition ids to context windows; so HCLG reads transition ids, one a frame, and writes words, and a path costs
the sum of all four (Mohri, Pereira and Riley 2002; Kaldi's utils/mkgraph.sh). Determinizing shares the beginnings
of words and needs the disambiguation symbols (lexicon/fst.py); minimizing shares their ends. Self-loops come last,
because they would make every step before them larger.

That is for grammars of any shape, and what decoding_graph.py makes of n-grams is measured against it: there the same
graph comes without composing first and determinizing then, in a quarter to a tenth of the time and less of the memory.

Costs of transitions. H carries -transition_scale * log of the transition that leaves a state, given that it is left;
adding self-loops puts -self_loop_scale * log P(loop) on the loops and -self_loop_scale * log(1 - P(loop)) on the
leaving arcs (Kaldi's hmm/hmm-utils.h, AddSelfLoops). The order of frames is Kaldi's "reordered" one: a state's
loops follow the transition that leaves it.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple

import kaldifst
import numpy as np

from hybrid.errors import GraphError, ModelError
from hybrid.fst import FstArrays, add_word_penalty, from_arrays, read_fst, to_arrays, write_fst

__all__ = [
    "TrainingGraphs",
    "add_word_penalty",
    "check_graph",
    "make_hclg",
    "min_frames",
    "read_fst",
    "tids_to_pdfs",
    "write_fst",
]

log = logging.getLogger(__name__)


def make_hclg(
    lang: Any,
    grammar: kaldifst.StdVectorFst,
    senones: Any,
    *,
    transition_scale: float = 1.0,
    self_loop_scale: float = 0.1,
) -> kaldifst.StdVectorFst:
    """Returns the decoding graph over transition ids; `lang` a Lang, `grammar` of lm/grammar.py, `senones` a Senones.

    Matches Kaldi's utils/mkgraph.sh, without its weight pushing. Networks trained by LF-MMI take scale 1.0 for both.
    Raises GraphError where no sentence is left or a part cannot be determinized, ModelError where the senones are
    of other phones.
    """
    import kaldi_hmm_gmm as khg

    check_phones(lang, senones)
    lg = _vector(kaldifst.compose(lang.L_disambig, _sorted(grammar)))
    _not_empty(lg, "lexicon and grammar have no sentence in common", "use one table of words for both")
    _determinize(lg, "LG")
    kaldifst.minimize_encoded(lg)
    kaldifst.arcsort(lg, sort_type="ilabel")

    context = senones.ctx_dep
    clg, windows = kaldifst.compose_context(
        disambig_syms=lang.disambig_phones,
        context_width=context.context_width,
        central_position=context.central_position,
        ifst=lg,
    )
    _not_empty(clg, "the graph of context windows is empty", "report this: it is a defect of the program")
    kaldifst.arcsort(clg, sort_type="ilabel")

    config = khg.HTransducerConfig(transition_scale=transition_scale)
    h, disambig_tids = khg.get_h_transducer(windows, context, senones.transition_model, config)
    kaldifst.arcsort(h, sort_type="olabel")
    hclg = _vector(kaldifst.compose(h, clg))
    _not_empty(hclg, "the graph over HMM states is empty", "the senones do not fit the lexicon: make both again")
    _determinize(hclg, "HCLG")
    hclg = _remove_disambig(hclg, disambig_tids)
    kaldifst.minimize_encoded(hclg)
    hclg = khg.add_self_loops(
        self_loop_scale=self_loop_scale,
        disambig_syms=[],
        reorder=True,
        trans_model=senones.transition_model,
        ifst=hclg,
    )
    check_graph(hclg, senones.transition_model.num_transition_ids)
    kaldifst.arcsort(hclg, sort_type="ilabel")
    log.info("HCLG: %d states", hclg.num_states)
    return hclg


def _vector(fst: Any) -> kaldifst.StdVectorFst:
    return fst if isinstance(fst, kaldifst.StdVectorFst) else kaldifst.StdVectorFst(fst)


def _sorted(grammar: kaldifst.StdVectorFst) -> kaldifst.StdVectorFst:
    copy = kaldifst.StdVectorFst(grammar)
    kaldifst.arcsort(copy, sort_type="ilabel")
    return copy


def _not_empty(fst: kaldifst.StdVectorFst, what: str, remedy: str) -> None:
    # kaldi-hmm-gmm and OpenFst's algorithms crash on graphs without a state.
    if fst.num_states == 0 or fst.start < 0:
        raise GraphError(what, remedy=remedy)


def _determinize(fst: kaldifst.StdVectorFst, name: str) -> None:
    # A graph that cannot be determinized is refused at once, or grows until memory ends.
    limit = 1_000_000 + 20 * fst.num_states
    try:
        stopped = kaldifst.determinize_star(fst, max_states=limit, use_log=True)
        reason = f"more than {limit} states"
    except RuntimeError as error:
        stopped, reason = True, str(error).rsplit("[E] ", 1)[-1].strip()
    if stopped:
        raise GraphError(
            f"{name} cannot be determinized: {reason}",
            remedy="use L_disambig with its disambiguation symbols, and a grammar with #0 on its back-off arcs",
        )
    _not_empty(fst, f"{name} is empty", "check that lexicon and grammar write their words alike")


def check_phones(lang: Any, senones: Any) -> None:
    """Raise ModelError unless the senones are of the phones of `lang`."""
    phones = getattr(senones, "phones", None)
    if phones is None:
        return
    lang_phones = {name: lang.phones[name] for name in (lang.phone_names[number] for number in lang.phone_ids)}
    if {name: phones.get(name) for name in lang_phones} != lang_phones:
        odd = sorted(name for name in lang_phones if phones.get(name) != lang_phones[name])
        raise ModelError(
            f"the senones are of other phones than the lexicon: {' '.join(odd[:5])}",
            remedy="run again from the stage that makes the lexicon",
        )


def _remove_disambig(fst: kaldifst.StdVectorFst, disambig_tids: Sequence[int]) -> kaldifst.StdVectorFst:
    """Disambiguation symbols become epsilon (fstrmsymbols); epsilons that cost nothing to remove go (fstrmepslocal)."""
    arrays = to_arrays(fst)
    table = np.arange(max([int(arrays.arcs["ilabel"].max(initial=0)), *disambig_tids]) + 1, dtype=np.int32)
    table[np.asarray(disambig_tids, dtype=np.int64)] = 0
    arrays.arcs["ilabel"] = table[arrays.arcs["ilabel"]]
    _skip_epsilon_states(arrays)
    result = from_arrays(arrays)
    kaldifst.connect(result)
    return result


def _skip_epsilon_states(arrays: FstArrays, rounds: int = 10) -> None:
    """Arcs that enter a state whose only way on is one epsilon arc are led past it; the graph stays equivalent.

    Such states are what disambiguation symbols leave behind. Every removed epsilon saves the decoder a visit per
    frame. All arcs of a round are moved at once, by the arcs as they were before it; cycles of epsilons end with
    the rounds.
    """
    arcs = arrays.arcs
    single = (np.diff(arrays.offsets) == 1) & np.isinf(arrays.final)
    only = arrays.offsets[:-1][single]  # the one arc of each such state
    onward = np.full(arrays.num_states, -1, dtype=np.int64)
    onward[np.flatnonzero(single)] = only
    for _ in range(rounds):
        arc = onward[arcs["nextstate"]]
        step = arcs[np.maximum(arc, 0)]
        free = (step["olabel"] == 0) | (arcs["olabel"] == 0)
        move = (arc >= 0) & (step["ilabel"] == 0) & free & (step["nextstate"] != arcs["nextstate"])
        if not move.any():
            return
        arcs["olabel"] = np.where(move, arcs["olabel"] + step["olabel"], arcs["olabel"])
        arcs["weight"] = np.where(move, arcs["weight"] + step["weight"], arcs["weight"])
        arcs["nextstate"] = np.where(move, step["nextstate"], arcs["nextstate"])


def check_graph(fst: Optional[kaldifst.StdVectorFst], max_label: int, *, file: Optional[str] = None) -> int:
    """Returns the largest input label.

    Raises GraphError for an empty graph, one without a final state, or labels above `max_label` (the number of tids, or
    of pdfs): the decoders read past the end of their matrix on these.
    """
    if fst is None or fst.num_states == 0 or fst.start < 0:
        raise GraphError("the graph is empty", file=file, remedy="make it again; check lexicon and grammar")
    arrays = to_arrays(fst)
    if not np.isfinite(arrays.final).any():
        raise GraphError("the graph has no final state", file=file, remedy="make it again; check the grammar")
    labels = arrays.arcs["ilabel"]
    largest = int(labels.max()) if len(labels) else 0
    if largest > max_label or (len(labels) and labels.min() < 0):
        raise GraphError(
            f"the graph's labels go up to {largest}, the model has {max_label}",
            file=file,
            remedy="make the graph again with the senones of this model",
        )
    return largest


def tids_to_pdfs(fst: kaldifst.StdVectorFst, senones: Any) -> kaldifst.StdVectorFst:
    """Returns a copy whose input labels are pdf + 1 in place of transition ids; everything else stays.

    It is not determinized again: tids of several phones share a pdf, so that merging arcs would cost the
    alignment its phones, and words could no longer be told apart without disambiguation symbols.
    Raises GraphError for labels that are no transition ids of the senones.
    """
    table = np.asarray(senones.tid2pdf, dtype=np.int32) + 1
    check_graph(fst, len(table) - 1)
    arrays = to_arrays(fst)
    arrays.arcs["ilabel"] = table[arrays.arcs["ilabel"]]
    return from_arrays(arrays)


def min_frames(graph: kaldifst.StdVectorFst) -> int:
    """Returns the frames of the shortest path: an utterance with fewer frames is too short for its words.

    A search with lengths 0 (epsilon) and 1. Raises GraphError where no final state is reached.
    """
    best: Dict[int, int] = {graph.start: 0}
    queue: Deque[Tuple[int, int]] = deque([(0, graph.start)])
    while queue:
        length, state = queue.popleft()
        if length > best[state]:
            continue
        if graph.final(state).value != float("inf"):
            return length
        for label, target in _steps(graph, state):
            step = length + (label != 0)
            if step < best.get(target, step + 1):
                best[target] = step
                (queue.append if label else queue.appendleft)((step, target))
    raise GraphError("no path through the graph", remedy="check the words of the transcript")


def _steps(fst: kaldifst.StdVectorFst, state: int) -> List[Tuple[int, int]]:
    """(input label, next state) of the arcs that leave the state."""
    steps = []
    arcs = kaldifst.ArcIterator(fst, state)
    while not arcs.done:
        arc = arcs.value
        steps.append((arc.ilabel, arc.nextstate))
        arcs.next()
    return steps


class TrainingGraphs:
    """Compiles the graph of each transcript: every pronunciation, optional silences, over transition ids.

    Matches Kaldi's compile-train-graphs followed by add-transition-probs with the same scales. The transition
    probabilities are those that `senones` has when this object is made.
    """

    def __init__(
        self, lang: Any, senones: Any, transition_scale: float = 1.0, self_loop_scale: float = 0.1
    ) -> None:
        import kaldi_hmm_gmm as khg

        check_phones(lang, senones)
        self.lang = lang
        self.senones = senones
        self.transition_scale = transition_scale
        self.self_loop_scale = self_loop_scale
        # The compiler keeps pointers to these: they must live as long as it does.
        self._model = senones.transition_model
        self._context = senones.ctx_dep
        self._lexicon = kaldifst.StdVectorFst(lang.L)
        self._compiler = khg.TrainingGraphCompiler(
            self._model,
            self._context,
            self._lexicon,
            lang.disambig_phones,
            khg.TrainingGraphCompilerOptions(
                transition_scale=transition_scale, self_loop_scale=self_loop_scale, reorder=True
            ),
        )

    def compile(self, word_ids: Sequence[int], utterance: Optional[str] = None) -> kaldifst.StdVectorFst:
        """Compiles the graph of a transcript: `word_ids` as of Lang.word_ids; none stands for silence alone.

        Raises GraphError, naming the utterance, for ids that are no words and for a graph without a path.
        """
        ids = [int(number) for number in word_ids]
        bad = [number for number in ids if not 1 <= number < self.lang.word_disambig]
        if bad:
            raise GraphError(
                f"{bad[0]} is the number of no word (1 to {self.lang.word_disambig - 1})",
                utterance=utterance,
                remedy="make the word ids by the lang folder that the senones belong to",
            )
        graph = None
        if ids or self.lang.silence_prob > 0.0:
            graph = self._compiler.compile_graph_from_text(ids)
        if graph is None or graph.num_states == 0 or graph.start < 0:
            raise GraphError(
                "no graph for the transcript" + ("" if ids else ", which is empty"),
                utterance=utterance,
                remedy="check the transcript and its words' pronunciations",
            )
        return graph

    def __reduce__(self):
        # The compiler cannot be pickled: a worker builds its own.
        return TrainingGraphs, (self.lang, self.senones, self.transition_scale, self.self_loop_scale)
