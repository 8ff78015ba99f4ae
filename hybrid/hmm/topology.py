"""HMM topologies: how many states a phone has, and which of them share an output distribution.

Two are in use. The *bootstrap* topology (10 ms frames, Gaussians) is Kaldi's default: three states from
left to right for a phone, five states for silence of which the middle three are fully connected
(utils/gen_topo.pl). The *network* topology (30 ms frames) is Kaldi's chain topology: one state that can
be passed in one frame, with one pdf for the frame that enters it and another for its self-loop
(steps/nnet3/chain/gen_topo.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Dict, List, Sequence, Set, Tuple

from hybrid.errors import ModelError

_REMEDY = "run the stage that writes it again"


@dataclass(frozen=True)
class State:
    """One emitting state: its pdf classes and its transitions (destination, probability)."""

    forward_class: int
    loop_class: int
    transitions: Tuple[Tuple[int, float], ...]


@dataclass(frozen=True)
class Entry:
    """The states that a group of phones share; the final, non-emitting state is implied as the last."""

    phones: Tuple[int, ...]
    states: Tuple[State, ...]


@dataclass(frozen=True)
class Topology:
    """Raises ModelError for entries that no HMM can be made of: the library behind would stop, or take them as is."""

    entries: Tuple[Entry, ...]
    name: str

    def __post_init__(self) -> None:
        if not self.entries:
            raise ModelError("a topology without phones", remedy=_REMEDY)
        phones: Set[int] = set()
        for entry in self.entries:
            twice = phones & set(entry.phones)
            if not entry.phones or twice or not all(_is_number(phone, 1) for phone in entry.phones):
                raise ModelError(f"a topology with the phones {list(entry.phones)}, {len(twice)} twice", remedy=_REMEDY)
            phones |= set(entry.phones)
            _check_states(entry.states)

    @property
    def phones(self) -> List[int]:
        return sorted(phone for entry in self.entries for phone in entry.phones)

    @property
    def num_classes(self) -> Dict[int, int]:
        """The number of pdf classes of each phone: phone -> number."""
        return {
            phone: 1 + max(max(state.forward_class, state.loop_class) for state in entry.states)
            for entry in self.entries
            for phone in entry.phones
        }

    def text(self) -> str:
        """Returns Kaldi's `topo` file."""
        lines = ["<Topology>"]
        for entry in self.entries:
            lines += ["<TopologyEntry>", "<ForPhones>", " ".join(map(str, entry.phones)), "</ForPhones>"]
            for number, state in enumerate(entry.states):
                if state.forward_class == state.loop_class:
                    pdf = f"<PdfClass> {state.forward_class}"
                else:
                    pdf = f"<ForwardPdfClass> {state.forward_class} <SelfLoopPdfClass> {state.loop_class}"
                arcs = " ".join(f"<Transition> {to} {prob:.6g}" for to, prob in state.transitions)
                lines.append(f"<State> {number} {pdf} {arcs} </State>")
            lines += [f"<State> {len(entry.states)} </State>", "</TopologyEntry>"]
        return "\n".join(lines + ["</Topology>", ""])

    def khg(self) -> Any:
        """Returns the same as a kaldi_hmm_gmm.HmmTopology, checked by it."""
        import kaldi_hmm_gmm as khg

        topology = khg.HmmTopology()
        topology.read(self.text())
        topology.check()
        return topology

    def to_json(self) -> Dict[str, Any]:
        return {
            "name": self.name,
            "entries": [
                {
                    "phones": list(entry.phones),
                    "states": [
                        {
                            "forward_class": state.forward_class,
                            "loop_class": state.loop_class,
                            "transitions": [list(arc) for arc in state.transitions],
                        }
                        for state in entry.states
                    ],
                }
                for entry in self.entries
            ],
        }

    @classmethod
    def from_json(cls, value: Dict[str, Any]) -> Topology:
        try:
            return cls(
                entries=tuple(
                    Entry(
                        tuple(entry["phones"]),
                        tuple(
                            State(
                                state["forward_class"],
                                state["loop_class"],
                                tuple((int(to), float(prob)) for to, prob in state["transitions"]),
                            )
                            for state in entry["states"]
                        ),
                    )
                    for entry in value["entries"]
                ),
                name=value["name"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not a topology: {error!r}", remedy=_REMEDY) from error


def _is_number(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _check_states(states: Sequence[State]) -> None:
    classes = {number for state in states for number in (state.forward_class, state.loop_class)}
    if not all(_is_number(number, 0) for number in classes) or classes != set(range(len(classes))) or not classes:
        raise ModelError(f"pdf classes {sorted(map(str, classes))}, which are not 0 .. n-1", remedy=_REMEDY)
    for number, state in enumerate(states):
        to = [destination for destination, _ in state.transitions]
        probs = [prob for _, prob in state.transitions]
        if len(set(to)) != len(to) or not all(0 <= destination <= len(states) for destination in to):
            raise ModelError(f"state {number} of {len(states)} leads to {to}", remedy=_REMEDY)
        if not all(prob > 0 for prob in probs) or not abs(sum(probs) - 1) < 1e-3:
            raise ModelError(f"state {number} has the probabilities {probs}", remedy=_REMEDY)
        if len(states) not in to and not any(destination > number for destination in to):
            raise ModelError(f"state {number} has no way on", remedy=_REMEDY)


def _left_to_right(num_states: int, loop: float = 0.75) -> Tuple[State, ...]:
    return tuple(State(i, i, ((i, loop), (i + 1, 1.0 - loop))) for i in range(num_states))


def _silence_states(num_states: int) -> Tuple[State, ...]:
    """First state -> any of the middle ones, which form a clique with a way to the last; last -> end.

    Silence has parts that come in any order (breath, clicks, hum), hence the clique.
    """
    if num_states < 3:
        return _left_to_right(num_states)
    # Kaldi (gen_topo.pl): the first state and each of the middle ones leave with equal probabilities
    # to n - 1 states; a middle state cannot go back to the first.
    prob = 1.0 / (num_states - 1)
    first = State(0, 0, tuple((to, prob) for to in range(0, num_states - 1)))
    middle = [State(i, i, tuple((to, prob) for to in range(1, num_states))) for i in range(1, num_states - 1)]
    last = State(num_states - 1, num_states - 1, ((num_states - 1, 0.75), (num_states, 0.25)))
    return (first, *middle, last)


def bootstrap_topology(
    nonsilence: Sequence[int], silence: Sequence[int], *, num_states: int = 3, num_silence_states: int = 5
) -> Topology:
    """Returns the topology of Kaldi's utils/gen_topo.pl.

    `num_states` for phones, `num_silence_states` for silence, 10 ms frames.
    """
    entries = [Entry(tuple(nonsilence), _left_to_right(num_states))] if nonsilence else []
    if silence:
        entries.append(Entry(tuple(silence), _silence_states(num_silence_states)))
    return Topology(tuple(entries), "bootstrap")


def network_topology(phones: Sequence[int]) -> Topology:
    """Returns Kaldi's chain topology (steps/nnet3/chain/gen_topo.py).

    One state, entry pdf 0, self-loop pdf 1, 30 ms frames.
    """
    state = State(forward_class=0, loop_class=1, transitions=((0, 0.5), (1, 0.5)))
    return Topology((Entry(tuple(phones), (state,)),), "network")
