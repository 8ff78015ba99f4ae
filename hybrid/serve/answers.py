"""What the server answers: Vosk's messages, or results in the project's one form.

Vosk's clients wait for one message after each that they send, whatever it held: so where several utterances are over at
once they are told as one text, as Vosk does, whose recogniser looks for an end once a message.

    {"partial": "so far"}
    {"text": "it is over", "result": [{"conf", "start", "end", "word"}, ...]}
    {"alternatives": [{"text", "confidence", "result"}, ...]}       where the client asked for alternatives

In the project's own form every utterance that is over is a message ("final": true), and then comes what has been said
since ("final": false), once for each message of samples.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from hybrid.decode.result import Result
from hybrid.serve.protocol import StreamConfig

_BREADTH = 20  # alternatives that share a probability of 1, where fewer are told


class Text(NamedTuple):
    """An alternative. confidence: its probability among the most probable texts; None where nothing is known of it."""

    text: str
    confidence: Optional[float]


class Answers:
    """Writes the messages of one stream."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self._warnings = list(config.warnings)

    def warn(self, warning: str) -> None:
        """Tell this with the next answer."""
        self._warnings.append(warning)

    def of_chunk(self, over: Sequence[Result], partial: Result) -> List[str]:
        """Return the answer to samples: the utterances that are over, and what has been said since."""
        if self._config.hybrid:
            return self._written([*map(self._own, over), partial.to_dict()])
        return self._written([self._vosk(over) if over else {"partial": partial.text}])

    def of_end(self, over: Sequence[Result]) -> List[str]:
        """Return the answer to the end of the stream: what of it has not been told."""
        if self._config.hybrid:
            return self._written([self._own(result) for result in over])
        return self._written([self._vosk(over)])

    def _own(self, result: Result) -> Dict[str, Any]:
        return result.to_dict(nbest=max(self._config.max_alternatives, 1))

    def _vosk(self, results: Sequence[Result]) -> Dict[str, Any]:
        words = [_word(word, result) for result in results for word in result.words] if self._config.words else []
        told = {"result": words} if words else {}
        if not self._config.max_alternatives:
            return {**told, "text": " ".join(result.text for result in results if result.words)}
        texts = combined([_texts(result, self._config.max_alternatives) for result in results if result.words])
        rows: List[Dict[str, Any]] = [
            {"text": text, "confidence": confidence and round(confidence, 6)}
            for text, confidence in texts[: self._config.max_alternatives]
        ]
        rows[0].update(told)
        return {"alternatives": rows}

    def _written(self, messages: List[Dict[str, Any]]) -> List[str]:
        if self._warnings:
            messages[0] = {**messages[0], "warnings": self._warnings}
            self._warnings = []
        return [json.dumps(message, ensure_ascii=False) for message in messages]


def error_text(what: str, remedy: Optional[str]) -> str:
    """Return the message that tells an error, before a connection is closed for it."""
    more = {"remedy": remedy} if remedy else {}
    return json.dumps({"error": what, **more}, ensure_ascii=False)


def _word(word: Any, result: Result) -> Dict[str, Any]:
    """Vosk's clients compute with times: where a word has none, its utterance's."""
    start = result.start if word.start is None else word.start
    end = result.start + result.seconds if word.end is None else word.end
    return {"conf": word.conf, "start": round(start, 3), "end": round(end, 3), "word": word.word}


def _texts(result: Result, number: int) -> List[Text]:
    """The alternatives of one utterance, the best first."""
    alternatives = result.nbest(max(number, _BREADTH))
    if not alternatives:
        return [Text(result.text, None)]
    shares = [math.exp(alternatives[0].cost - other.cost) for other in alternatives]
    return [Text(other.text, share / sum(shares)) for other, share in zip(alternatives, shares)]


def combined(parts: Sequence[Sequence[Text]]) -> List[Text]:
    """Return the alternatives of utterances one after the other, the most probable first."""
    texts = [Text("", 1.0)]
    for part in parts:
        pairs = [(before, other) for before in texts for other in part]
        texts = [
            Text(
                f"{before.text} {other.text}".strip(),
                None if before.confidence is None or other.confidence is None else before.confidence * other.confidence,
            )
            for before, other in pairs
        ]
        texts.sort(key=lambda one: -1.0 if one.confidence is None else -one.confidence)
        texts = texts[: max(len(part), _BREADTH)]
    return texts
