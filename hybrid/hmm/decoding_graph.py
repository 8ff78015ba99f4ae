"""The decoding graph of a lexicon, a grammar and senones, made in the way that is cheap for that grammar.

    an n-gram                       composed with the lexicon while it is determinized and minimized (compose.py), then
                                    expanded to HMM states (expand.py): time and memory go with the size of the result
    any other (JSGF, hand-made)     Kaldi's recipe (graph.py): composed first, determinized and minimized then, twice

Both give each word sequence, with each sequence of transition ids, the same cost (tests/test_decoding_graph.py). The
first has what depends on phones around from one automaton of contexts (phone_contexts.py), so that monophones, biphones
and triphones go one way.
"""

from __future__ import annotations

import logging
from typing import Any, Optional, Union

import kaldifst
import numpy as np

from hybrid.errors import GraphError
from hybrid.fst import FstArrays, from_arrays, to_arrays
from hybrid.hmm.composition import BackOffGrammar, Bar, composed
from hybrid.hmm.expand import HmmTables, expanded
from hybrid.hmm.graph import check_phones, make_hclg
from hybrid.hmm.phone_contexts import phone_contexts
from hybrid.hmm.phone_hmms import PhoneHmms
from hybrid.hmm.spellings import Spellings

log = logging.getLogger(__name__)

MERGED = 1_000_000  # arcs of a G whose states are merged where they are alike: few are in larger n-grams


def decoding_graph(
    lang: Any,
    grammar: Union[kaldifst.StdVectorFst, FstArrays],
    senones: Any,
    *,
    transition_scale: float = 1.0,
    self_loop_scale: float = 0.1,
    bar: Optional[Bar] = None,
) -> FstArrays:
    """Return the decoding graph over pdf + 1; `lang` a Lang, `grammar` of lm/grammar.py, `senones` a Senones.

    bar: shows the progress, as RecipeRun.bar makes it. Networks trained by LF-MMI take scale 1.0 for both. Raises
    GraphError where no sentence is left or a part cannot be determinized, ModelError where the senones are of other
    phones.
    """
    scales = {"transition_scale": transition_scale, "self_loop_scale": self_loop_scale}
    arrays = graph_of_ngram(lang, grammar, senones, bar=bar, **scales)
    if arrays is None:
        fst = from_arrays(grammar) if isinstance(grammar, FstArrays) else grammar
        arrays = to_arrays(make_hclg(lang, fst, senones, **scales))
    arrays.arcs["ilabel"] = (np.asarray(senones.tid2pdf, np.int32) + 1)[arrays.arcs["ilabel"]]
    return arrays


def graph_of_ngram(
    lang: Any,
    grammar: Union[kaldifst.StdVectorFst, FstArrays],
    senones: Any,
    *,
    transition_scale: float = 1.0,
    self_loop_scale: float = 0.1,
    bar: Optional[Bar] = None,
) -> Optional[FstArrays]:
    """Return the graph over transition ids; None for a grammar that is no n-gram, and senones that depend on more than
    one phone to come."""
    check_phones(lang, senones)
    ahead = senones.tree.context_width - 1 - senones.tree.central_position
    arrays = _merged(grammar if isinstance(grammar, FstArrays) else to_arrays(grammar))
    ngram = BackOffGrammar.of(arrays, lang.word_disambig, lang.word_disambig - 1)
    if ngram is None or ahead > 1 or not len(lang.entries):
        return None
    lexicon = Spellings.of(lang)
    contexts = phone_contexts(senones, lexicon.follows(lang.disambig_phones[0]))
    over_hmms = composed(contexts, lexicon, ngram, bool(ahead), senones.tree.context_width - 1, bar)
    log.info("%d states, %d arcs over %d HMMs", over_hmms.num_states, len(over_hmms.arcs), len(contexts.hmms))
    graph = expanded(over_hmms, HmmTables.of(PhoneHmms(senones, transition_scale, self_loop_scale), contexts.hmms))
    if not graph.num_final:
        raise GraphError("lexicon and grammar have no sentence in common", remedy="use one table of words for both")
    log.info("HCLG: %d states, %d arcs", graph.num_states, len(graph.arcs))
    return graph


def _merged(grammar: FstArrays) -> FstArrays:
    """G with one state for those that are alike, such as histories that only back off: what follows them is then made
    once (a tenth of the demo's graphs for triphones, a quarter of that for monophones)."""
    if len(grammar.arcs) > MERGED or grammar.start < 0:
        return grammar
    fst = from_arrays(grammar)
    kaldifst.minimize_encoded(fst)
    kaldifst.arcsort(fst, sort_type="ilabel")
    return to_arrays(fst)
