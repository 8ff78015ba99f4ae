"""What clients say: the messages of Vosk's server (alphacep/vosk-server, websocket/asr_server.py), and a few more.

    {"config": {"sample_rate": 8000, "words": 1, "max_alternatives": 3, "phrase_list": ["..."],
                "format": "hybrid", "endpointing": {"rules": [...], "longest": 20, "pause": 0.2}}}
    bytes: 16-bit little-endian samples of one channel
    {"eof": 1}

All of `config` may be left out, and it may come in several messages before the first samples. What it says that the
server does not know is passed over, as Vosk does, but the next answer names it in "warnings".
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from hybrid.decode.segments import Endpointing, Rule
from hybrid.errors import ConfigError, HybridError

# Close codes of RFC 6455, 7.4.1, and of its registry (1013).
NORMAL, GOING_AWAY, INVALID, POLICY, TOO_BIG, INTERNAL, TRY_LATER = 1000, 1001, 1007, 1008, 1009, 1011, 1013

MAX_TEXT = 65536  # characters of a text message
MAX_ALTERNATIVES = 100
MAX_RULES = 20
LONGEST = 60.0  # seconds: of an uncut stretch, which is kept in memory
_RATES = (4000, 192000)
_RATIO = 1000  # a filter has so many phases at most


class ClientError(HybridError):
    """What a client has done wrong, or too much of. code: that its connection is closed with."""

    def __init__(self, what: str, *, remedy: Optional[str] = None, code: int = POLICY) -> None:
        super().__init__(what, remedy=remedy)
        self.code = code


@dataclass(frozen=True)
class StreamConfig:
    """What a client wants of its stream. rate: of its samples, Hz; words: whether Vosk's answers tell each word's time;
    max_alternatives: 0 for none; hybrid: whether answers are results as `Result.to_dict` writes them, and not Vosk's;
    phrases: what is likely to be said; endpointing: None for the recogniser's; warnings: what was passed over."""

    rate: int
    words: bool = True
    max_alternatives: int = 0
    hybrid: bool = False
    phrases: Tuple[str, ...] = ()
    endpointing: Optional[Endpointing] = None
    warnings: Tuple[str, ...] = ()


def parse_text(text: str, config: StreamConfig, model_rate: int) -> Optional[StreamConfig]:
    """Return the configuration with what a text message changes in it; None where it says that no sample will come.

    Raises ClientError for what is no such message, naming the setting.
    """
    if len(text) > MAX_TEXT:
        what = f"a text message of {len(text)} characters; {MAX_TEXT} are the most"
        raise ClientError(what, remedy="send samples as a binary message", code=TOO_BIG)
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ClientError("a text message that is no JSON", remedy=_MESSAGES, code=INVALID) from None
    if isinstance(message, dict) and isinstance(message.get("config"), dict):
        return _changed(config, message["config"], model_rate)
    if isinstance(message, dict) and message.get("eof") in (1, True):
        return None
    raise ClientError("a text message of another kind", remedy=_MESSAGES, code=INVALID)


_MESSAGES = 'send {"config": {...}}, samples as binary messages, then {"eof": 1}'


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _changed(config: StreamConfig, settings: Mapping[str, Any], model_rate: int) -> StreamConfig:
    changes: Dict[str, Any] = {}
    warnings: List[str] = []
    for name, value in settings.items():
        if name == "sample_rate":
            changes["rate"] = _rate(value, model_rate)
        elif name in _SETTINGS:
            field, read = _SETTINGS[name]
            changes[field] = read(value, name)
        else:
            warnings.append(f"config: {name[:40]!r} is not known here and was passed over")
    return replace(config, **changes, warnings=(*config.warnings, *warnings)[:20])


def _rate(value: Any, model_rate: int) -> int:
    rate = _whole(value, "sample_rate", *_RATES)
    common = math.gcd(rate, model_rate)
    if max(rate, model_rate) // common > _RATIO:
        raise ClientError(
            f"sample_rate {rate} is not resampled to the model's {model_rate} Hz",
            remedy="send 8000, 16000, 22050, 44100 or 48000 Hz",
        )
    return rate


def _whole(value: Any, name: str, low: int, high: int) -> int:
    number = _number(value, name, low, high)
    if number != int(number):
        raise ClientError(f"{name} is {number}", remedy=f"give a whole number from {low} to {high}")
    return int(number)


def _number(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ClientError(f"{name} is {_shown(value)}", remedy=f"give a number from {low:g} to {high:g}")
    return float(value)


def _flag(value: Any, name: str) -> bool:
    if value not in (0, 1, True, False):
        raise ClientError(f"{name} is {_shown(value)}", remedy="give 0 or 1")
    return bool(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:40] + "..."


def _alternatives(value: Any, name: str) -> int:
    return _whole(value, name, 0, MAX_ALTERNATIVES)


def _is_hybrid(value: Any, name: str) -> bool:
    if value not in ("vosk", "hybrid"):
        raise ClientError(f"{name} is {_shown(value)}", remedy='give "vosk" or "hybrid"')
    return bool(value == "hybrid")


def _phrases(value: Any, name: str) -> Tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(phrase, str) for phrase in value):
        raise ClientError(f"{name} is {_shown(value)}", remedy='give a list of texts: ["john smith", "main street"]')
    words = (phrase.replace("[unk]", " ") for phrase in value)  # Vosk's mark for what is none of them
    return tuple(phrase for phrase in words if phrase.strip())


def _endpointing(value: Any, name: str) -> Endpointing:
    settings = _object(value, name, ("rules", "longest", "pause"))
    changes: Dict[str, Any] = {}
    if "rules" in settings:
        rules = settings["rules"]
        if not isinstance(rules, list) or len(rules) > MAX_RULES:
            raise ClientError(f"{name}.rules is {_shown(rules)}", remedy=f"give a list of at most {MAX_RULES} rules")
        changes["rules"] = tuple(_rule(rule, f"{name}.rules[{number}]") for number, rule in enumerate(rules))
    if "longest" in settings:
        changes["longest"] = _number(settings["longest"], f"{name}.longest", 1.0, LONGEST)
    if "pause" in settings:
        changes["pause"] = _number(settings["pause"], f"{name}.pause", 0.05, LONGEST)
    try:
        return Endpointing(**changes)
    except ConfigError as error:
        raise ClientError(error.what, remedy=error.remedy) from None


def _rule(value: Any, name: str) -> Rule:
    fields = {"relative_cost": 1e9, "trailing_silence": 3600.0, "utterance_length": 3600.0}
    settings = _object(value, name, ("needs_words", *fields))
    if not settings.keys() & {"trailing_silence", "utterance_length"}:
        raise ClientError(f"{name} ends everything at once", remedy="give trailing_silence or utterance_length")
    numbers = {
        key: _number(settings[key], f"{name}.{key}", 0.0, most) for key, most in fields.items() if key in settings
    }
    needs_words = _flag(settings.get("needs_words", True), f"{name}.needs_words")
    return Rule(needs_words, numbers.pop("trailing_silence", 0.0), **numbers)


def _object(value: Any, name: str, known: Tuple[str, ...]) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise ClientError(f"{name} is {_shown(value)}", remedy=f"give an object with {', '.join(known)}")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise ClientError(f"{name} has no {_shown(unknown[0])}", remedy=f"use {', '.join(known)}")
    return value


_SETTINGS: Dict[str, Tuple[str, Callable[[Any, str], Any]]] = {
    "words": ("words", _flag),
    "max_alternatives": ("max_alternatives", _alternatives),
    "phrase_list": ("phrases", _phrases),
    "format": ("hybrid", _is_hybrid),
    "endpointing": ("endpointing", _endpointing),
}
