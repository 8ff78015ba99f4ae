"""Sequence-level teacher and student: every path of a small graph written out, gradients, its limiting cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from lfmmi_tools import small_language

from hybrid.data.batches import Utterance, collate
from hybrid.data.target_store import SoftTargets
from hybrid.data.topk import top_k
from hybrid.data.topk_codec import Codec
from hybrid.errors import ConfigError, DataError
from hybrid.train.denominator import make_denominator
from hybrid.train.fsa import Fsa
from hybrid.train.lfmmi import LfMmi
from hybrid.train.numerator import Numerators
from hybrid.train.sequence_student import SequenceStudent, log_denominator_posteriors

PDFS = 4


class Given:
    """Occupancies as they are, without a codec."""

    def __init__(self, log_g: torch.Tensor) -> None:
        self.ids, self.values, _ = top_k(log_g.numpy().astype(np.float32), log_g.shape[-1])

    def __len__(self) -> int:
        return len(self.ids)

    def decode(self):
        return self.ids, self.values, None


def graph(rng) -> Fsa:
    """Three states, all arcs among them, two of each kind; weights as they come."""
    src, dst = (np.repeat(np.arange(3), 6), np.tile(np.repeat(np.arange(3), 2), 3))
    weights = np.log(rng.uniform(0.1, 1.0, len(src)))
    return Fsa(src, dst, rng.integers(0, PDFS, len(src)), weights, np.log([0.7, 0.2, 0.1]), np.log([0.3, 0.5, 0.9]))


def paths(fsa: Fsa, frames: int):
    """(log w, pdfs) of every path."""
    for arcs in itertools.product(range(len(fsa.src)), repeat=frames):
        states = [fsa.src[arcs[0]], *(fsa.dst[a] for a in arcs)]
        if all(fsa.src[a] == states[n] for n, a in enumerate(arcs)):
            weight = fsa.start[states[0]] + sum(fsa.logw[a] for a in arcs) + fsa.final[states[-1]]
            yield weight, [fsa.pdf[a] for a in arcs]


def distribution(fsa: Fsa, x: np.ndarray):
    every = list(paths(fsa, len(x)))
    scores = np.array([weight + sum(x[t, pdf] for t, pdf in enumerate(pdfs)) for weight, pdfs in every])
    high = scores.max()
    log_z = high + np.log(np.exp(scores - high).sum())
    return every, np.exp(scores - log_z), log_z


def test_the_cross_entropy_of_the_distributions_over_all_paths():
    rng = np.random.default_rng(0)
    fsa, frames = graph(rng), 4
    v, y = rng.standard_normal((2, frames, PDFS)) * 2
    every, p_teacher, _ = distribution(fsa, v)
    _, p_student, _ = distribution(fsa, y)
    known = LfMmi(fsa, PDFS)
    log_g = log_denominator_posteriors(known, torch.from_numpy(v[None]), torch.tensor([frames]))[0]
    occupancies = np.zeros((frames, PDFS))
    for (_, pdfs), p in zip(every, p_teacher):
        for t, pdf in enumerate(pdfs):
            occupancies[t, pdf] += p
    np.testing.assert_allclose(log_g.exp().numpy(), occupancies, atol=1e-5)
    batch = collate([Utterance("u", np.zeros((frames, 2), np.float32), None, {"soft": Given(log_g)})])
    loss = SequenceStudent(known)({"logits": torch.from_numpy(y[None])}, batch)
    cross = -np.sum(p_teacher * np.log(p_student))
    constant = np.sum(p_teacher * np.array([weight for weight, _ in every]))
    assert float(loss.value) == pytest.approx(cross + constant, abs=1e-4)
    assert loss.frames == frames and loss.stats["soft"] == pytest.approx(float(loss.value))


@pytest.fixture(scope="module")
def world():
    """senones, denominator, numerators and log occupancies of four utterances of a small language."""
    senones, rng, sequences, lm = small_language()
    denominator, numerators = make_denominator(lm, senones), Numerators(lm, senones)
    known = LfMmi(denominator, senones.num_pdfs)
    utterances = []
    for i, (name, phones) in enumerate(list(sequences.items())[:4]):
        durations = rng.integers(1, 4, len(phones))
        frames = int(durations.sum())
        v = torch.from_numpy(2 * rng.standard_normal((1, frames, senones.num_pdfs)).astype(np.float32))
        extra = {"soft": Given(log_denominator_posteriors(known, v, torch.tensor([frames]))[0])}
        if i % 2:
            extra = {"numerator": numerators.from_alignment(phones, durations, 1)}
        pdfs = rng.integers(0, senones.num_pdfs, frames) if i % 2 else np.full(frames, -100)
        utterances.append(Utterance(name, np.zeros((frames, 2), np.float32), pdfs, extra))
    return senones.num_pdfs, denominator, utterances


OPTIONS = [{}, {"xent_regularize": 0.2, "l2_output": 0.01, "xent_targets": "alignment"}, {"output_scale": 0.5}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [0, 2], [1, 3]])
def test_the_gradient_by_finite_differences(world, options, rows):
    num_pdfs, denominator, utterances = world
    batch = collate([utterances[row] for row in rows])
    criterion = SequenceStudent(LfMmi(denominator, num_pdfs, **options), 0.7)
    shape = (len(batch.ids), int(batch.lengths.max()), num_pdfs)
    rng = np.random.default_rng(1)
    x, y = (torch.from_numpy(rng.standard_normal(shape)).requires_grad_() for _ in range(2))
    criterion({"logits": x, "xent": y}, batch).value.backward()
    for moved in (x, y) if "xent_regularize" in options else (x,):
        step = torch.from_numpy(rng.standard_normal(shape)) * 1e-5
        both = []
        for sign in (1, -1):
            outputs = {"logits": x.detach(), "xent": y.detach()}
            outputs["logits" if moved is x else "xent"] = moved.detach() + sign * step
            both.append(float(criterion(outputs, batch).value))
        assert (both[0] - both[1]) / 2 == pytest.approx(float((moved.grad * step).sum()), rel=2e-3, abs=1e-8)


def test_a_mixed_batch_is_the_sum_of_its_kinds(world):
    num_pdfs, denominator, utterances = world
    known = LfMmi(denominator, num_pdfs)
    rng = np.random.default_rng(2)
    outputs = {u.id: rng.standard_normal((u.num_frames, num_pdfs)).astype(np.float32) for u in utterances}

    def loss(criterion, chosen):
        batch = collate(chosen)
        logits = torch.zeros(len(chosen), int(batch.lengths.max()), num_pdfs)
        for row, name in enumerate(batch.ids):
            logits[row, : len(outputs[name])] = torch.from_numpy(outputs[name])
        return criterion({"logits": logits}, batch)

    soft, hard = utterances[0::2], utterances[1::2]
    both = loss(SequenceStudent(known, 0.25), utterances)
    parts = loss(SequenceStudent(known), soft), loss(known, hard)
    assert float(both.value) == pytest.approx(0.25 * float(parts[0].value) + float(parts[1].value), rel=1e-5)
    assert both.frames == parts[0].frames + parts[1].frames
    assert both.stats["objective"] == pytest.approx(parts[1].stats["objective"], rel=1e-5)


def test_no_gradient_where_the_student_is_the_teacher_stored_or_not(world):
    num_pdfs, denominator, utterances = world
    known = LfMmi(denominator, num_pdfs)
    rng = np.random.default_rng(3)
    frames = utterances[0].num_frames
    v = torch.from_numpy(rng.standard_normal((1, frames, num_pdfs)).astype(np.float32))
    log_g = log_denominator_posteriors(known, v, torch.tensor([frames]))[0]
    codec = Codec(num_pdfs, num_pdfs)
    for soft, close in (
        (Given(log_g), 1e-5),
        (SoftTargets(codec.encode(*top_k(log_g.numpy(), num_pdfs)), codec), 0.02),
    ):
        batch = collate([Utterance("u", np.zeros((frames, 2), np.float32), None, {"soft": soft})])
        logits = (v + 3.0).requires_grad_()  # a constant a frame is without meaning
        SequenceStudent(known)({"logits": logits}, batch).value.backward()
        assert float(logits.grad.abs().max()) < close
        assert float(logits.grad.sum(-1).abs().max()) < 1e-4


def test_a_teacher_that_knows_the_transcript_teaches_as_the_transcript_does(world):
    """Occupancies of the numerator in place of the teacher's: LF-MMI's own gradient."""
    num_pdfs, denominator, utterances = world
    known = LfMmi(denominator, num_pdfs)
    utterance = utterances[1]
    x = torch.randn(1, utterance.num_frames, num_pdfs, generator=torch.Generator().manual_seed(0)).requires_grad_()
    batch = collate([utterance])
    (wanted,) = torch.autograd.grad(known({"logits": x}, batch).value, x)
    with torch.no_grad():
        _, posteriors = known._numerators(batch).forward_backward(x, batch.lengths)
    log_g = posteriors[0].float().log().clamp_min(-60)
    soft = Utterance(utterance.id, utterance.features, None, {"soft": Given(log_g)})
    (found,) = torch.autograd.grad(SequenceStudent(known)({"logits": x}, collate([soft])).value, x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf")])
def test_a_weight_out_of_range(world, weight):
    num_pdfs, denominator, _ = world
    with pytest.raises(ConfigError, match="weight of soft targets"):
        SequenceStudent(LfMmi(denominator, num_pdfs), weight)


def test_targets_of_another_length(world):
    num_pdfs, denominator, utterances = world
    wrong = Utterance("u", utterances[0].features[1:], None, utterances[0].extra)
    with pytest.raises(DataError, match="frames of soft targets.*u"):
        shape = (1, wrong.num_frames, num_pdfs)
        SequenceStudent(LfMmi(denominator, num_pdfs))({"logits": torch.zeros(shape)}, collate([wrong]))
