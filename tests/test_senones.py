"""Senones: tables against the library, transition probabilities against its update, folders whole and broken."""

from __future__ import annotations

import json
import pickle
import shutil

import hmm_tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import HybridError, ModelError
from hybrid.hmm.senones import Senones
from hybrid.hmm.tree import monophone_tree
from hybrid.io import load_tensors, save_tensors

KINDS = [("bootstrap", 3, 1), ("bootstrap", 1, 0), ("network", 2, 1), ("network", 3, 1)]


def _made(kind="bootstrap", width=3, central=1, seed=0):
    return hmm_tools.random_senones(seed, kind, width, central)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tables_say_what_the_library_says_of_each_transition_id(kind):
    senones = _made(*kind)
    model = senones.transition_model
    states = {phone: entry.states for entry in senones.topology.entries for phone in entry.phones}
    assert len(senones.tid2pdf) == senones.num_tids + 1
    assert senones.tid2pdf[0] == senones.tid2class[0] == -1
    assert senones.tid2pdf.dtype == np.int32
    for tid in range(1, senones.num_tids + 1):
        phone, number = int(senones.tid2phone[tid]), int(senones.tid2hmm_state[tid])
        assert senones.tid2pdf[tid] == model.transition_id_to_pdf(tid)
        assert phone == model.transition_id_to_phone(tid)
        assert senones.is_self_loop[tid] == model.is_self_loop(tid)
        assert senones.is_final[tid] == model.is_final(tid)
        state = states[phone][number]
        expected = state.loop_class if model.is_self_loop(tid) else state.forward_class
        assert senones.tid2class[tid] == expected
    assert senones.num_pdfs == senones.tree.num_pdfs


def test_every_pdf_of_a_tree_is_under_its_class_and_phone():
    senones = _made("network", 2, 1)
    seen = set()
    for left in range(len(hmm_tools.PHONES) + 1):
        for phone in hmm_tools.PHONES:
            for pdf_class in (0, 1):
                seen.add((phone, pdf_class, senones.tree.pdf([left, phone], pdf_class)))
    tids = range(1, senones.num_tids + 1)
    named = {(int(senones.tid2phone[t]), int(senones.tid2class[t]), int(senones.tid2pdf[t])) for t in tids}
    # the library also names leaves that no context reaches (a random tree asks the same twice)
    assert seen <= named
    assert all(pdf in range(senones.num_pdfs) for _, _, pdf in named)


# -- transition probabilities -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_probabilities_of_leaving_given_that_it_is_left(kind):
    senones = _made(*kind)
    model = senones.transition_model
    assert len(model.non_self_loop_log_probs) == model.num_transition_states + 1
    for number in range(1, model.num_transition_states + 1):
        loops = [t for t in range(1, senones.num_tids + 1) if senones.tid2state[t] == number and model.is_self_loop(t)]
        expected = np.log(1 - np.exp(senones.log_probs[loops[0]])) if loops else 0.0
        assert model.non_self_loop_log_probs[number] == pytest.approx(expected, abs=1e-5)


def test_probabilities_put_are_probabilities_read():
    senones = _made()
    before = senones.log_probs.copy()
    rng = np.random.default_rng(1)
    probs = rng.random(senones.num_tids + 1) + 0.1
    sums = np.bincount(senones.tid2state, weights=probs)
    wanted = np.log(probs / sums[senones.tid2state]).astype(np.float32)
    wanted[0] = 0.0
    senones.set_log_probs(wanted)
    np.testing.assert_array_equal(senones.log_probs[1:], wanted[1:])
    assert not np.allclose(before[1:], wanted[1:])
    # everything else stays
    fresh = Senones(senones.topology, senones.tree, senones.phones)
    assert list(fresh.transition_model.id2pdf_id) == list(senones.transition_model.id2pdf_id)
    assert list(fresh.transition_model.id2state) == list(senones.transition_model.id2state)


def test_a_self_loop_that_never_ends_keeps_a_finite_cost():
    senones = _made("network", 1, 0)
    log_probs = senones.log_probs.copy()
    first = senones.tid2state == 1
    log_probs[first] = np.where(senones.is_self_loop[first], 0.0, -30.0)
    senones.set_log_probs(log_probs)
    assert senones.transition_model.non_self_loop_log_probs[1] == pytest.approx(np.log(1e-10))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 3.0, 30.0, 3000.0]))
def test_update_is_the_librarys(kind, seed, most):
    import kaldi_hmm_gmm as khg

    rng = np.random.default_rng(seed)
    ours, theirs = _made(*kind), _made(*kind)
    counts = np.r_[0.0, np.floor(rng.exponential(1.0, ours.num_tids) ** 3 * most)]
    theirs.transition_model.mle_update(counts, khg.MleTransitionUpdateConfig(floor=0.01, mincount=5.0))
    ours.update_transitions(counts)
    # Kaldi ends with flooring, so that its probabilities sum to a little more than one; ours with normalising.
    floored = np.r_[0.0, np.exp(theirs.log_probs[1:].astype(float))]
    expected = floored[1:] / np.bincount(ours.tid2state, weights=floored)[ours.tid2state[1:]]
    np.testing.assert_allclose(np.exp(ours.log_probs[1:]), expected, rtol=1e-5)
    sums = np.bincount(ours.tid2state, weights=np.r_[0.0, np.exp(ours.log_probs[1:].astype(float))])
    np.testing.assert_allclose(sums[1:], 1.0, atol=1e-5)


def test_update_is_the_share_of_each_arc_where_nothing_is_floored():
    senones = _made()
    counts = np.r_[0.0, np.random.default_rng(0).integers(50, 100, senones.num_tids)]
    totals = np.bincount(senones.tid2state, weights=counts)
    senones.update_transitions(counts)
    np.testing.assert_allclose(np.exp(senones.log_probs[1:]), counts[1:] / totals[senones.tid2state[1:]], rtol=1e-5)


def test_states_that_are_rarely_seen_keep_their_probabilities():
    senones = _made()
    before = senones.log_probs.copy()
    counts = np.zeros(senones.num_tids + 1)
    chosen = np.flatnonzero(senones.tid2state == 3)
    counts[chosen[0]] = 4.0
    senones.update_transitions(counts)
    np.testing.assert_allclose(senones.log_probs, before, atol=1e-6)
    counts[chosen[0]] = 5.0
    senones.update_transitions(counts)
    assert senones.log_probs[chosen[0]] > before[chosen[0]]
    rest = senones.tid2state != 3
    np.testing.assert_allclose(senones.log_probs[rest], before[rest], atol=1e-6)
    # the arcs not seen are floored
    assert np.exp(senones.log_probs[chosen[1:]]) == pytest.approx(0.01, rel=0.05)


# -- on disk and in other processes -----------------------------------------------------------------------------------


def _same(one, other):
    assert one.topology == other.topology
    assert one.tree == other.tree
    assert one.phones == other.phones
    np.testing.assert_array_equal(one.log_probs, other.log_probs)
    for name in ("tid2pdf", "tid2phone", "tid2state", "tid2class", "tid2hmm_state", "is_self_loop", "is_final"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert list(one.transition_model.non_self_loop_log_probs) == list(other.transition_model.non_self_loop_log_probs)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_folder_brings_back_the_same_senones(tmp_path, kind):
    senones = _made(*kind)
    senones.save(tmp_path / "a")
    again = Senones.load(tmp_path / "a")
    _same(again, senones)
    assert (tmp_path / "a" / "topo").read_text() == senones.topology.text()
    assert (tmp_path / "a" / "tree").read_bytes() == b"\0B" + senones.tree.kaldi_bytes()
    again.save(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_another_process_gets_the_same_senones():
    senones = _made()
    _same(pickle.loads(pickle.dumps(senones)), senones)


def test_names_of_phones():
    assert _made().phone_names[3] == "p3"


def _edit(name, change):
    def edit(folder):
        path = folder / name
        value = json.loads(path.read_text())
        path.write_text(json.dumps(change(value)))

    return edit


def _raw(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def _log_probs(change):
    def edit(folder):
        path = folder / "transitions.safetensors"
        save_tensors(path, {"log_probs": change(load_tensors(path)["log_probs"])})

    return edit


def _one_class(folder):
    small = monophone_tree({phone: 1 for phone in hmm_tools.PHONES}, [[phone] for phone in hmm_tools.PHONES])
    (folder / "tree.json").write_text(json.dumps(small.to_json()))


def _fewer_phones(folder):
    classes = hmm_tools.topology().num_classes
    small = monophone_tree({p: classes[p] for p in (1, 2, 3, 4)}, [[1], [2], [3], [4]])
    (folder / "tree.json").write_text(json.dumps(small.to_json()))


def _other_tree(folder):
    (folder / "tree.json").write_text(json.dumps(_made(seed=5).tree.to_json()))


BROKEN = {
    "tree missing": (lambda f: (f / "tree.json").unlink(), "tree.json"),
    "topology missing": (lambda f: (f / "topology.json").unlink(), "topology.json"),
    "phones missing": (lambda f: (f / "phones.json").unlink(), "phones.json"),
    "transitions missing": (lambda f: (f / "transitions.safetensors").unlink(), "transitions.safetensors"),
    "everything missing": (shutil.rmtree, "no such file"),
    "tree cut off": (lambda f: (f / "tree.json").write_text((f / "tree.json").read_text()[:40]), "tree.json"),
    "tree of bytes": (_raw("tree.json", b"\xff\xfe\x00"), "tree.json"),
    "tree a list": (_edit("tree.json", lambda v: [v]), "not a tree"),
    "topology a list": (_edit("topology.json", lambda v: [v]), "not a topology"),
    "phones a list": (_edit("phones.json", list), "phones.json"),
    "phones of text": (_edit("phones.json", lambda v: {k: str(n) for k, n in v.items()}), "phones.json"),
    "transitions empty": (_raw("transitions.safetensors", b""), "transitions.safetensors"),
    "transitions other": (lambda f: save_tensors(f / "transitions.safetensors", {"x": np.zeros(3)}), "no log_probs"),
    "transitions short": (_log_probs(lambda p: p[:-1]), "another tree"),
    "transitions a matrix": (_log_probs(lambda p: p[None]), "another tree"),
    "transitions nan": (_log_probs(lambda p: np.full_like(p, np.nan)), "sum to nan"),
    "transitions shuffled": (_log_probs(lambda p: np.r_[p[0], p[:0:-1]]), "sum to"),
    "transitions of another tree": (_other_tree, "another tree"),
    "tree of another topology": (_one_class, "no pdf for state 1 of phone p"),
    "tree of other phones": (_fewer_phones, "no pdf for state 0 of phone p5|does not fit"),
}


@pytest.mark.parametrize("change, what", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_folder_is_refused_with_its_name_and_a_remedy(tmp_path, change, what):
    folder = tmp_path / "senones"
    _made(seed=1).save(folder)
    change(folder)
    with pytest.raises(HybridError, match=what) as caught:
        Senones.load(folder)
    assert caught.value.remedy
    assert str(folder) in str(caught.value)


def test_too_few_probabilities_leave_the_old_ones():
    senones = _made()
    before = senones.log_probs.copy()
    with pytest.raises(ModelError):
        senones.set_log_probs(before[:-1])
    np.testing.assert_array_equal(senones.log_probs, before)


def test_a_tree_that_does_not_cover_its_phones_is_refused_when_senones_are_made():
    tree = monophone_tree({1: 2, 2: 2, 3: 2, 5: 2}, [[1], [2], [3], [5]])
    with pytest.raises(ModelError, match="two runs|does not fit"):
        Senones(hmm_tools.topology("network"), tree, hmm_tools.NAMES)
