"""What clients may say to the server and what it answers, without a server."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.decode.result import Alternative, Result, Word
from hybrid.decode.segments import RULES, Endpointing, Rule
from hybrid.serve.answers import Answers, Text, combined, error_text
from hybrid.serve.protocol import MAX_TEXT, ClientError, StreamConfig, parse_text
from hybrid.serve.web import is_loopback, load_pages, refusal

RATE = 8000
PLAIN = StreamConfig(RATE)


def parsed(settings: object) -> StreamConfig:
    config = parse_text(json.dumps({"config": settings}), PLAIN, RATE)
    assert config is not None
    return config


# ------------------------------------------------------------------ what clients say


@pytest.mark.parametrize(
    "text, field, value",
    [
        ('{ "config" : { "sample_rate" : 16000.000000 } }', "rate", 16000),  # as Vosk's clients write it
        ('{"config": {"sample_rate": 44100}}', "rate", 44100),
        ('{"config": {"words": 0}}', "words", False),
        ('{"config": {"words": true}}', "words", True),
        ('{"config": {"max_alternatives": 20}}', "max_alternatives", 20),
        ('{"config": {"phrase_list": ["zero one", "[unk]", " ", "oh [unk]"]}}', "phrases", ("zero one", "oh  ")),
        ('{"config": {"format": "hybrid"}}', "hybrid", True),
        ('{"config": {"format": "vosk"}}', "hybrid", False),
        ('{"config": {}}', "rate", RATE),
        ('{"config": {"endpointing": {}}}', "endpointing", Endpointing()),
        ('{"config": {"endpointing": {"rules": []}}}', "endpointing", Endpointing(rules=())),
        ('{"config": {"endpointing": {"longest": 5, "pause": 0.3}}}', "endpointing", Endpointing(RULES, 5.0, 0.3)),
        (
            '{"config": {"endpointing": {"rules": [{"trailing_silence": 0.4, "relative_cost": 2},'
            ' {"needs_words": false, "utterance_length": 9}]}}}',
            "endpointing", Endpointing((Rule(True, 0.4, 2.0), Rule(False, 0.0, math.inf, 9.0))),
        ),
    ],
)  # fmt: skip
def test_settings_are_read(text: str, field: str, value: object) -> None:
    config = parse_text(text, PLAIN, RATE)
    assert config is not None and getattr(config, field) == value and not config.warnings


def test_settings_add_up_and_unknown_ones_are_told() -> None:
    first = parse_text('{"config": {"sample_rate": 16000, "model": "x"}}', PLAIN, RATE)
    assert first is not None
    second = parse_text('{"config": {"words": 0}}', first, RATE)
    assert second is not None and (second.rate, second.words) == (16000, False)
    assert len(second.warnings) == 1 and "'model'" in second.warnings[0]
    many = parsed({f"key{number}": 1 for number in range(1000)})
    assert len(many.warnings) == 20


@pytest.mark.parametrize("text", ['{"eof" : 1}', '{"eof": 1}', '{"eof": true}'])
def test_the_end(text: str) -> None:
    assert parse_text(text, PLAIN, RATE) is None


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"sample_rate": 0}, "sample_rate is 0.*4000 to 192000"),
        ({"sample_rate": "16000"}, 'sample_rate is "16000"'),
        ({"sample_rate": True}, "sample_rate is true"),
        ({"sample_rate": 16000.5}, "whole number"),
        ({"sample_rate": 10**400}, "sample_rate is 1000"),
        ({"sample_rate": None}, "sample_rate is null"),
        ({"sample_rate": 44101}, "44101 is not resampled to the model's 8000 Hz.*16000"),  # a filter of gigabytes
        ({"words": "yes"}, 'words is "yes"'),
        ({"words": [1]}, "words is"),
        ({"max_alternatives": -1}, "max_alternatives is -1.*0 to 100"),
        ({"max_alternatives": 10**6}, "max_alternatives is 1000000"),
        ({"max_alternatives": {}}, "max_alternatives is {}"),
        ({"phrase_list": "one"}, "phrase_list is .*list of texts"),
        ({"phrase_list": [1]}, "phrase_list is"),
        ({"format": "xml"}, 'format is "xml"'),
        ({"format": []}, "format is"),
        ({"endpointing": 1}, "endpointing is 1.*rules, longest, pause"),
        ({"endpointing": {"rule": []}}, 'endpointing has no "rule"'),
        ({"endpointing": {"rules": {}}}, r"endpointing.rules is \{\}"),
        ({"endpointing": {"rules": [{"trailing_silence": 1}] * 21}}, "at most 20 rules"),
        ({"endpointing": {"rules": [{}]}}, r"rules\[0\] ends everything at once"),
        ({"endpointing": {"rules": [{"trailing_silence": -1}]}}, r"rules\[0\].trailing_silence is -1"),
        ({"endpointing": {"rules": [{"trailing_silence": 1, "silence": 1}]}}, r'rules\[0\] has no "silence"'),
        ({"endpointing": {"rules": [3]}}, r"rules\[0\] is 3"),
        ({"endpointing": {"longest": 0}}, "longest is 0"),
        ({"endpointing": {"longest": 1e9}}, "longest is 1000000000"),
        ({"endpointing": {"pause": 0}}, "pause is 0"),
    ],
)
def test_settings_that_cannot_be(settings: object, words: str) -> None:
    with pytest.raises(ClientError, match=words) as error:
        parsed(settings)
    assert error.value.code == 1008 and error.value.remedy


@pytest.mark.parametrize(
    "text, code",
    [
        ("", 1007),
        ("hello", 1007),
        ("[]", 1007),
        ("1", 1007),
        ('{"config": [1]}', 1007),
        ('{"eof": 0}', 1007),
        ('{"eof": [1]}', 1007),
        ('{"config": {"sample_rate": NaN}}', 1007),
        ('{"config": {"sample_rate": Infinity}}', 1007),
        ('{"config": ' + "[" * 30000, 1007),
        ('{"config": ' + "[" * 30000 + "]" * 30000 + "}", 1007),
        ('{"config": {"sample_rate": ' + "9" * 5000 + "}}", None),  # an error of either kind, by the version of Python
        ('{"config": {"x": "' + "a" * MAX_TEXT + '"}}', 1009),
    ],
)
def test_texts_that_cannot_be(text: str, code: int) -> None:
    with pytest.raises(ClientError) as error:
        parse_text(text, PLAIN, RATE)
    assert code is None or error.value.code == code
    assert len(str(error.value)) < 400


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["sample_rate", "words", "max_alternatives", "phrase_list", "format", "endpointing", "rules",
                         "longest", "pause", "trailing_silence", "needs_words", "relative_cost", "other"]),
        inner, max_size=4),
))  # fmt: skip
def test_whatever_comes_is_a_configuration_or_an_error(settings: object) -> None:
    text = json.dumps({"config": settings})
    try:
        config = parse_text(text, PLAIN, RATE)
    except ClientError:
        return
    assert config is not None and 4000 <= config.rate <= 192000 and 0 <= config.max_alternatives <= 100


# ------------------------------------------------------------------ what it answers


class Known(Result):
    """A result whose alternatives are given."""

    def nbest(self, number: int = 10) -> list:
        probabilities = self.lattice or []
        rows = [Alternative(tuple(map(Word, text.split())), -math.log(p)) for text, p in probabilities]
        return rows[:number]


ONE = Known((Word("a", 0.1, 0.2, 0.9), Word("b", 0.2, 0.35)), 1.0, lattice=[("a b", 0.6), ("a c", 0.3), ("d", 0.1)])
TWO = Known((Word("e"),), 0.5, start=2.0, lattice=[("e", 0.75), ("f", 0.25)])
NONE = Known((), 0.5, start=3.0)
OPEN = Result((Word("g"), Word("h")), 1.0, False, 3.0, final=False, agreed=1)


def answers(of: str, over: list, **settings: object) -> list:
    writer = Answers(StreamConfig(RATE, **settings))
    texts = writer.of_end(over) if of == "end" else writer.of_chunk(over, OPEN)
    return [json.loads(text) for text in texts]


def test_answers_as_vosk_gives_them() -> None:
    words = [
        {"conf": 0.9, "start": 0.1, "end": 0.2, "word": "a"}, {"conf": None, "start": 0.2, "end": 0.35, "word": "b"},
    ]  # fmt: skip
    last = {"conf": None, "start": 2.0, "end": 2.5, "word": "e"}  # without times of its own: its utterance's
    assert answers("chunk", []) == [{"partial": "g h"}]
    assert answers("chunk", [ONE]) == [{"text": "a b", "result": words}]
    assert answers("chunk", [ONE, TWO]) == [{"text": "a b e", "result": [*words, last]}]
    assert answers("chunk", [ONE], words=False) == [{"text": "a b"}]
    assert answers("end", [NONE]) == [{"text": ""}]  # no "result": Vosk's own client takes its first word
    assert answers("end", [ONE, NONE]) == [{"text": "a b", "result": words}]


def test_alternatives_as_vosk_gives_them() -> None:
    assert answers("chunk", [ONE], max_alternatives=2, words=False) == [
        {"alternatives": [{"text": "a b", "confidence": 0.6}, {"text": "a c", "confidence": 0.3}]}
    ]
    (found,) = answers("chunk", [ONE, TWO], max_alternatives=3)
    assert [one["text"] for one in found["alternatives"]] == ["a b e", "a c e", "a b f"]
    assert [one["confidence"] for one in found["alternatives"]] == pytest.approx([0.45, 0.225, 0.15])
    assert [word["word"] for word in found["alternatives"][0]["result"]] == ["a", "b", "e"]
    assert answers("end", [NONE], max_alternatives=3) == [{"alternatives": [{"text": "", "confidence": 1.0}]}]
    cut = Known(ONE.words, 1.0)  # joined of parts: no lattice tells what else it could be
    (found,) = answers("end", [cut], max_alternatives=3, words=False)
    assert found == {"alternatives": [{"text": "a b", "confidence": None}]}


@given(st.lists(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4), max_size=3))
def test_combined_alternatives_are_all_products(parts: list) -> None:
    named = [[Text(f"{k}{n}", p) for n, p in enumerate(sorted(part, reverse=True))] for k, part in enumerate(parts)]
    found = combined(named)
    products = [1.0]
    for part in parts:
        products = [before * p for before in products for p in part]
    assert [one.confidence for one in found] == pytest.approx(sorted(products, reverse=True)[: len(found)])
    assert len(found) == min(len(products), 20) and len({one.text for one in found}) == len(found)


def test_answers_in_the_projects_form() -> None:
    found = answers("chunk", [ONE, TWO], hybrid=True, max_alternatives=2)
    assert found == [ONE.to_dict(2), TWO.to_dict(2), OPEN.to_dict()]
    assert [one["final"] for one in found] == [True, True, False] and found[-1]["agreed"] == 1
    assert answers("end", [NONE], hybrid=True) == [NONE.to_dict(1)]


def test_warnings_come_once() -> None:
    writer = Answers(StreamConfig(RATE, warnings=("one",)))
    writer.warn("two")
    assert json.loads(writer.of_chunk([], OPEN)[0]) == {"partial": "g h", "warnings": ["one", "two"]}
    assert json.loads(writer.of_chunk([], OPEN)[0]) == {"partial": "g h"}
    assert json.loads(error_text("bad", "do it")) == {"error": "bad", "remedy": "do it"}
    assert json.loads(error_text("bad", None)) == {"error": "bad"}


# ------------------------------------------------------------------ who may connect, what is served


@pytest.mark.parametrize(
    "origin, host, origins, loopback, allowed",
    [
        (None, "127.0.0.1:2700", (), True, True),  # no browser
        ("http://127.0.0.1:2700", "127.0.0.1:2700", (), True, True),
        ("http://localhost:2700", "localhost:2700", (), True, True),
        ("http://[::1]:2700", "[::1]:2700", (), True, True),
        ("http://evil.example", "127.0.0.1:2700", (), True, False),
        ("http://localhost:80", "localhost:2700", (), True, False),
        ("http://evil.example:2700", "evil.example:2700", (), True, False),  # a name that leads to 127.0.0.1
        ("http://asr.example:2700", "asr.example:2700", (), False, True),
        ("https://asr.example", "asr.example", (), False, True),
        ("http://evil.example", "asr.example", (), False, False),
        ("null", "127.0.0.1:2700", (), True, False),
        ("null", "127.0.0.1:2700", ("null",), True, True),
        ("https://app.example", "127.0.0.1:2700", ("https://app.example",), True, True),
        ("https://app.example.evil", "127.0.0.1:2700", ("https://app.example",), True, False),
        ("https://any.example", "127.0.0.1:2700", ("*",), True, True),
        ("http://[", "[", (), True, False),
        ("http://None", None, (), False, False),
    ],
)
def test_who_may_connect(origin, host, origins, loopback: bool, allowed: bool) -> None:
    assert (refusal(origin, host, origins, loopback) is None) == allowed


def test_addresses_of_this_machine() -> None:
    own = ("localhost", "127.0.0.1", "127.8.9.1", "::1")
    assert all(map(is_loopback, own))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "", None, "127.0.0.1.evil.example")))


def test_the_page_needs_no_other_host() -> None:
    pages = load_pages()
    assert {"/", "/page.js", "/page.css", "/recorder.js"} == pages.keys()
    for page in pages.values():
        text = page.body.decode()
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        for scheme in ("https://", "http://", "//cdn"):
            assert scheme not in text.replace("http://www.w3.org/2000/svg", ""), "another host"
