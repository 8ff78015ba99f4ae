"""Soft cross-entropy: the formulas written out, its gradient, temperature, hard labels, targets from anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.batches import IGNORE, Utterance, collate
from hybrid.data.target_store import SoftTargets
from hybrid.data.topk import top_k
from hybrid.data.topk_codec import Codec
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.nnet.model_io import build_model
from hybrid.train.ce import CrossEntropy
from hybrid.train.soft_ce import OnlineTargets, SoftCrossEntropy, slow_soft_cross_entropy, stored_targets

PDFS, DIM = 12, 5


class Exact:
    """Targets that no codec has rounded."""

    def __init__(self, teacher: np.ndarray, k: int) -> None:
        self.ids, self.values, _ = top_k(teacher.astype(np.float32), k)

    def __len__(self) -> int:
        return len(self.ids)

    def decode(self):
        return self.ids, self.values, None


def batch_of(lengths, k, rng, pdfs=None, spread=3.0):
    teachers = [spread * rng.standard_normal((n, PDFS)) for n in lengths]
    utterances = [
        Utterance(f"u{i}", np.zeros((n, DIM), np.float32), None if pdfs is None else pdfs[i], {"soft": Exact(t, k)})
        for i, (n, t) in enumerate(zip(lengths, teachers))
    ]
    batch = collate(utterances)
    order = [int(name[1:]) for name in batch.ids]
    return batch, [teachers[i] for i in order]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    k=st.integers(1, PDFS),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    seed=st.integers(0, 1000),
)
def test_as_the_formulas_stand(lengths, k, temperature, seed):
    rng = np.random.default_rng(seed)
    batch, teachers = batch_of(lengths, k, rng)
    logits = torch.from_numpy(3 * rng.standard_normal((*batch.features.shape[:2], PDFS)))
    loss = SoftCrossEntropy(temperature=temperature)({"logits": logits}, batch)
    wanted = sum(
        slow_soft_cross_entropy(logits[row, :n].numpy(), teacher, k, temperature)
        for row, (n, teacher) in enumerate(zip(batch.lengths.tolist(), teachers))
    )
    assert loss.frames == sum(lengths)
    assert float(loss.value) == pytest.approx(wanted, rel=1e-5, abs=1e-6 * loss.frames)  # of a near 0, float32
    assert loss.stats["divergence"] >= -1e-4 * loss.frames


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("hard", [0.0, 0.3])
def test_the_gradient_is_that_of_the_formulas_by_finite_differences(temperature, hard):
    rng = np.random.default_rng(3)
    batch, teachers = batch_of([4], 5, rng, pdfs=[np.array([1, IGNORE, 3, 0])])
    teacher = teachers[0]
    x = rng.standard_normal((4, PDFS))
    logits = torch.from_numpy(x[None]).requires_grad_()
    SoftCrossEntropy(temperature=temperature, hard=hard)({"logits": logits}, batch).value.backward()

    def value(z):
        soft = sum(
            (1 - hard * (pdf != IGNORE)) * slow_soft_cross_entropy(z[t : t + 1], teacher[t : t + 1], 5, temperature)
            for t, pdf in enumerate([1, IGNORE, 3, 0])
        )
        log_q = z - np.log(np.exp(z).sum(-1, keepdims=True))
        return soft - hard * (log_q[0, 1] + log_q[2, 3] + log_q[3, 0])

    for t, s in [(0, 1), (1, 1), (2, 7), (3, 0), (3, 11)]:
        step = np.zeros_like(x)
        step[t, s] = 1e-4
        assert float(logits.grad[0, t, s]) == pytest.approx(
            (value(x + step) - value(x - step)) / 2e-4, rel=1e-4, abs=1e-6
        )


def test_the_gradient_is_t_times_the_difference_of_the_posteriors():
    rng = np.random.default_rng(0)
    batch, teachers = batch_of([3], PDFS, rng)
    logits = torch.from_numpy(rng.standard_normal((1, 3, PDFS))).requires_grad_()
    SoftCrossEntropy(temperature=3.0)({"logits": logits}, batch).value.backward()
    p = torch.softmax(torch.from_numpy(teachers[0]) / 3.0, -1)
    q = torch.softmax(logits.detach()[0] / 3.0, -1)
    torch.testing.assert_close(logits.grad[0], 3.0 * (q - p), rtol=1e-5, atol=1e-6)


def test_it_is_least_at_the_teacher_and_does_not_mind_a_constant():
    rng = np.random.default_rng(1)
    batch, teachers = batch_of([5], PDFS, rng)
    same = torch.from_numpy(teachers[0][None]) + 7.0
    loss = SoftCrossEntropy(temperature=2.0)({"logits": same}, batch)
    assert loss.stats["divergence"] == pytest.approx(0.0, abs=1e-4) and loss.stats["agreed"] == 5
    moved = same + torch.from_numpy(rng.standard_normal((5, PDFS)))
    other = SoftCrossEntropy(temperature=2.0)({"logits": moved}, batch)
    assert float(other.value) > float(loss.value)


def test_one_output_is_ce_against_the_teachers_best():
    rng = np.random.default_rng(2)
    batch, teachers = batch_of([4, 2], 1, rng)
    hard = collate([Utterance(n, u.features, t.argmax(-1)) for n, u, t in zip(batch.ids, batch.utterances, teachers)])
    logits = torch.from_numpy(rng.standard_normal((2, 4, PDFS)))
    soft = SoftCrossEntropy()({"logits": logits}, batch)
    assert float(soft.value) == pytest.approx(float(CrossEntropy()({"logits": logits}, hard).value))
    only_hard = SoftCrossEntropy(hard=1.0)(
        {"logits": logits}, collate([Utterance(u.id, u.features, h.pdfs, u.extra) for u, h in
                                     zip(batch.utterances, hard.utterances)])
    )  # fmt: skip
    assert float(only_hard.value) == pytest.approx(float(soft.value))


def network(seed):
    about = {"input_dim": DIM, "num_pdfs": PDFS, "hidden": 8, "layers": 1, "bidirectional": True}
    return build_model("lstm", about, seed)


@pytest.mark.parametrize("k", [3, PDFS])
def test_targets_computed_as_they_are_needed_are_those_stored(k):
    rng = np.random.default_rng(5)
    teacher, student = network(1).eval(), network(2)
    codec = Codec(PDFS, k)
    utterances = []
    for i, n in enumerate([7, 4, 7]):
        clean = rng.standard_normal((n, DIM)).astype(np.float32)
        with torch.no_grad():
            outputs = teacher(torch.from_numpy(clean[None]), torch.tensor([n]))["logits"][0].numpy()
        soft = SoftTargets(codec.encode(*top_k(outputs, k)), codec)
        noisy = clean + rng.standard_normal(clean.shape).astype(np.float32)
        utterances.append(Utterance(f"u{i}", noisy, None, {"soft": soft, "clean": clean}))
    batch = collate(utterances)
    output = student(batch.features, batch.lengths)
    found = {}
    for name, targets in (("stored", stored_targets), ("online", OnlineTargets(teacher, k))):
        student.zero_grad()
        loss = SoftCrossEntropy(targets, 2.0)(output, batch)
        loss.value.backward(retain_graph=True)
        found[name] = float(loss.value), [p.grad.clone() for p in student.parameters() if p.grad is not None]
    assert found["online"][0] == pytest.approx(found["stored"][0], rel=2e-3)
    assert found["online"][1]
    for online, stored in zip(found["online"][1], found["stored"][1], strict=True):
        torch.testing.assert_close(online, stored, rtol=0.02, atol=0.02)
    # The same k, in the same order: of storing only the rounding is seen.
    ids = [targets(batch)[0] for targets in (stored_targets, OnlineTargets(teacher, k))]
    best = [part.gather(1, values.argmax(1, keepdim=True)) for part, values in
            zip(ids, [targets(batch)[1] for targets in (stored_targets, OnlineTargets(teacher, k))])]  # fmt: skip
    assert torch.equal(*best) and torch.equal(*[part.sort(1).values for part in ids])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda u: u.extra.pop("soft"), DataError, "0 frames of soft targets for 3.*u0"),
        (lambda u: u.extra.update(soft=Exact(np.zeros((2, PDFS)), 3)), DataError, "2 frames of soft targets for 3"),
        (lambda u: u.extra.update(soft=Exact(np.arange(63.0).reshape(3, 21), 3)), ModelError, "senone 20"),
    ],
)
def test_targets_that_do_not_fit(change, error, said):
    batch, _ = batch_of([3], 3, np.random.default_rng(0))
    change(batch.utterances[0])
    with pytest.raises(error, match=said):
        SoftCrossEntropy()({"logits": torch.zeros(1, 3, PDFS)}, batch)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"temperature": 0.0}, "temperature is 0"), ({"temperature": np.inf}, "temperature"), ({"hard": 1.5}, "hard")],
)
def test_settings_out_of_range(values, said):
    with pytest.raises(ConfigError, match=said):
        SoftCrossEntropy(**values)


def test_hard_labels_without_pdfs():
    batch, _ = batch_of([3], 3, np.random.default_rng(0))
    with pytest.raises(DataError, match="hard labels"):
        SoftCrossEntropy(hard=0.5)({"logits": torch.zeros(1, 3, PDFS)}, batch)
