"""Gradient threshold compression: the message, what is kept and what is sent, the hook of torch's DDP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dist_tools import everywhere
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.parallel import DistributedDataParallel

from hybrid.errors import ConfigError, ModelError
from hybrid.train.collectives import gather_bytes
from hybrid.train.gtc import HEAD, Gtc, decode, encode, gtc_hook, skip

SIZE = 200_000


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([SIZE, 2000]).flatmap(
        lambda size: st.lists(
            st.tuples(st.integers(0, size - 1), st.booleans()), unique_by=lambda item: item[0], max_size=40
        )
    ),
    st.floats(0.125, 1024, width=32),
)
def test_a_message_comes_out_as_it_went_in(items, tau):
    items.sort()
    places = torch.tensor([place for place, _ in items], dtype=torch.int64)
    negative = torch.tensor([sign for _, sign in items], dtype=torch.bool)
    message = encode(places, negative, tau)
    where, values = decode(message, SIZE)
    assert where.equal(places)
    assert values.tolist() == [-tau if sign else tau for _, sign in items]
    gaps = np.diff([-1] + [place for place, _ in items]) - 1
    lengths = [bits // 8 * (len(items) + int((gaps // skip(bits)).sum())) for bits in (16, 8)]
    assert message.numel() == HEAD + min(lengths)


@pytest.mark.parametrize("bits", [8, 16])
def test_long_ways_between_elements(bits):
    few = skip(bits)
    for places in ([0], [few - 1], [few], [few + 1], [2 * few], [0, few], [0, few + 1], [5, 6, 3 * few + 7], []):
        if bits == 8:
            # So many neighbours that long ways in short words cost less than long words.
            places = [*range(200), *(200 + place for place in places)]
        message = encode(torch.tensor(places, dtype=torch.int64), torch.ones(len(places)) > 0, 0.5)
        assert int(message[4]) == (bits if max(places, default=999) > 300 else 8)
        where, values = decode(message, SIZE)
        assert where.tolist() == places and values.tolist() == [-0.5] * len(places)


def test_a_message_for_a_larger_model_is_refused():
    with pytest.raises(ModelError, match="element 99 of 50"):
        decode(encode(torch.tensor([99]), torch.tensor([False]), 1.0), 50)


@pytest.mark.parametrize(
    "settings, says",
    [({"threshold": -1.0}, "threshold"), ({"density": 1.5}, "density"), ({"threshold": float("nan")}, "threshold"),
     ({"threshold": 0.1, "density": 0.1}, "both")],
)  # fmt: skip
def test_bad_settings(settings, says):
    with pytest.raises(ConfigError, match=says):
        Gtc(**settings)


def slow(gradients, tau):
    """gradients[t][i]: of step t, worker i. Element by element as the formulas stand: sums of each step, residuals."""
    workers, size = len(gradients[0]), len(gradients[0][0])
    residuals = [[0.0] * size for _ in range(workers)]
    sums = []
    for step in gradients:
        total = [0.0] * size
        for i, gradient in enumerate(step):
            for j, g in enumerate(gradient):
                residuals[i][j] += float(g)
                if abs(residuals[i][j]) >= tau:
                    sent = tau if residuals[i][j] > 0 else -tau
                    total[j] += sent
                    residuals[i][j] -= sent
        sums.append(total)
    return sums, residuals


def gradients_of(step, rank, size=600):
    # Eighths: what float32 adds without rounding.
    rng = np.random.default_rng([step, rank])
    return torch.from_numpy(np.round(rng.standard_normal(size) * 4) / 8).float()


def exchanged(rank, steps, options):
    gtc = Gtc(**options)
    p = torch.nn.Parameter(torch.zeros(600))
    sums = [gtc.reduce(gradients_of(step, rank), [p]) for step in range(steps)]
    return sums, gtc._residuals[id(p)] if gtc._residuals else None, gtc.sent, gtc.elements


def test_sums_and_residuals_are_those_of_the_formulas_and_nothing_is_lost():
    steps, workers = 6, 3
    found = everywhere(exchanged, workers, steps, {"threshold": 0.75})
    every = [[gradients_of(step, rank).tolist() for rank in range(workers)] for step in range(steps)]
    sums, residuals = slow(every, 0.75)
    for rank, (its, residual, sent, elements) in enumerate(found):
        assert torch.stack(its).tolist() == sums
        assert residual.tolist() == residuals[rank]
        assert sent == HEAD * steps + elements  # words of 8 bits, for one in a few of 600 is sent
    # What has been sent and what is left are all gradients there were.
    left = sum(residual for _, residual, *_ in found)
    assert (sum(found[0][0]) + left).equal(torch.tensor(every).sum((0, 1)))


def flushed(rank, options):
    gtc, parameters = Gtc(**options), [torch.nn.Parameter(torch.zeros(n)) for n in (400, 150, 50)]
    gradient = gradients_of(0, rank)
    gradient[400:550] *= 1e-6  # of another size
    gradient[550:] = 0
    change = gtc.reduce(gradient, parameters)
    before = gtc.unsent(parameters).clone()
    sent, total = gtc.sent, gtc.flush(parameters)
    return gradient, change, before, total, gtc.unsent(parameters).clone(), gtc.sent - sent


@pytest.mark.parametrize("options", [{"threshold": 100.0}, {"density": 0.05}, {}])
def test_a_flush_sends_all_but_a_rounding_and_loses_nothing(options):
    found = everywhere(flushed, 3, options)
    gradients, before, left = (sum(row[k].double() for row in found) for k in (0, 2, 4))
    for _, change, its, total, rest, sent in found:
        assert torch.equal(total, found[0][3])  # on all workers
        assert torch.allclose(change.double() + total.double() + left, gradients, atol=1e-6, rtol=0)
        assert sent == (600 + 4 * 3 if options else 0)
        for part in (slice(0, 400), slice(400, 550), slice(550, 600)):
            assert rest[part].abs().max() <= its[part].abs().max() / 254 * 1.001
    assert not options or (before != 0).any()


def test_threshold_0_is_a_dense_sum():
    found = everywhere(exchanged, 2, 2, {})
    assert len(found) == 2
    for its, residual, sent, _ in found:
        assert its[1].equal(gradients_of(1, 0) + gradients_of(1, 1)) and residual is None and sent == 2 * 4 * 600


def test_a_density_sends_about_so_many():
    (its, _, _, elements), _ = everywhere(exchanged, 2, 5, {"density": 0.05})
    # Ties of eighths at the quantile come along.
    assert 5 * 600 * 0.05 <= elements <= 5 * 600 * 0.3
    assert all(0 < int((total != 0).sum()) for total in its)


def not_finite(rank):
    gtc, p = Gtc(threshold=0.5), torch.nn.Parameter(torch.zeros(4))
    gradient = torch.tensor([1.0, 0.0, 0.0, float("inf") if rank == 1 else 0.0])
    first = gtc.reduce(gradient, [p])
    second = gtc.reduce(torch.zeros(4), [p])
    return first, second


def test_a_gradient_that_is_not_finite_is_known_to_all_and_kept_by_none():
    found = everywhere(not_finite, 2)
    assert len(found) == 2
    for first, second in found:
        assert first.isnan().all()
        assert second.tolist() == [0.5, 0.0, 0.0, 0.0]  # the rest of rank 0's 1.0


def lengths(rank):
    return [one.tolist() for one in gather_bytes(torch.full((3 * rank,), rank, dtype=torch.uint8))]


def test_messages_of_different_lengths():
    assert everywhere(lengths, 3) == [[[], [1] * 3, [2] * 6]] * 3


def in_ddp(rank, threshold, steps):
    """A small net in DDP with the hook, and the same gradients by autograd alone, put together by the formulas."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2))
    # Buckets of a few parameters each, which DDP makes anew after the first step.
    wrapped = DistributedDataParallel(net, bucket_cap_mb=1e-4)
    gtc = Gtc(threshold, scale=0.5)
    wrapped.register_comm_hook(gtc, gtc_hook)
    hooked, plain = [], []
    for step in range(steps):
        for each in range(2):
            rng = torch.Generator().manual_seed(10 * step + each)
            x = torch.randn(3, 5, generator=rng)
            loss = net(x).square().sum()
            part = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
            plain.append(0.5 * part)
            if each == rank:
                net.zero_grad()
                wrapped(x).square().sum().backward()
        hooked.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    kept = gtc.state(net)
    again = Gtc(threshold)
    again.load(net, kept)
    same = all(again.state(net)[name].equal(kept[name]) for name in kept)
    return torch.stack(hooked), torch.stack(plain).view(steps, 2, -1), kept, same


@pytest.mark.parametrize("threshold", [0.0, 0.2])
def test_the_hook_of_ddp(threshold):
    found = everywhere(in_ddp, 2, threshold, 4)
    assert found[0][0].equal(found[1][0])
    hooked, plain = found[0][:2]
    if not threshold:
        torch.testing.assert_close(hooked, plain.sum(1))
        return
    sums, _ = slow(plain.double().tolist(), threshold)
    differ = (hooked - torch.tensor(sums)).abs() > 1e-5
    assert differ.float().mean() < 0.01  # a residual within rounding of tau goes either way
    assert set(found[0][2]) == {"0.weight", "0.bias", "2.weight", "2.bias"} and found[0][3]


def test_residuals_of_another_model_are_refused():
    with pytest.raises(ModelError, match="residual"):
        Gtc(threshold=1.0).load(torch.nn.Linear(2, 2), {"weight": torch.zeros(9)})
