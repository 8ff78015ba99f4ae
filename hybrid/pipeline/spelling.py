"""Transcripts in the lexicon's spelling, and what becomes of training words that it lacks (corpus.fold, corpus.oov)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Callable, Dict, List, Optional, Sequence

from lhotse import MonoCut

from hybrid.errors import DataError
from hybrid.io import Problems
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.merge import check_phones, merge, without_stress
from hybrid.lexicon.transcript import Normaliser
from hybrid.pipeline.corpus_settings import PYTHON, CorpusSettings, listed, units_of
from hybrid.pipeline.recipe_run import RecipeRun

_NAMED = 10  # words in a message


def read_lexicon(run: RecipeRun) -> Lexicon:
    """Return the lexicon that corpus.lexicon names, or that the several that it names are together. Raises
    DataError."""
    corpus = run.settings.corpus
    lexicons: Dict[str, Lexicon] = {}
    for name in listed(corpus.lexicon):
        lexicon = run.hook.call("lexicon", run) if name == PYTHON else Lexicon.from_file(run.find(name))
        lexicons[name] = lexicon if corpus.stress else without_stress(lexicon)
    first, *others = lexicons.items()
    for name, other in others:
        check_phones(first[1], other, name, 'set corpus.stress = false: all lexicons without stress')
    return merge(list(lexicons.values()))


def uses_lexicon(settings: CorpusSettings) -> bool:
    return units_of(settings) in ("words", "phone_pieces")


class Spelling:
    """Respells the transcripts of sets, and counts what it changes.

    lexicon: None where words are spelled in letters; then notes and punctuation are left out, and words stay as they
    are.
    """

    def __init__(self, run: RecipeRun, lexicon: Optional[Lexicon]) -> None:
        self.run, self.lexicon = run, lexicon
        self.oov = run.settings.corpus.oov
        self.fold: Callable[[str], List[str]] = Normaliser(lexicon) if run.settings.corpus.fold else str.split
        self.missing: Dict[str, Counter] = {}
        self.changed: Counter = Counter()

    @classmethod
    def of(cls, run: RecipeRun) -> Spelling:
        """Return the spelling by the lexicon of the run, where it has one. Raises DataError for a lexicon that cannot
        be read."""
        return cls(run, read_lexicon(run) if uses_lexicon(run.settings.corpus) else None)

    def respell(self, cuts: Sequence[MonoCut], name: str, problems: Problems, *, training: bool) -> List[MonoCut]:
        """Return the cuts of a set with their words as the lexicon spells them. An utterance without a word goes to
        `problems`; one of training with a word that the lexicon lacks too, where corpus.oov is "leave".

        Raises DataError for such a word where corpus.oov is "error".
        """
        respelled: List[MonoCut] = []
        missing = self.missing[name] = Counter()
        first = ""
        for cut in cuts:
            text = cut.supervisions[0].text or ""
            words = self.fold(text)
            if not words:
                problems.add(cut.id, f"no word in the transcript {text[:60]!r}")
                continue
            absent = [word for word in words if self.lexicon is not None and word not in self.lexicon]
            missing.update(absent)
            first = first or (cut.id if absent else "")
            if absent and training and self.oov == "leave":
                problems.add(
                    cut.id, f"not in the lexicon: {', '.join(dict.fromkeys(absent))}", None,
                    "add the words to the lexicon, or set corpus.oov to g2p or unk",
                )  # fmt: skip
                continue
            joined = " ".join(words)
            self.changed[name] += joined != text
            respelled.append(cut if joined == text else _with_text(cut, joined))
        if missing and training and self.oov == "error":
            raise DataError(
                f"{len(missing)} words of the training transcripts have no pronunciation: {_listed(missing)}",
                utterance=first,
                remedy="add them to the lexicon, or set corpus.oov: leave (their utterances are left out), unk or g2p",
            )
        return respelled

    def report(self) -> None:
        """Say in the log how many transcripts were respelled, and which words the lexicon lacks."""
        for name, count in self.changed.items():
            if count:
                self.run.log(f"  {name}: {count} transcripts respelled as the lexicon has their words")
        for name, missing in self.missing.items():
            if not missing:
                continue
            consequences = {"unk": "taken for <UNK>", "g2p": "pronounced by G2P", "leave": "their utterances left out"}
            consequence = consequences.get(self.oov, "") if name == "train" else "each of them can only be an error"
            self.run.log(
                f"  {name}: {len(missing)} words ({sum(missing.values())} times) are not in the lexicon, "
                f"{consequence}: {_listed(missing)}"
            )


def _with_text(cut: MonoCut, text: str) -> MonoCut:
    return replace(cut, supervisions=[replace(cut.supervisions[0], text=text)])


def _listed(missing: Counter) -> str:
    listing = ", ".join(f"{word} ({count})" for word, count in missing.most_common(_NAMED))
    return listing + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
