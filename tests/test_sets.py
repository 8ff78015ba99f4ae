"""Features as the networks take them."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid.data.transforms import network_input
from hybrid.errors import ConfigError

RNG = np.random.default_rng(0)
FEATURES = {f"u{k}": (RNG.normal(k, k + 1, size=(30 + 3 * k, 4))).astype(np.float32) for k in range(4)}
SPEAKERS = {"u0": "a", "u1": "a", "u2": "b", "u3": "b"}


def _fine(found, names):
    """Utterances whose length is a multiple of three, unstacked and joined."""
    return np.concatenate([found[name].reshape(-1, 4) for name in names])


@pytest.mark.parametrize("whose, groups", [("speaker", ["u0 u1", "u2 u3"]), ("utterance", ["u0", "u1", "u2", "u3"])])
@pytest.mark.parametrize("variance", [False, True])
def test_each_group_has_mean_zero_and_perhaps_variance_one(whose, groups, variance):
    found = network_input(FEATURES, SPEAKERS, whose + ("+variance" if variance else ""))
    assert {name: x.shape for name, x in found.items()} == {name: (len(x) // 3, 12) for name, x in FEATURES.items()}
    assert all(x.dtype == np.float32 for x in found.values())
    for group in groups:
        x = _fine(found, group.split())
        assert x.mean(0) == pytest.approx(np.zeros(4), abs=1e-5)
        assert np.allclose(x.std(0), 1, atol=1e-4) == variance


def test_none_only_stacks():
    found = network_input(FEATURES, SPEAKERS, "none")
    assert all(np.array_equal(found[name].reshape(-1, 4), x) for name, x in FEATURES.items())


@pytest.mark.parametrize("name", ["", "speakers", "speaker+", "speaker+mean", "none+variance", "+variance"])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigError, match="cmvn is .*speaker.variance"):
        network_input(FEATURES, SPEAKERS, name)
