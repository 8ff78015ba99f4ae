"""HCLG and training graphs against costs added up by hand: language model + lexicon + transitions."""

from __future__ import annotations

import itertools
import math
import pickle
import random
from types import SimpleNamespace

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DiskError, GraphError, ModelError
from hybrid.fst import ARC, FstArrays, from_arrays, read_fst, to_arrays, write_fst
from hybrid.hmm import graph as graphs
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology, network_topology
from hybrid.hmm.tree import Leaf, Split, Table, Tree, monophone_tree
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lm import ngram
from hybrid.lm.grammar import arpa_to_fst

# Homophones (AB, HOM), a word that begins another (A), words that end alike, two pronunciations.
ENTRIES = {
    "A": ["a"],
    "AB": ["a b"],
    "HOM": ["a b"],
    "B": [Pronunciation(("b",), 0.5), Pronunciation(("c", "b"), 1.0)],
}
TEXT = ["A AB", "AB B", "B A", "HOM", "HOM B", "A A B"]
MODEL = ngram.train(TEXT, 2)
QUANTUM = 0.02  # minimize_encoded rounds each arc's cost to 1/1024


def tree_of(width, topology, phones):
    """A tree by hand that asks about the left neighbour (and with width 3, the right one)."""
    classes = topology.num_classes
    if width == 1:
        return monophone_tree(classes, [[phone] for phone in phones])
    pdf = itertools.count()
    center = width - 2 if width == 3 else 1
    children = [None] * (max(phones) + 1)
    for phone in phones:
        def leaf(value):
            left = Split(0, (0, 1, 2), Leaf(next(pdf)), Leaf(next(pdf)))
            return left if width == 2 or value else Split(2, (2, 3), Leaf(next(pdf)), left)

        children[phone] = Table(-1, [leaf(value) for value in range(classes[phone])])
    return Tree(Table(center, children), context_width=width, central_position=center)


def make(width=1, kind="bootstrap", **lang_settings):
    lang = Lang.create(Lexicon.from_dict(ENTRIES), **lang_settings)
    phones = lang.phone_ids
    topology = (
        bootstrap_topology(phones[1:], phones[:1], num_silence_states=3)
        if kind == "bootstrap"
        else network_topology(phones)
    )
    names = {lang.phone_names[phone]: phone for phone in phones}
    senones = Senones(topology, tree_of(width, topology, phones), names)
    rng = np.random.default_rng(0)
    senones.update_transitions(rng.integers(5, 50, senones.num_tids + 1).astype(float))
    return lang, arpa_to_fst(MODEL, lang.words), senones


CASES = [(1, "bootstrap"), (2, "bootstrap"), (3, "bootstrap"), (1, "network"), (2, "network"), (3, "network")]
SCALES = {"transition_scale": 0.7, "self_loop_scale": 0.3}


def draw_states(senones, phones, rng):
    """A random state sequence through the phones: [(tid, is_loop)] in Kaldi's reordered order, and its cost."""
    model = senones.transition_model
    width, center = senones.tree.context_width, senones.tree.central_position
    tuples = {}
    for tid in range(1, senones.num_tids + 1):
        phone, state = senones.tid2phone[tid], senones.tid2hmm_state[tid]
        tuples.setdefault((phone, state, model.transition_id_to_pdf(tid), bool(senones.is_self_loop[tid])), tid)
    entry_of = {phone: entry for entry in senones.topology.entries for phone in entry.phones}
    tids, cost = [], 0.0
    for position, phone in enumerate(phones):
        window = [
            phones[position + k - center] if 0 <= position + k - center < len(phones) else 0 for k in range(width)
        ]
        states = entry_of[phone].states
        state = 0
        while state < len(states):
            pdf = senones.tree.pdf(window, states[state].forward_class)
            loop_pdf = senones.tree.pdf(window, states[state].loop_class)
            ways = [(to, p) for to, p in states[state].transitions if to != state]
            to = rng.choice(ways)[0]
            (leave,) = [
                tid
                for tid in range(1, senones.num_tids + 1)
                if senones.tid2phone[tid] == phone
                and senones.tid2hmm_state[tid] == state
                and not senones.is_self_loop[tid]
                and pdfs_of(senones, tid) == (pdf, loop_pdf)
                and destination(senones, tid, states[state]) == to
            ]
            loop = next(
                t
                for t in range(1, senones.num_tids + 1)
                if senones.tid2state[t] == senones.tid2state[leave] and senones.is_self_loop[t]
            )
            stay = math.exp(senones.log_probs[loop])
            count = rng.choice([0, 0, 1, 2])
            tids += [leave] + [loop] * count
            cost -= SCALES["transition_scale"] * (senones.log_probs[leave] - math.log(1 - stay))
            cost -= SCALES["self_loop_scale"] * (math.log(1 - stay) + count * math.log(stay))
            state = to
    return tids, cost


def pdfs_of(senones, tid):
    """(forward pdf, self-loop pdf) of the transition state of a tid."""
    same = [t for t in range(1, senones.num_tids + 1) if senones.tid2state[t] == senones.tid2state[tid]]
    loop = next((t for t in same if senones.is_self_loop[t]), None)
    leave = next(t for t in same if not senones.is_self_loop[t])
    return int(senones.tid2pdf[leave]), int(senones.tid2pdf[loop]) if loop else int(senones.tid2pdf[leave])


def destination(senones, tid, state):
    """Where a tid leads: the tids of a state stand in the order of its transitions in the topology."""
    first = min(t for t in range(1, senones.num_tids + 1) if senones.tid2state[t] == senones.tid2state[tid])
    return state.transitions[tid - first][0]


def best_path(fst, tids, word_ids):
    """The cheapest path with these frames and words; None if there is none."""
    sorted_fst = kaldifst.StdVectorFst(fst)
    kaldifst.arcsort(sorted_fst, sort_type="ilabel")
    left = kaldifst.StdVectorFst(kaldifst.compose(kaldifst.make_linear_acceptor(tids), sorted_fst))
    if left.num_states == 0:
        return None
    kaldifst.arcsort(left, sort_type="olabel")
    both = kaldifst.compose(left, kaldifst.make_linear_acceptor(word_ids))
    if both.num_states == 0:
        return None
    ok, _, _, weight = kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(both))
    assert ok
    return weight.value


def best_grammar(lang, grammar, word_ids):
    """The cheapest path of G: #0 is free."""
    free = to_arrays(grammar)
    free.arcs["ilabel"][free.arcs["ilabel"] == lang.word_disambig] = 0
    free.arcs["olabel"][free.arcs["olabel"] == lang.word_disambig] = 0
    return best_path(from_arrays(free), word_ids, word_ids)


def spellings(lang, names):
    """(phones, cost) of each pronunciation and placing of silence."""
    half = math.log(2)
    for items in itertools.product(*(lang.lexicon.pronunciations(name) for name in names)):
        for pauses in itertools.product([False, True], repeat=len(names) + 1):
            phones = [1] * pauses[0]
            for item, pause in zip(items, pauses[1:], strict=True):
                phones = phones + [lang.phones[p] for p in lang.position(item.phones)] + [1] * pause
            yield phones, half * len(pauses) - sum(math.log(item.prob) for item in items)


@pytest.mark.parametrize("width, kind", CASES)
@pytest.mark.parametrize("position_dependent", [False, True])
def test_every_cost_of_hclg(width, kind, position_dependent):
    lang, grammar, senones = make(width, kind, position_dependent=position_dependent)
    hclg = graphs.make_hclg(lang, grammar, senones, **SCALES)
    rng = random.Random(width)
    for names in [("A",), ("HOM",), ("A", "B"), ("AB", "HOM", "B")]:
        ids = lang.word_ids(" ".join(names))
        language = best_grammar(lang, grammar, ids)
        assert language <= -MODEL.sentence_logprob(names) + 1e-3
        for phones, lexical in rng.sample(list(spellings(lang, names)), 4):
            tids, transitions = draw_states(senones, phones, rng)
            got = best_path(hclg, tids, ids)
            assert got == pytest.approx(language + lexical + transitions, abs=QUANTUM)
            # The frames decide the phones; other words with the same phones are there, others are not.
            assert best_path(hclg, tids, lang.word_ids("A A A A")) is None


def random_path(fst, rng, limit=200):
    """(tids, words, cost) of a random walk to a final state."""
    arrays = to_arrays(fst)
    while True:
        state, tids, words, cost = arrays.start, [], [], 0.0
        for _ in range(limit):
            if np.isfinite(arrays.final[state]) and rng.random() < 0.5:
                return tids, words, cost + float(arrays.final[state])
            arcs = arrays.arcs[arrays.offsets[state] : arrays.offsets[state + 1]]
            if not len(arcs):
                return tids, words, cost + float(arrays.final[state])
            arc = arcs[rng.randrange(len(arcs))]
            tids += [int(arc["ilabel"])] * int(arc["ilabel"] != 0)
            words += [int(arc["olabel"])] * int(arc["olabel"] != 0)
            cost += float(arc["weight"])
            state = int(arc["nextstate"])


def phones_of(senones, tids):
    """Phones of a reordered tid sequence: a phone ends with the loops that follow its last transition."""
    phones, position = [], 0
    while position < len(tids):
        tid = tids[position]
        position += 1
        while position < len(tids) and senones.is_self_loop[tids[position]]:
            assert senones.tid2state[tids[position]] == senones.tid2state[tid]
            position += 1
        if senones.is_final[tid]:
            phones.append(int(senones.tid2phone[tid]))
    return phones


@pytest.mark.parametrize("width, kind", CASES)
def test_random_paths_spell_their_words(width, kind):
    lang, grammar, senones = make(width, kind)
    hclg = graphs.make_hclg(lang, grammar, senones, **SCALES)
    rng = random.Random(1)
    lengths = set()
    for _ in range(60):
        tids, ids, cost = random_path(hclg, rng)
        lengths.add(len(ids))
        if len(ids) > 5:
            continue
        phones = phones_of(senones, tids)
        names = [lang.word_names[i] for i in ids]
        found = [lexical for spelled, lexical in spellings(lang, names) if spelled == phones]
        assert found, (phones, names)
        assert cost >= best_path(hclg, tids, ids) - 1e-3
    assert len(lengths) > 2


@pytest.mark.parametrize("width, kind", CASES)
def test_training_graphs(width, kind):
    lang, _, senones = make(width, kind)
    compiler = graphs.TrainingGraphs(lang, senones, **SCALES)
    rng = random.Random(2)
    for names in [(), ("B",), ("A", "HOM", "B")]:
        ids = lang.word_ids(" ".join(names))
        graph = compiler.compile(ids)
        shortest = math.inf
        for phones, lexical in spellings(lang, names):
            tids, transitions = draw_states(senones, phones, rng)
            shortest = min(shortest, sum(3 if kind == "bootstrap" else 1 for _ in phones))
            if tids:
                assert best_path(graph, tids, ids) == pytest.approx(lexical + transitions, abs=QUANTUM)
                assert best_path(graph, [*tids, 1], ids) is None or senones.is_self_loop[1]
        assert graphs.min_frames(graph) == shortest
    again = pickle.loads(pickle.dumps(compiler))
    assert again.compile(ids).to_str() == graph.to_str()


@pytest.mark.parametrize("ids", [[0], [5], [1, 99], [-1]])
def test_transcripts_of_unknown_numbers(ids):
    lang, _, senones = make()
    with pytest.raises(GraphError, match="the number of no word") as info:
        graphs.TrainingGraphs(lang, senones).compile(ids, utterance="u-1")
    assert info.value.utterance == "u-1"


def test_empty_transcript_without_silence():
    lang, _, senones = make(silence_prob=0.0)
    with pytest.raises(GraphError, match="which is empty"):
        graphs.TrainingGraphs(lang, senones).compile([], utterance="u-1")


def test_senones_of_other_phones():
    lang, grammar, senones = make()
    other = Lang.create(Lexicon.from_dict({"A": ["a"], "Z": ["z"]}))
    with pytest.raises(ModelError, match="other phones than the lexicon: z"):
        graphs.make_hclg(other, grammar, senones)
    with pytest.raises(ModelError):
        graphs.TrainingGraphs(other, senones)


def test_grammar_of_other_words():
    lang, _, senones = make()
    empty = kaldifst.StdVectorFst()
    for grammar in (kaldifst.make_linear_acceptor([77]), empty):
        with pytest.raises(GraphError, match="no sentence in common"):
            graphs.make_hclg(lang, grammar, senones)


def test_nothing_to_disambiguate():
    lang = Lang.create(Lexicon.from_dict({"A": ["a b"]}), silence_prob=0.0)
    names = {lang.phone_names[phone]: phone for phone in lang.phone_ids}
    senones = Senones.monophone(network_topology(lang.phone_ids), names, lang.phone_groups())
    hclg = graphs.make_hclg(lang, kaldifst.make_linear_acceptor([1, 1]), senones)
    assert graphs.min_frames(hclg) == 4


def test_a_lexicon_without_disambiguation_is_refused():
    lang, grammar, senones = make()
    lang._fsts["L_disambig"] = lang.L
    with pytest.raises(GraphError, match="LG cannot be determinized"):
        graphs.make_hclg(lang, grammar, senones)


def test_pdf_graph_keeps_all_but_the_labels():
    lang, grammar, senones = make(3, "network")
    hclg = graphs.make_hclg(lang, grammar, senones)
    before, after = to_arrays(hclg), to_arrays(graphs.tids_to_pdfs(hclg, senones))
    for name in ("olabel", "weight", "nextstate"):
        assert np.array_equal(before.arcs[name], after.arcs[name])
    tids = before.arcs["ilabel"]
    assert np.array_equal(after.arcs["ilabel"], np.where(tids == 0, 0, senones.tid2pdf[tids] + 1))
    assert set(after.arcs["ilabel"]) - {0} <= set(range(1, senones.num_pdfs + 1))
    small = SimpleNamespace(tid2pdf=senones.tid2pdf[:5])
    with pytest.raises(GraphError, match="labels go up to"):
        graphs.tids_to_pdfs(hclg, small)


def test_word_penalty():
    lang, grammar, senones = make()
    hclg = graphs.make_hclg(lang, grammar, senones)
    more = graphs.add_word_penalty(hclg, 1.5)
    rng = random.Random(3)
    for _ in range(10):
        tids, ids, _ = random_path(hclg, rng)
        wanted = best_path(hclg, tids, ids) + 1.5 * len(ids)
        assert best_path(more, tids, ids) == pytest.approx(wanted, abs=1e-3)


def test_check_graph():
    fst = kaldifst.compile("0 1 3 1 0.5\n1 0.25\n")
    assert graphs.check_graph(fst, 3) == 3
    with pytest.raises(GraphError, match="labels go up to 3, the model has 2"):
        graphs.check_graph(fst, 2)
    for bad in (None, kaldifst.StdVectorFst()):
        with pytest.raises(GraphError, match="the graph is empty"):
            graphs.check_graph(bad, 3)
    endless = kaldifst.StdVectorFst()
    endless.start = endless.add_state()
    with pytest.raises(GraphError, match="no final state"):
        graphs.check_graph(endless, 3)
    with pytest.raises(GraphError, match="no path"):
        graphs.min_frames(endless)


arcs_of_graphs = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.lists(
                st.tuples(
                    st.integers(0, 9), st.integers(0, 9), st.floats(-5, 5, width=32), st.integers(0, n - 1)
                ),
                max_size=4,
            ),
            min_size=n,
            max_size=n,
        ),
        st.lists(st.sampled_from([0.0, 1.5, math.inf]), min_size=n, max_size=n),
        st.integers(0, n - 1),
    )
)


@settings(max_examples=60, deadline=None)
@given(arcs_of_graphs)
def test_arrays_are_the_graph(drawn):
    table, final, start = drawn
    fst = kaldifst.StdVectorFst()
    for _ in table:
        fst.add_state()
    fst.start = start
    for state, (arcs, value) in enumerate(zip(table, final, strict=True)):
        if math.isfinite(value):
            fst.set_final(state, value)
        for arc in arcs:
            fst.add_arc(state, kaldifst.StdArc(*arc))
    arrays = to_arrays(fst)
    assert arrays.start == start
    assert arrays.final.tolist() == final
    assert [arc.tolist() for arc in arrays.arcs] == [arc for arcs in table for arc in arcs]
    assert arrays.sources.tolist() == [state for state, arcs in enumerate(table) for _ in arcs]
    assert from_arrays(arrays).to_str() == fst.to_str()


@settings(max_examples=60, deadline=None)
@given(arcs_of_graphs)
def test_min_frames_is_the_shortest(drawn):
    table, final, start = drawn
    inf = math.inf
    length = [inf] * len(table)
    length[start] = 0
    for _ in table:  # Bellman and Ford
        for state, arcs in enumerate(table):
            for ilabel, _, _, target in arcs:
                length[target] = min(length[target], length[state] + (ilabel != 0))
    wanted = min((n for n, value in zip(length, final, strict=True) if math.isfinite(value)), default=inf)
    arcs = np.array([tuple(arc) for arcs in table for arc in arcs], dtype=ARC)
    offsets = np.cumsum([0] + [len(arcs) for arcs in table])
    fst = from_arrays(FstArrays(start, np.array(final, dtype=np.float32), offsets, arcs))
    if wanted == inf:
        with pytest.raises(GraphError):
            graphs.min_frames(fst)
    else:
        assert graphs.min_frames(fst) == wanted


def test_arrays_that_are_no_graph():
    arcs = np.array([(1, 1, 0.0, 7)], dtype=ARC)
    final = np.zeros(1, dtype=np.float32)
    with pytest.raises(GraphError, match="leads out"):
        from_arrays(FstArrays(0, final, np.array([0, 1]), arcs))
    with pytest.raises(GraphError, match="start state"):
        from_arrays(FstArrays(3, final, np.array([0, 0]), arcs[:0]))


def test_files(tmp_path, monkeypatch):
    fst = kaldifst.compile("0 1 3 1 0.5\n1 0.25\n")
    path = tmp_path / "new" / "HCLG.fst"
    write_fst(path, fst)
    assert read_fst(path).to_str() == fst.to_str()
    assert [p.name for p in path.parent.iterdir()] == ["HCLG.fst"]
    whole = path.read_bytes()
    with pytest.raises(GraphError, match="not written"):
        write_fst(path, kaldifst.StdVectorFst())
    broken = tmp_path / "broken"
    for size in range(len(whole)):
        broken.write_bytes(whole[:size])
        with pytest.raises(GraphError) as info:
            read_fst(broken)
        assert str(broken) in str(info.value) and info.value.remedy
    for odd in (tmp_path / "none", tmp_path):
        with pytest.raises(GraphError, match="no such graph"):
            read_fst(odd)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DiskError, match="No space left"):
        write_fst(path, kaldifst.compile("0 0 1 1\n0\n"))
    assert path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == ["HCLG.fst"]


def test_an4(shared_data):
    lang = Lang.create(Lexicon.from_file(shared_data / "an4/etc/an4.dic"))
    topology = bootstrap_topology(lang.phone_ids[1:], [1])
    names = {lang.phone_names[phone]: phone for phone in lang.phone_ids}
    senones = Senones.monophone(topology, names, lang.phone_groups())
    grammar = arpa_to_fst(shared_data / "an4/etc/an4.ug.lm", lang.words)
    hclg = graphs.make_hclg(lang, grammar, senones)
    assert 300 < hclg.num_states < 3000
    assert graphs.check_graph(graphs.tids_to_pdfs(hclg, senones), senones.num_pdfs) == senones.num_pdfs
    graph = graphs.TrainingGraphs(lang, senones).compile(lang.word_ids("ENTER SIX"))
    assert graphs.min_frames(graph) == 3 * (3 + 4)  # EH N ER, S IH K S
