"""Topologies against Kaldi's scripts read by eye, the library's own reading of them, and bad input."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from hybrid.errors import ModelError
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import Entry, State, Topology, bootstrap_topology, network_topology

BOOT = bootstrap_topology([2, 3], [1])
NET = network_topology([1, 2, 3])

# utils/gen_topo.pl 3 5 2:3 1, and steps/nnet3/chain/gen_topo.py for phones 1:2:3
BOOT_TEXT = """<Topology>
<TopologyEntry>
<ForPhones>
2 3
</ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.75 <Transition> 1 0.25 </State>
<State> 1 <PdfClass> 1 <Transition> 1 0.75 <Transition> 2 0.25 </State>
<State> 2 <PdfClass> 2 <Transition> 2 0.75 <Transition> 3 0.25 </State>
<State> 3 </State>
</TopologyEntry>
<TopologyEntry>
<ForPhones>
1
</ForPhones>
<State> 0 <PdfClass> 0 <Transition> 0 0.25 <Transition> 1 0.25 <Transition> 2 0.25 <Transition> 3 0.25 </State>
<State> 1 <PdfClass> 1 <Transition> 1 0.25 <Transition> 2 0.25 <Transition> 3 0.25 <Transition> 4 0.25 </State>
<State> 2 <PdfClass> 2 <Transition> 1 0.25 <Transition> 2 0.25 <Transition> 3 0.25 <Transition> 4 0.25 </State>
<State> 3 <PdfClass> 3 <Transition> 1 0.25 <Transition> 2 0.25 <Transition> 3 0.25 <Transition> 4 0.25 </State>
<State> 4 <PdfClass> 4 <Transition> 4 0.75 <Transition> 5 0.25 </State>
<State> 5 </State>
</TopologyEntry>
</Topology>
"""
NET_TEXT = """<Topology>
<TopologyEntry>
<ForPhones>
1 2 3
</ForPhones>
<State> 0 <ForwardPdfClass> 0 <SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 </State>
</TopologyEntry>
</Topology>
"""


@pytest.mark.parametrize("topology, text", [(BOOT, BOOT_TEXT), (NET, NET_TEXT)], ids=["bootstrap", "network"])
def test_the_text_is_what_kaldi_writes(topology, text):
    assert topology.text() == text


@pytest.mark.parametrize("states", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("silence_states", [1, 2, 3, 4, 5, 6])
def test_the_library_takes_every_size(states, silence_states):
    topology = bootstrap_topology([2, 3], [1], num_states=states, num_silence_states=silence_states)
    assert topology.phones == [1, 2, 3]
    assert topology.num_classes == {1: silence_states, 2: states, 3: states}
    senones = Senones.monophone(topology, {"s": 1, "a": 2, "b": 3}, [[1], [2], [3]])
    assert senones.num_pdfs == silence_states + 2 * states
    # the probabilities of each state, as the library has them, are those of the topology
    expected = [
        [prob for _, prob in state.transitions]
        for phone in (1, 2, 3)
        for entry in topology.entries
        if phone in entry.phones
        for state in entry.states
    ]
    got = [np.exp(senones.log_probs[senones.tid2state == n]) for n in range(1, len(expected) + 1)]
    assert expected
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_silence_passes_its_middle_states_in_any_order():
    states = BOOT.entries[1].states
    for number in (1, 2, 3):
        assert [to for to, _ in states[number].transitions] == [1, 2, 3, 4]
    assert [to for to, _ in states[0].transitions] == [0, 1, 2, 3]


def test_only_silence_or_only_phones():
    assert bootstrap_topology([], [1]).phones == [1]
    assert bootstrap_topology([4, 2], []).phones == [2, 4]


@pytest.mark.parametrize("topology", [BOOT, NET, bootstrap_topology([2], [1], num_silence_states=4)])
def test_json_brings_back_the_same_object(topology):
    assert Topology.from_json(json.loads(json.dumps(topology.to_json()))) == topology


def _without(value, *path):
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return value


def _with(value, new, *path):
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


GOOD = BOOT.to_json()
FIRST = ("entries", 0, "states", 0)
BROKEN = {
    "none": None,
    "text": "x",
    "list": [],
    "empty": {},
    "no name": _without(GOOD, "name"),
    "entries a number": _with(GOOD, 3, "entries"),
    "no entries": _with(GOOD, [], "entries"),
    "no phones": _without(GOOD, "entries", 0, "phones"),
    "phones empty": _with(GOOD, [], "entries", 0, "phones"),
    "phones text": _with(GOOD, "ab", "entries", 0, "phones"),
    "phone 0": _with(GOOD, [0, 2], "entries", 0, "phones"),
    "phone a bool": _with(GOOD, [True, 2], "entries", 0, "phones"),
    "phone twice": _with(GOOD, [1], "entries", 0, "phones"),
    "no states": _with(GOOD, [], "entries", 0, "states"),
    "class missing": _without(GOOD, *FIRST, "loop_class"),
    "class with a gap": _with(GOOD, 7, *FIRST, "loop_class"),
    "class negative": _with(GOOD, -1, *FIRST, "forward_class"),
    "class text": _with(GOOD, "0", *FIRST, "forward_class"),
    "class a half": _with(GOOD, 0.5, *FIRST, "forward_class"),
    "arc short": _with(GOOD, [[0]], *FIRST, "transitions"),
    "arc to nowhere": _with(GOOD, [[0, 0.5], [9, 0.5]], *FIRST, "transitions"),
    "arc back": _with(GOOD, [[0, 0.5], [-1, 0.5]], *FIRST, "transitions"),
    "arc twice": _with(GOOD, [[0, 0.5], [1, 0.25], [1, 0.25]], *FIRST, "transitions"),
    "no arcs": _with(GOOD, [], *FIRST, "transitions"),
    "only a loop": _with(GOOD, [[0, 1.0]], *FIRST, "transitions"),
    "probability 0": _with(GOOD, [[0, 1.0], [1, 0.0]], *FIRST, "transitions"),
    "probability text": _with(GOOD, [[0, "a"], [1, 0.5]], *FIRST, "transitions"),
    "probabilities above 1": _with(GOOD, [[0, 0.75], [1, 0.75]], *FIRST, "transitions"),
    "probability nan": _with(GOOD, [[0, float("nan")], [1, 0.75]], *FIRST, "transitions"),
}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN.keys())
def test_broken_json_is_refused_with_a_remedy(value):
    with pytest.raises(ModelError) as caught:
        Topology.from_json(value)
    assert caught.value.remedy


def test_an_object_that_cannot_be_is_refused_when_it_is_made():
    state = State(0, 0, ((0, 0.5), (1, 0.5)))
    with pytest.raises(ModelError, match="1 twice"):
        Topology((Entry((1, 2), (state,)), Entry((2,), (state,))), "x")
    with pytest.raises(ModelError, match="no phones|without phones"):
        bootstrap_topology([], [])
