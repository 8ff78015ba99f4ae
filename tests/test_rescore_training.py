"""Training of language models and sentence scorers: what is learnt, exact resume, what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PROJECT

from hybrid.data.tokens import Tokens
from hybrid.errors import ConfigError, DataError
from hybrid.nnet.text_io import load_text_model
from hybrid.rescore.nbest import NbestList
from hybrid.rescore.neural import NeuralScorer, perplexity
from hybrid.rescore.training import TextTraining, prepared, train_lm, train_scorer
from hybrid.train.rescoring import RescoringLoss
from hybrid.train.schedule import ScheduleConfig

TRAINING = TextTraining(max_tokens=300).changed(epochs=12, lr=1e-2, schedule=ScheduleConfig(warmup=10))
SMALL = {"dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


def chain(count: int, seed: int) -> list[list[str]]:
    """Sentences of a cycle a -> b -> c -> d -> a that begins anywhere: the next word follows from the one before."""
    random = np.random.default_rng(seed)
    return [["abcd"[(start + i) % 4] for i in range(4 + start)] for start in random.integers(0, 4, count)]


TOKENS = Tokens.of_words(chain(20, 0))


def lists(count: int, seed: int) -> list[NbestList]:
    """The first pass prefers a sentence with a word of the cycle out of its place."""
    found = []
    for number, words in enumerate(chain(count, seed)):
        wrong = [*words[:2], words[1], *words[3:]]
        scores = np.array([-1.0, -1.5])
        found.append(NbestList(f"u{number}", (tuple(wrong), tuple(words)), scores, tuple(words), f"s{number % 5}"))
    return found


@pytest.mark.parametrize(
    "kind, settings",
    [("lstm_lm", {"hidden": 24, "dropout": 0.0}), ("transformer_lm", {**SMALL, "causal": True})],
)
def test_a_language_model_learns_what_follows(tmp_path, kind, settings):
    scorer = train_lm(kind, settings, TOKENS, chain(150, 1), chain(20, 2), tmp_path, TRAINING, log=lambda _: None)
    # Its first word is one of four, its length one of four: the rest follows.
    assert perplexity(scorer, chain(30, 3))[0] < 1.9
    again = NeuralScorer.load(str(tmp_path / "model"))
    assert (again.score(chain(5, 4)) == scorer.score(chain(5, 4))).all()


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> NeuralScorer:
    folder = tmp_path_factory.mktemp("masked")
    return train_lm(
        "transformer_lm", SMALL, TOKENS, chain(200, 1), chain(20, 2), folder, TRAINING.changed(epochs=20),
        log=lambda _: None,
    )  # fmt: skip


def test_a_masked_model_knows_what_is_hidden(masked):
    good, bad = masked.score([list("abcdab"), list("abbdab")])
    assert good > bad + 1


def chosen(scorer: NeuralScorer, items: list[NbestList]) -> float:
    """The share of lists whose second, right hypothesis has the higher sum."""
    return float(np.mean([np.argmax(item.scores + scorer.score(item.hypotheses)) == 1 for item in items]))


@pytest.mark.parametrize("loss", [RescoringLoss("", 1.0), RescoringLoss("mwer", 1e-4), RescoringLoss("mwed", 1e-4)])
def test_a_scorer_learns_to_choose(tmp_path, masked, loss):
    train, dev = prepared(lists(120, 5), TOKENS, masked), prepared(lists(20, 6), TOKENS, masked)
    scorer = train_scorer(
        masked.model, TOKENS, train, dev, tmp_path, loss, TRAINING.changed(epochs=15), log=lambda _: None
    )
    # The first pass is right nowhere.
    assert chosen(scorer, lists(40, 7)) > (0.9 if loss.discriminative else 0.75)
    if not loss.discriminative:
        wanted = masked.score([words for item in lists(10, 7) for words in item.hypotheses])
        found = scorer.score([words for item in lists(10, 7) for words in item.hypotheses])
        assert np.corrcoef(wanted, found)[0, 1] > 0.8


def test_what_a_scorer_trains_on(masked):
    (item,) = lists(1, 5)
    found = prepared([item], TOKENS, masked).list(0)
    assert found.errors.tolist() == [1.0, 0.0] and found.first.tolist() == [-1.0, -1.5]
    assert found.targets == pytest.approx(masked.score(item.hypotheses), abs=1e-5)
    assert np.isnan(prepared([item], TOKENS).list(0).targets).all()


def test_a_list_without_a_reference():
    item = NbestList("u", (("a",),), np.zeros(1), None, "s")
    with pytest.raises(DataError, match="without a reference") as caught:
        prepared([item], TOKENS)
    assert caught.value.utterance == "u"


def test_a_model_of_other_settings_to_begin_with(tmp_path, masked):
    with pytest.raises(ConfigError, match="other settings"):
        train_lm(
            "transformer_lm", {**SMALL, "layers": 2}, TOKENS, chain(9, 1), chain(9, 2), tmp_path, TRAINING,
            init=masked.model,
        )  # fmt: skip


def test_adapting_goes_on_from_a_model(tmp_path, masked):
    begun = train_lm(
        "transformer_lm", SMALL, TOKENS, chain(100, 1), chain(20, 2), tmp_path, TRAINING.changed(epochs=1, lr=1e-6),
        init=masked.model, log=lambda _: None,
    )  # fmt: skip
    assert perplexity(begun, chain(30, 3))[0] == pytest.approx(perplexity(masked, chain(30, 3))[0], rel=0.01)


def parameters(folder: Path) -> list[torch.Tensor]:
    return list(load_text_model(folder / "model")[0].state_dict().values())


def test_killed_and_begun_again_is_the_same_model(tmp_path):
    command = [sys.executable, __file__]
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'tests'}", "OMP_NUM_THREADS": "1"}
    for folder, kills in ((tmp_path / "whole", []), (tmp_path / "killed", ["8"])):
        for update in [*kills, "0"]:
            done = subprocess.run([*command, str(folder), update], env=environment, capture_output=True, text=True)
            assert done.returncode == (-signal.SIGKILL if int(update) else 0), done.stderr
    pairs = list(zip(parameters(tmp_path / "whole"), parameters(tmp_path / "killed"), strict=True))
    same = [torch.equal(a, b) for a, b in pairs]
    assert same and all(same)


def _train_until(folder: Path, kill: int) -> None:
    import hybrid.rescore.training as training

    class Killed(training.Trainer):
        def fit(self):
            def stop(trainer):
                if trainer.state.update == kill:
                    os.kill(os.getpid(), signal.SIGKILL)

            self.on_update = stop
            return super().fit()

    training.Trainer = Killed  # type: ignore[misc]
    torch.set_num_threads(1)
    settings = replace(TRAINING, max_tokens=100).changed(epochs=3, checkpoint_updates=3)
    train_lm("transformer_lm", {**SMALL, "dropout": 0.2}, TOKENS, chain(60, 1), chain(9, 2), folder, settings)


if __name__ == "__main__":
    _train_until(Path(sys.argv[1]), int(sys.argv[2]))
