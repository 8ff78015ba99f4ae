"""The recipe that `hybrid init` prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Dict, List, Optional

from hybrid.corpus import Reading
from hybrid.errors import ConfigError
from hybrid.init.look import CorpusSummary, find_lexicon, find_parts, look
from hybrid.lexicon.lexicon import Lexicon
from hybrid.pipeline.corpus_settings import NAME, speaker_of


def describe(options: argparse.Namespace) -> str:
    """Return a recipe for options.corpus as TOML. Raises ConfigError, DataError."""
    parts = find_parts(options.corpus)
    dev = options.dev or (parts.dev[0] if parts.dev else "")
    tests = {**parts.test, **_tests(options.test)}
    lexicon = options.lexicon or find_lexicon(options.corpus)
    speaker = options.speaker
    reading = Reading(data=options.data, speaker=speaker_of(speaker))
    pronunciations = None if not lexicon else Lexicon.from_file(lexicon)
    summary = look(parts.train, reading, pronunciations)
    lines = [*_head(options, summary), "[corpus]", _sources(parts.train)]
    if dev:
        lines.append(_line("dev", dev))
        lines += [f"# also there: {path}" for path in parts.dev[1:]]
    else:
        num_held = max(1, round(0.1 * summary.speakers))
        comment = f"of {summary.speakers}, held out to choose scales and stop training"
        lines.append(_line("dev_speakers", num_held, comment))
    if tests:
        lines.append(f"test = {{ {', '.join(f'{name} = {json.dumps(path)}' for name, path in tests.items())} }}")
        lines += _by_age(tests)
    else:
        num_held = max(1, round(0.1 * summary.speakers))
        lines.append(_line("test_speakers", num_held, "held out to be the test set; or test = { NAME = \"SOURCE\" }"))
    if speaker != "folder":
        lines.append(_line("speaker", speaker))
    lines += _words(summary, lexicon, pronunciations)
    comment = "" if options.lm else "an n-gram of the transcripts; or an ARPA file"
    lines.append(_line("lm", options.lm or "train", comment))
    for name, what in (("noise", "recordings of noise"), ("rooms", "impulse responses")):
        value = getattr(options, name)
        lines.append(_line(name, value) if value else f'# {name} = "DIR"'.ljust(_AT) + f"# {what}, for a robust model")
    return "\n".join(lines) + "\n"


_AT = 30  # column of comments


def _line(name: str, value: object, comment: str = "") -> str:
    text = f"{name} = {json.dumps(value, ensure_ascii=False)}"
    return f"{text.ljust(_AT - 2)}  # {comment}" if comment else text


def _sources(train: List[str]) -> str:
    return f"train = {json.dumps(train[0] if len(train) == 1 else train, ensure_ascii=False)}"


def _by_age(tests: Dict[str, str]) -> List[str]:
    """A hint where a test set knows the ages of its speakers: it can be parted by them."""
    for path in tests.values():
        ages = Path(path) / "spk2age"
        if ages.is_file():
            source = f"path = {json.dumps(path)}, by = {json.dumps(str(ages))}"
            parts = f"adults = {{ {source}, least = 16 }}, children = {{ {source}, most = 15 }}"
            return [f"# or by age: test = {{ {parts} }}"]
    return []


def _head(options: argparse.Namespace, summary: CorpusSummary) -> List[str]:
    rates = ", ".join(f"{rate} Hz" for rate, _ in summary.rates.most_common())
    lines = [
        f"# {options.corpus}: {summary.form}",
        f"# training: {summary.utterances} utterances, {summary.hours:.2f} hours, {summary.speakers} speakers, "
        f"{summary.words} words, {rates}",
    ]
    if summary.skipped:
        lines.append(
            f"# {summary.skipped} utterances cannot be used: the stage prepare will name them (problems.jsonl)"
        )
    lines += [f"# {note}" for note in summary.notes[:3]]
    return [*lines, "# Settings that are not here: recipes/defaults.toml. Sizes follow from the hours of speech.", ""]


def _words(summary: CorpusSummary, lexicon: str, pronunciations: Optional[Lexicon]) -> List[str]:
    if pronunciations is None:
        return ['units = "graphemes"'.ljust(_AT) + '# no lexicon: words are spelled in letters; or lexicon = "FILE"']
    lines = [_line("lexicon", lexicon, f"{len(pronunciations)} words")]
    if summary.missing:
        examples = ", ".join(word for word, _ in summary.missing.most_common(5))
        lines.append(
            _line("oov", "g2p", f"{len(summary.missing)} words of the transcripts are not in it: {examples} ...")
        )
    return lines


def _tests(texts: List[str]) -> Dict[str, str]:
    tests = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals:
            name, source = Path(text).name, text
        if not NAME.fullmatch(name) or not source:
            raise ConfigError(f"--test {text}", remedy="write --test NAME=SOURCE, as --test other=data/test_other")
        tests[name] = source
    return tests
