"""How much speech a recipe has: hours and utterances of its sets, words, n-grams; of the corpus, of a run, as said."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from hybrid.corpus import Corpus, Reading, read_corpus
from hybrid.errors import ConfigError, DataError, MissingDependency
from hybrid.io import iter_jsonl, read_json
from hybrid.pipeline.corpus_settings import PYTHON, listed, speaker_of, test_sources
from hybrid.pipeline.recipe_run import ABOUT, OPUS
from hybrid.pipeline.sets import CLEAN
from hybrid.plan.stage_costs import FULL_DISK

HELD_OUT = 0.1  # of the training speech, where no development or test set is given
UTTERANCE_SECONDS = 10.0
TEST_HOURS = 5.0
# What openslr 11 has, and what English has, where the files are not there yet.
WORDS, NGRAMS = 200_000, 3_000_000


class Amount(NamedTuple):
    """Of a set. opus: hours of it that are stored as Opus, which takes longer to read."""

    hours: float
    utterances: float
    condition: str = CLEAN
    opus: float = 0.0

    def share(self, share: float) -> Amount:
        return Amount(self.hours * share, self.utterances * share, self.condition, self.opus * share)


@dataclass(frozen=True)
class Amounts:
    """train, dev, tests by name, untranscribed speech; words of the lexicon, n-grams that the model of language is read
    from. notes: where each is from."""

    train: Amount
    dev: Amount
    tests: Dict[str, Amount]
    unlabelled: Amount = Amount(0.0, 0.0)
    words: float = 0.0
    ngrams: float = 0.0
    rate: int = 16000
    notes: List[str] = field(default_factory=list)

    @property
    def decoded(self) -> List[Amount]:
        return [self.dev, *self.tests.values()]

    @property
    def prepared(self) -> List[Amount]:
        return [self.train, self.unlabelled, *self.decoded]


@dataclass(frozen=True)
class Said:
    """What the options of `hybrid plan` say; None: to be counted, or assumed. hours: of training speech."""

    hours: Optional[float] = None
    test_hours: Optional[float] = None
    utterance_seconds: Optional[float] = None
    words: Optional[float] = None
    ngrams: Optional[float] = None

    def check(self) -> None:
        """Raise ConfigError for a number that cannot be meant."""
        for name, value in vars(self).items():
            if value is not None and not 0 < value < 1e9:
                raise ConfigError(f"--{name.replace('_', '-')} is {value:g}", remedy="a number above 0")


def amounts_said(settings: Any, said: Said, run: Any) -> Amounts:
    """Return the amounts for `said.hours` of training speech: the corpus is not looked at; words and n-grams are, where
    their files are there."""
    seconds = said.utterance_seconds or UTTERANCE_SECONDS
    hours = said.hours or 0.0
    notes = [f"{hours:g} hours of training speech: as said", f"utterances of {seconds:g} s: "
             + ("as said" if said.utterance_seconds else "assumed (--utterance-seconds)")]  # fmt: skip
    corpus = settings.corpus
    test_hours = said.test_hours or min(TEST_HOURS, HELD_OUT * hours)
    why = "as said" if said.test_hours else "assumed (--test-hours)"

    def amount(value: float, condition: str = CLEAN) -> Amount:
        return Amount(value, 3600 * value / seconds, condition)

    tests = {name: amount(test_hours, source.condition) for name, source in test_sources(corpus.test).items()}
    if corpus.test_speakers:
        tests["test"] = amount(test_hours)
    notes.append(f"{test_hours:g} hours in each development and test set: {why}")
    words, ngrams = words_and_ngrams(settings, said, run, notes)
    train, unlabelled = amount(hours * corpus.labelled), amount(hours * (1 - corpus.labelled))
    return Amounts(train, amount(test_hours), tests, unlabelled, words, ngrams, corpus.rate or 16000, notes)


def amounts_of_corpus(settings: Any, said: Said, run: Any) -> Amounts:
    """Return what the corpus holds, of which headers and transcripts are read, as `hybrid init` does. Raises DataError
    and ConfigError as reading it does, and where its own Python makes it."""
    corpus = settings.corpus
    if PYTHON in corpus.train and run.data is None:
        raise ConfigError(
            "the recipe's own Python makes or finds its corpus, which cannot be looked at beforehand", file=run.file,
            remedy="say how much training speech there will be, with --hours N; or give its folder with --data DIR",
        )  # fmt: skip
    reading = Reading(data=run.data, speaker=speaker_of(corpus.speaker),
                      channel=None if corpus.channel < 0 else corpus.channel)  # fmt: skip

    speakers: Set[str] = set()

    def look(name: str, sources: Sequence[str], condition: str = CLEAN) -> Amount:
        hours, utterances, opus = 0.0, 0, 0.0
        for cut in (cut for source in sources for cut in _cuts(run, name, source, reading)):
            hours += cut.duration / 3600
            utterances += 1
            opus += cut.duration / 3600 * str(cut.recording.sources[0].source).endswith(OPUS)
            if name == "train":
                speakers.add(cut.supervisions[0].speaker)
        return Amount(hours, utterances, condition, opus)

    whole = look("train", corpus.train)
    notes = [f"{whole.hours:.2f} hours, {whole.utterances:.0f} utterances of {len(speakers)} speakers to train on: "
             "counted"]  # fmt: skip
    kept = 1.0

    def held_out(number: int) -> Amount:
        nonlocal kept
        share = (number or max(1, round(HELD_OUT * len(speakers)))) / max(len(speakers), 1)
        kept -= share
        notes.append(f"{share:.1%} of it is held out: as many of the speakers")
        return whole.share(share)

    dev = look("dev", [corpus.dev]) if corpus.dev else held_out(corpus.dev_speakers)
    tests = {}
    for name, source in test_sources(corpus.test).items():
        tests[name] = look(name, [source.path], source.condition)
        if source.by:  # some of the speakers: which they are, prepare will find out
            same = [other for other in test_sources(corpus.test).values() if other.path == source.path]
            tests[name] = tests[name].share(1 / len(same))
            notes.append(f"{name}: a share of 1/{len(same)} of its source, assumed")
    if corpus.test_speakers:
        tests["test"] = held_out(corpus.test_speakers)
    if kept <= 0:
        raise DataError(f"{len(speakers)} speakers to train on, and all of them are held out", file=run.file,
                        remedy="lower corpus.dev_speakers and corpus.test_speakers")  # fmt: skip
    unlabelled = look("unlabelled", corpus.unlabelled) if corpus.unlabelled else Amount(0.0, 0)
    if corpus.labelled < 1:
        rest = whole.share(kept * (1 - corpus.labelled))
        unlabelled = Amount(unlabelled.hours + rest.hours, unlabelled.utterances + rest.utterances)
    words, ngrams = words_and_ngrams(settings, said, run, notes)
    train = whole.share(kept * corpus.labelled)
    return Amounts(train, dev, tests, unlabelled, words, ngrams, corpus.rate or 16000, notes)


def _cuts(run: Any, name: str, source: str, reading: Reading) -> List[Any]:
    """Return the cuts of a source. Raises as reading it does, with the way to plan without it."""
    try:
        if source == PYTHON:
            corpus: Corpus = run.hook.call("read", run, name, reading)
            return corpus.cuts
        return read_corpus(run.source(source), reading).cuts
    except (DataError, ConfigError) as error:
        raise type(error)(
            error.what, file=error.file, utterance=error.utterance,
            remedy=f"{error.remedy or 'mend it'}; or plan without the corpus: --hours N",
        ) from error  # fmt: skip


def amounts_of_run(exp: Path) -> Amounts:
    """Return what the stage prepare of a run has found. Raises DataError where it has not been run."""
    about = exp / "prepare" / ABOUT
    if not about.is_file():
        raise DataError("no finished run: its stage prepare has not been done", file=about,
                        remedy="give the folder of a run (EXP) that has come to the stage that is to be measured")
    found = read_json(about)

    def count(name: str, condition: str = CLEAN) -> Amount:
        if name in found.get("amounts", {}):
            known = found["amounts"][name]
            return Amount(known["hours"], known["utterances"], condition, known["opus"])
        path = exp / "prepare" / f"{name}.jsonl.gz"  # of a run that has not noted them
        hours, utterances, opus = 0.0, 0, 0.0
        for row in iter_jsonl(path) if path.is_file() else ():
            hours += row["duration"] / 3600
            utterances += 1
            opus += row["duration"] / 3600 * str(row["recording"]["sources"][0]["source"]).endswith(OPUS)
        return Amount(hours, utterances, condition, opus)

    tests = {row["set"]: count(row["set"], row["condition"]) for row in found["sets"] if row["role"] == "test"}
    lexicon = exp / "lang" / "words.txt"
    words = _lines(lexicon) if lexicon.is_file() else WORDS
    return Amounts(count("train"), count("dev"), tests, count("unlabelled"), words, _ngrams_of_run(exp), found["rate"],
                   [f"counted in {exp}"])  # fmt: skip


def _ngrams_of_run(exp: Path) -> float:
    """Return the n-grams of the models that a run has read, but for its own; before it has read them, those assumed."""
    settings = exp / "config.json"
    names = listed(read_json(settings).get("corpus.lm", "train")) if settings.is_file() else []
    if names == ["train"]:
        return 0.0
    full, model = exp / "lm" / "full.safetensors", exp / "lm" / "lm.arpa"
    if full.is_file():
        return full.stat().st_size / FULL_DISK.value
    return count_ngrams(model) if model.is_file() else NGRAMS


def count_ngrams(path: Path) -> float:
    """Return the sum of the n-grams that the head of an ARPA file tells, gzipped or not; 0 where it tells none."""
    total = 0
    with open(path, "rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else open(path, "rb") as stream:
        for number, line in enumerate(stream):
            name, equals, value = line.decode("utf-8", "replace").strip().partition("=")
            if name.startswith("ngram ") and equals and value.strip().isdigit():
                total += int(value)
            elif name.startswith("\\1-grams") or number > 1000:
                break
    return float(total)


def words_and_ngrams(settings: Any, said: Said, run: Any, notes: List[str]) -> Tuple[float, float]:
    """Return words and n-grams: as said, counted where the files are there, else assumed; which of these goes to
    `notes`."""
    corpus = settings.corpus
    words, word_notes = _counted(run, listed(corpus.lexicon), _lines, WORDS)
    ngrams, ngram_notes = _counted(run, [name for name in listed(corpus.lm) if name != "train"], count_ngrams, NGRAMS)
    if said.words is not None:
        words, word_notes = said.words, "as said"
    if said.ngrams is not None:
        ngrams, ngram_notes = said.ngrams, "as said"
    notes.append(f"{words:,.0f} words in the lexicon: {word_notes} (--words)")
    notes.append(f"{ngrams:,.0f} n-grams read: {ngram_notes} (--ngrams)")
    return words, ngrams


def _lines(path: Path) -> float:
    with open(path, "rb") as stream:
        return float(sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b"")))


def _counted(
    run: Any, names: Sequence[str], count: Callable[[Path], float], assumed: float
) -> Tuple[float, str]:
    """Return the sum over files, and where it is from. Those of the recipe's own Python are small: our own recipes'."""
    total, guessed = 0.0, False
    for name in names:
        if name == PYTHON:
            total += 1_000
            continue
        try:
            total += count(run.find(name)) or assumed
        except (DataError, MissingDependency):  # a file that is not there, a wheel that is not installed
            total, guessed = total + assumed, True
    return total, "assumed, the file is not there" if guessed else "counted" if names else "none but the transcripts'"

