"""Language models and sentence scorers: padding and company change nothing, causal ones see only what is before."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hybrid.data.text_batches import padded
from hybrid.data.tokens import Tokens
from hybrid.errors import ConfigError, ModelError
from hybrid.io import read_json, write_json
from hybrid.nnet.text import LstmLm, LstmLmConfig, TextModel
from hybrid.nnet.text_io import build_text_model, load_text_model, save_text_model
from hybrid.nnet.transformer import SentenceScorer, TransformerConfig, TransformerLm, positions

NAMES = ["a", "b", "c", "d", "e"]
TOKENS = Tokens.of_words([NAMES])
NUM = len(TOKENS)
SMALL = {"num_tokens": NUM, "dim": 16, "layers": 2, "heads": 2}


def models() -> dict[str, TextModel]:
    return {
        "lstm": LstmLm(LstmLmConfig(NUM, hidden=12, layers=2), 1),
        "causal": TransformerLm(TransformerConfig(**SMALL, causal=True), 1),
        "masked": TransformerLm(TransformerConfig(**SMALL), 1),
        "scorer": SentenceScorer(TransformerConfig(**SMALL), 1),
    }


def rows(seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [TOKENS.encode(random.choice(NAMES, size)) for size in (1, 7, 3, 4)]


@pytest.mark.parametrize("name", list(models()))
def test_padding_and_company_change_nothing(name):
    model = models()[name].eval()
    together = next(iter(model(*padded(rows())).values()))
    for number, row in enumerate(rows()):
        alone = next(iter(model(*padded([row])).values()))[0]
        here = together[number] if name == "scorer" else together[number, : len(row)]
        assert torch.allclose(here, alone, atol=1e-5)


@pytest.mark.parametrize("name, before", [("lstm", True), ("causal", True), ("masked", False)])
def test_who_sees_what(name, before):
    """The gradient of the logits at place 3 by the embeddings that are read."""
    model = models()[name].eval()
    table = model.embedding if name == "lstm" else model.encoder.embedding
    read = []
    table.register_forward_hook(lambda module, given, output: read.append(output) or output.retain_grad())
    model(*padded([rows()[1]]))["logits"][0, 3].square().sum().backward()
    grad = read[0].grad.squeeze(1 if name == "lstm" else 0)
    seen = (grad.abs().sum(1) > 0).tolist()
    assert seen[:4] == [True] * 4
    assert all(seen[4:]) if not before else not any(seen[4:])


@pytest.mark.parametrize("name", list(models()))
def test_gradients_reach_all_parameters(name):
    model = models()[name]
    (output,) = model(*padded(rows())).values()
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, key


@pytest.mark.parametrize("layers", [1, 3])
def test_token_by_token_is_the_whole_row(layers):
    model = LstmLm(LstmLmConfig(NUM, hidden=12, layers=layers), 2).eval()
    tokens, lengths = padded(rows())
    whole = model(tokens, lengths)["logits"]
    state = model.initial_state(len(tokens))
    for place in range(tokens.shape[1]):
        logits, state = model.step(tokens[:, place], state)
        assert torch.allclose(logits, whole[:, place], atol=1e-6)
    assert state.shape == (4, layers, 2, 12)


def test_rows_of_a_state_go_their_own_ways():
    """A state is read again by two other rows, in another order."""
    model = LstmLm(LstmLmConfig(NUM, hidden=12, layers=2), 2).eval()
    _, state = model.step(torch.tensor([4, 5]), model.initial_state(2))
    logits, _ = model.step(torch.tensor([6, 7, 4]), state[[1, 0, 1]])
    wanted = model(torch.tensor([[5, 6], [4, 7], [5, 4]]), torch.tensor([2, 2, 2]))["logits"][:, 1]
    assert torch.allclose(logits, wanted, atol=1e-6)


def test_attention_by_hand():
    """One layer, written out with loops over heads and places."""
    config = TransformerConfig(NUM, dim=4, layers=1, heads=2, dropout=0.0)
    model = TransformerLm(config, 3).eval().double()
    layer, row = model.encoder.layers[0], rows()[2]
    x = model.encoder.embedding.weight[torch.from_numpy(row).long()] * 2 + positions(len(row), 4)
    normed = layer.attention_norm(x)
    heads = []
    for head in range(2):
        q, k, v = (layer.qkv(normed)[:, 4 * part + 2 * head : 4 * part + 2 * head + 2] for part in range(3))
        of_head = []
        for place in range(len(row)):
            weights = [math.exp(float(q[place] @ k[other]) / math.sqrt(2)) for other in range(len(row))]
            of_head.append(sum(w / sum(weights) * v[other] for other, w in enumerate(weights)))
        heads.append(torch.stack(of_head))
    x = x + layer.mix(torch.cat(heads, dim=1))
    x = x + layer.narrow(torch.nn.functional.gelu(layer.wide(layer.norm(x))))
    expected = model.transform(model.encoder.norm(x)) @ model.encoder.embedding.weight.t() + model.bias
    assert torch.allclose(model(*padded([row]))["logits"][0], expected, atol=1e-10)


def test_logits_at_one_place():
    model = models()["masked"].eval()
    tokens, lengths = padded(rows())
    at = torch.tensor([1, 6, 2, 0])
    whole = model(tokens, lengths)["logits"]
    assert torch.allclose(model(tokens, lengths, at)["logits"], whole[torch.arange(4), at], atol=1e-6)


def test_positions_are_vaswanis():
    table = positions(50, 8)
    assert table[3, 1] == pytest.approx(math.sin(3 / 10000 ** (2 / 8)), abs=1e-6)
    assert table[49, 4 + 2] == pytest.approx(math.cos(49 / 10000 ** (4 / 8)), abs=1e-5)


def test_a_seed_is_a_model_and_random_numbers_stay():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first, second = (build_text_model("transformer_lm", SMALL, seed) for seed in (1, 1))
    other = build_text_model("transformer_lm", SMALL, 2)
    assert torch.equal(torch.rand(3), wanted)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.encoder.embedding.weight, other.encoder.embedding.weight)


@pytest.mark.parametrize("name", list(models()))
def test_saved_and_loaded(tmp_path, name):
    model = models()[name].eval()
    save_text_model(tmp_path / "m", model, TOKENS, {"purpose": "x"})
    loaded, tokens, config = load_text_model(tmp_path / "m")
    assert tokens.names == TOKENS.names and config["purpose"] == "x"
    (before,), (after,) = model(*padded(rows())).values(), loaded(*padded(rows())).values()
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    "kind, changes, what",
    [
        ("transformer_lm", {"dim": 15}, "heads"),
        ("transformer_lm", {"layers": 0}, "layers"),
        ("transformer_lm", {"dropout": 1.0}, "dropout"),
        ("transformer_lm", {"depth": 3}, "unknown setting"),
        ("sentence_scorer", {"causal": True}, "causal"),
        ("gpt", {}, "unknown kind"),
        ("lstm_lm", {}, "unknown setting"),
    ],
)
def test_settings_that_are_refused(kind, changes, what):
    with pytest.raises(ConfigError, match=what):
        build_text_model(kind, {**SMALL, **changes})


@pytest.mark.parametrize(
    "change, what",
    [
        ({"format": 9}, "format"),
        ({"kind": "tdnnf"}, "unknown kind"),
        ({"model": {**SMALL, "num_tokens": 10**12}}, "no dimension"),
        ({"model": {**SMALL, "layers": 1}}, "unknown"),
    ],
)
def test_a_damaged_folder(tmp_path, change, what):
    save_text_model(tmp_path / "m", models()["masked"], TOKENS)
    write_json(tmp_path / "m" / "config.json", {**read_json(tmp_path / "m" / "config.json"), **change})
    with pytest.raises(ModelError, match=what):
        load_text_model(tmp_path / "m")


def test_tokens_of_another_model(tmp_path):
    save_text_model(tmp_path / "m", models()["masked"], TOKENS)
    Tokens.of_words([["x"]]).save(tmp_path / "m")
    with pytest.raises(ModelError, match="5 tokens, the model has 9"):
        load_text_model(tmp_path / "m")
