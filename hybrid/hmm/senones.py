"""Senones: topology, tree and transition probabilities together, as one object that can be kept on disk.

A *senone* is a pdf of the tree. A *transition id* (tid, from 1) names a phone, an HMM state, its pdf and
the arc taken out of it (Kaldi's hmm/transition-model.h); training graphs carry tids, because only they tell
which phone and state a frame was in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np

from hybrid.errors import ModelError
from hybrid.hmm.topology import Topology
from hybrid.hmm.tree import Tree, monophone_tree
from hybrid.io import PathLike, atomic_write, load_tensors, read_json, save_tensors, write_json, write_text

REORDER = True  # self-loops come after the transition that leaves the state, as in all of Kaldi's graphs

_TWO_RUNS = "topology and tree are of two runs: run the stage that writes them again"
_AGAIN = "run the stage that writes it again"


class Senones:
    """`phones`: name -> id of every phone of the topology (kept so that a model names its phones itself)."""

    def __init__(
        self, topology: Topology, tree: Tree, phones: Dict[str, int], log_probs: Optional[np.ndarray] = None
    ) -> None:
        import kaldi_hmm_gmm as khg

        self.topology = topology
        self.tree = tree
        self.phones = dict(phones)
        # Held here because the transition model keeps pointers into them.
        self._khg_topology = topology.khg()
        self.ctx_dep = tree.khg()
        try:
            self.transition_model = khg.TransitionModel(ctx_dep=self.ctx_dep, hmm_topo=self._khg_topology)
        except RuntimeError as error:
            raise ModelError(f"the tree does not fit the topology: {error}", remedy=_TWO_RUNS) from error
        self._tables()
        self._check_covered()
        if log_probs is not None:
            self.set_log_probs(log_probs)

    @classmethod
    def monophone(cls, topology: Topology, phones: Dict[str, int], groups: Sequence[Sequence[int]]) -> Senones:
        """Makes senones of one pdf per state of each group of phones (Kaldi's gmm-init-mono with --shared-phones)."""
        return cls(topology, monophone_tree(topology.num_classes, groups), phones)

    def _tables(self) -> None:
        model = self.transition_model
        self.num_pdfs: int = self.tree.num_pdfs
        self.num_tids: int = model.num_transition_ids
        self.tid2pdf = np.asarray(model.id2pdf_id, dtype=np.int32)
        self.tid2pdf[0] = -1
        self.tid2state = np.asarray(model.id2state, dtype=np.int32)
        # (phone, hmm_state, forward_pdf, self_loop_pdf) of every transition state, from 1
        tuples = np.asarray([(0, -1, -1, -1)] + [item.__getstate__() for item in model.tuples], dtype=np.int32)
        phone_of_state, hmm_state_of_state = tuples[:, 0], tuples[:, 1]
        self.tid2phone = phone_of_state[self.tid2state]
        self.tid2hmm_state = hmm_state_of_state[self.tid2state]
        self.is_self_loop = np.asarray([False] + [model.is_self_loop(t) for t in range(1, self.num_tids + 1)])
        self.is_final = np.asarray([False] + [model.is_final(t) for t in range(1, self.num_tids + 1)])
        classes = {
            (phone, number): (state.forward_class, state.loop_class)
            for entry in self.topology.entries
            for phone in entry.phones
            for number, state in enumerate(entry.states)
        }
        self.tid2class = np.full(self.num_tids + 1, -1, dtype=np.int32)
        for tid in range(1, self.num_tids + 1):
            forward, loop = classes[(int(self.tid2phone[tid]), int(self.tid2hmm_state[tid]))]
            self.tid2class[tid] = loop if self.is_self_loop[tid] else forward

    def _check_covered(self) -> None:
        """Transition states that the tree has no pdf for are left out silently, and graphs over them have no path."""
        covered = set(zip(self.tid2phone[1:].tolist(), self.tid2hmm_state[1:].tolist()))
        for entry in self.topology.entries:
            for phone in entry.phones:
                for number in range(len(entry.states)):
                    if (phone, number) not in covered:
                        name = self.phone_names.get(phone, phone)
                        raise ModelError(
                            f"the tree has no pdf for state {number} of phone {name}",
                            remedy=_TWO_RUNS,
                        )

    @property
    def phone_names(self) -> Dict[int, str]:
        return {number: name for name, number in self.phones.items()}

    @property
    def log_probs(self) -> np.ndarray:
        """The log probabilities of transition ids, [num_tids + 1] float32, natural log; index 0 is not used."""
        return np.asarray(self.transition_model.log_probs, dtype=np.float32)

    def set_log_probs(self, log_probs: np.ndarray) -> None:
        """Puts the probabilities of all transition ids. Raises ModelError where their number does not fit."""
        state = list(self.transition_model.__getstate__())
        remedy = "the transitions are of another tree: run the stage that writes them again"
        log_probs = np.asarray(log_probs)
        if log_probs.shape != (len(state[6]),):
            raise ModelError(
                f"{log_probs.size} transition probabilities for a model of {len(state[6])}", remedy=remedy
            )
        # state[3] is the transition state of each tid. The probabilities of one state sum to one.
        sums = np.bincount(np.asarray(state[3])[1:], weights=np.exp(log_probs[1:].astype(np.float64)))[1:]
        if not np.allclose(sums, 1.0, atol=1e-2):
            worst = int(np.argmax(np.abs(np.nan_to_num(sums, nan=np.inf) - 1)))
            raise ModelError(f"transition probabilities of state {worst + 1} sum to {sums[worst]:g}", remedy=remedy)
        state[6] = [float(value) for value in log_probs]
        # Kaldi keeps log(1 - p(self-loop)) per transition state beside them.
        non_loop = [0.0] * len(state[7])
        loops = np.asarray([False] + [self.transition_model.is_self_loop(t) for t in range(1, len(log_probs))])
        states = np.asarray(state[3])  # state[4] is the pdf of each tid
        for tid in np.flatnonzero(loops):
            non_loop[states[tid]] = float(np.log(max(1.0 - np.exp(log_probs[tid]), 1e-10)))
        state[7] = non_loop
        import kaldi_hmm_gmm as khg

        # Setting the state of an object that has one already is silently ignored: make a new one.
        model = khg.TransitionModel.__new__(khg.TransitionModel)
        model.__setstate__(tuple(state))
        self.transition_model = model

    def update_transitions(self, counts: np.ndarray, *, floor: float = 0.01, min_count: float = 5.0) -> None:
        """Sets the probabilities of maximum likelihood from the counts [num_tids + 1] of an alignment.

        Kaldi's TransitionModel::MleUpdate: a state seen less than `min_count` times keeps its
        probabilities; others are floored at `floor` and renormalised.
        """
        log_probs = self.log_probs.astype(np.float64)
        totals = np.bincount(self.tid2state, weights=counts, minlength=self.tid2state.max() + 1)
        counted = totals[self.tid2state] >= min_count
        counted[0] = False
        probs = np.where(counted, counts / np.maximum(totals[self.tid2state], 1e-30), np.exp(log_probs))
        # Flooring takes from the others, which may fall under the floor again: Kaldi iterates three times too.
        for _ in range(3):
            probs = np.where(counted, np.maximum(probs, floor), probs)
            sums = np.bincount(self.tid2state, weights=probs, minlength=len(totals))
            probs = np.where(counted, probs / np.maximum(sums[self.tid2state], 1e-30), probs)
        log_probs[1:] = np.log(probs[1:])
        self.set_log_probs(log_probs.astype(np.float32))

    def save(self, folder: PathLike) -> None:
        """Writes the senones into a folder.

        tree.json, topology.json, transitions.safetensors, phones.json; `topo` and `tree` as Kaldi reads them.
        """
        folder = Path(folder)
        write_json(folder / "tree.json", self.tree.to_json())
        write_json(folder / "topology.json", self.topology.to_json())
        write_json(folder / "phones.json", self.phones)
        write_text(folder / "topo", self.topology.text())
        with atomic_write(folder / "tree") as stream:
            stream.write(b"\0B" + self.tree.kaldi_bytes())
        save_tensors(folder / "transitions.safetensors", {"log_probs": self.log_probs})

    @classmethod
    def load(cls, folder: PathLike) -> Senones:
        """Reads a folder of senones. Raises DataError or ModelError naming the file that is missing or does not fit."""
        folder = Path(folder)
        phones = read_json(folder / "phones.json")
        if not isinstance(phones, dict) or not all(isinstance(number, int) for number in phones.values()):
            raise ModelError("not a table of phones", file=folder / "phones.json", remedy=_AGAIN)
        log_probs = load_tensors(folder / "transitions.safetensors").get("log_probs")
        if log_probs is None:
            raise ModelError("no log_probs", file=folder / "transitions.safetensors", remedy=_AGAIN)
        try:
            topology = Topology.from_json(read_json(folder / "topology.json"))
            return cls(topology, Tree.from_json(read_json(folder / "tree.json")), phones, log_probs)
        except ModelError as error:
            raise ModelError(error.what, file=error.file or folder, remedy=error.remedy) from error

    def __reduce__(self) -> Any:
        # kaldi-hmm-gmm's objects point into each other: a worker process gets the parts and builds its own.
        return Senones, (self.topology, self.tree, self.phones, self.log_probs)
