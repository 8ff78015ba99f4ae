"""Stage prepare: a corpus of whatever form becomes cuts, one manifest a set, with every loss named.

Where only a share of the speakers is to count as transcribed, the corpus is first read without its transcripts: nothing
of what the others say can then reach a file of the run, nor can a transcript of theirs that is broken.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Dict, List, Optional, Sequence, Tuple

from lhotse import MonoCut

from hybrid.corpus import Corpus, Reading, Skipped, at_rate, common_rate, hold_out, read_corpus, withhold
from hybrid.errors import DataError
from hybrid.io import Problems, read_lines, write_json
from hybrid.pipeline.corpus_settings import PYTHON, TestSource, speaker_of, test_sources
from hybrid.pipeline.recipe_run import ABOUT, OPUS, RecipeRun
from hybrid.pipeline.sets import CLEAN, DecodeSet, write_cuts
from hybrid.pipeline.spelling import Spelling

_MIN_DURATION = 0.1  # seconds: two frames of 30 ms fit no word
_USUAL_RATES = (8000, 16000, 24000, 32000, 44100, 48000)  # Hz
_DEV_SHARE = 0.1  # of the speakers, where corpus.dev_speakers does not say


def prepare(run: RecipeRun) -> None:
    """Write EXP/prepare/{train,dev,unlabelled,NAME}.jsonl.gz and about.json: hours of transcribed training speech,
    sampling rate, sets to be decoded, amounts of all sets."""
    if run.hook.has("prepare"):
        run.hook.call("prepare", run)
    settings = run.settings.corpus
    problems = run.problems("prepare")
    with run.executor() as executor:
        reader = _Reader(run, executor)
        sets = _training_sets(run, reader)
        for name, test in test_sources(settings.test).items():
            sets[name] = _of_speakers(run, test, reader.read(name, [test.path]))
    reader.report(problems)
    rate = settings.rate or _usable_rate(run, common_rate(sets["train"]))
    spelling = Spelling.of(run)
    for name, cuts in sets.items():
        usable, notes = at_rate(cuts, rate)
        for note in notes:
            run.log(f"  {name}: {note}")
        if name != "unlabelled":
            usable = spelling.respell(usable, name, problems, training=name == "train")
        if not usable:
            raise DataError(
                f"not one utterance of the set {name} can be used", file=problems.path,
                remedy="read that file, which the stage has written, and mend the corpus",
            )  # fmt: skip
        sets[name] = usable
        write_cuts(run.dir("prepare") / f"{name}.jsonl.gz", usable, root=run.exp)
        speakers = len({cut.supervisions[0].speaker for cut in usable})
        hours = _hours(usable)
        length = f"{60 * hours:.1f} min" if hours < 2 else f"{hours:.2f} h"
        run.log(f"  {name}: {len(usable)} utterances, {speakers} speakers, {length}, {rate} Hz")
    spelling.report()
    _warn_of_shared(run, sets)
    decoded = [DecodeSet("dev", "dev", CLEAN)]
    decoded += [DecodeSet(name, "test", test.condition) for name, test in test_sources(settings.test).items()]
    decoded += [DecodeSet("test", "test", CLEAN)] if settings.test_speakers else []
    write_json(
        run.dir("prepare") / ABOUT,
        {
            "hours": round(_hours(sets["train"]), 4), "rate": rate, "sets": [one.__dict__ for one in decoded],
            "amounts": {name: _amount(cuts) for name, cuts in sets.items()},
        },
    )  # fmt: skip
    problems.close(sum(map(len, sets.values())) + len({row["utterance"] for row in problems.rows}),
                   run.settings.limits.problems)  # fmt: skip


def _of_speakers(run: RecipeRun, test: TestSource, cuts: List[MonoCut]) -> List[MonoCut]:
    """Return the cuts of the speakers that corpus.test.NAME asks for. Raises DataError for a speaker that its table
    lacks."""
    if not test.by:
        return cuts
    file = run.find(test.by)
    table = {line.split(None, 1)[0]: line.split(None, 1)[1].strip() for line in read_lines(file) if " " in line.strip()}
    selected = {}
    for speaker in sorted({cut.supervisions[0].speaker for cut in cuts}):
        try:
            selected[speaker] = test.takes(table[speaker])
        except (KeyError, ValueError):
            raise DataError(
                f"the speaker {speaker} has no {'value' if speaker not in table else 'number'} in it", file=file,
                remedy="write a line `SPEAKER VALUE` for each speaker of the set",
            ) from None  # fmt: skip
    return [cut for cut in cuts if selected[cut.supervisions[0].speaker]]


def _usable_rate(run: RecipeRun, rate: int) -> int:
    """Return the rate, or where a frame shift of 10 ms is no whole number of its samples (22050, 11025 Hz) the next
    usual one below."""
    if rate % 100 == 0:
        return rate
    lower = max((usual for usual in _USUAL_RATES if usual < rate), default=_USUAL_RATES[0])
    run.log(f"  10 ms are no whole number of samples at {rate} Hz: {lower} Hz is taken (corpus.rate sets another)")
    return lower


def _warn_of_shared(run: RecipeRun, sets: Dict[str, List[MonoCut]]) -> None:
    """Say which sets have utterances of the training speech in them, by the file and time that they are of."""
    training_places = {_place(cut) for cut in sets["train"]}
    for name, cuts in sets.items():
        shared = (
            [cut.id for cut in cuts if _place(cut) in training_places] if name not in ("train", "unlabelled") else []
        )
        if shared:
            run.log(f"  {name}: {len(shared)} utterances are those of the training set: its error rate means nothing "
                    f"(the first: {shared[0]})")  # fmt: skip


def _place(cut: MonoCut) -> Tuple[str, float]:
    return str(cut.recording.sources[0].source) if cut.recording.sources else cut.recording_id, cut.start


def _hours(cuts: Sequence[MonoCut]) -> float:
    return sum(cut.duration for cut in cuts) / 3600


def _amount(cuts: Sequence[MonoCut]) -> Dict[str, float]:
    """Return what a plan counts of a set; opus: the hours of it that take longer to read."""
    opus = [cut for cut in cuts if cut.recording.sources and str(cut.recording.sources[0].source).endswith(OPUS)]
    return {"hours": _hours(cuts), "utterances": len(cuts), "opus": _hours(opus)}


def _training_sets(run: RecipeRun, reader: _Reader) -> Dict[str, List[MonoCut]]:
    """Return train, dev, and where there is untranscribed speech "unlabelled"."""
    settings = run.settings.corpus
    # What is held out depends on speakers alone, whatever the transcripts are.
    training_cuts = reader.read("train", settings.train, transcripts=settings.labelled == 1.0)
    remaining = training_cuts
    sets: Dict[str, List[MonoCut]] = {"train": [], "dev": []}
    if not settings.dev:
        speakers = len({cut.supervisions[0].speaker for cut in training_cuts})
        number = settings.dev_speakers or max(1, round(_DEV_SHARE * speakers))
        remaining, sets["dev"] = hold_out(remaining, number, log=lambda line: run.log(f"  dev: {line}"))
    if settings.test_speakers:
        remaining, sets["test"] = hold_out(
            remaining, settings.test_speakers, 1, log=lambda line: run.log(f"  test: {line}")
        )
    sets["train"], unlabelled = withhold(remaining, settings.labelled)
    if settings.labelled < 1.0:
        transcribed = [cut for cuts in sets.values() for cut in cuts]
        cuts_by_id = {cut.id: cut for cut in reader.read("train", settings.train, only=transcribed)}
        sets = {name: [cuts_by_id[cut.id] for cut in cuts if cut.id in cuts_by_id] for name, cuts in sets.items()}
    if settings.dev:
        sets["dev"] = reader.read("dev", [settings.dev])
    if settings.unlabelled:
        unlabelled = [*unlabelled, *reader.read("unlabelled", settings.unlabelled, transcripts=False)]
    if unlabelled:
        sets["unlabelled"] = unlabelled
    return sets


class _Reader:
    """Reads the sources of a set. What cannot be used is kept for the stage's problems; a set that is read twice (first
    without its transcripts) says so once."""

    def __init__(self, run: RecipeRun, executor: Executor) -> None:
        self.run, self.executor = run, executor
        self._skipped: Dict[Tuple[str, str], Skipped] = {}

    def read(
        self, name: str, sources: Sequence[str], *, transcripts: bool = True, only: Optional[Sequence[MonoCut]] = None
    ) -> List[MonoCut]:
        """Return the cuts of the sources of a set. only: of these utterances alone, what is skipped included."""
        reading = self._reading(transcripts)
        cuts: Dict[str, MonoCut] = {}
        identifiers = None if only is None else {cut.id for cut in only}
        for source in sources:
            corpus = self._corpus(name, source, reading)
            source_cuts = [cut for cut in corpus.cuts if identifiers is None or cut.id in identifiers]
            skipped = [row for row in corpus.skipped if identifiers is None or row.utterance in identifiers]
            self.run.log(f"  {name}: {source}, {corpus.form}: {len(source_cuts)} utterances, {len(skipped)} unusable")
            for note in corpus.notes:
                self.run.log(f"  {name}: {note}")
            duplicates = [cut.id for cut in source_cuts if cut.id in cuts]
            skipped += [
                Skipped(identifier, f"an earlier source of {name} has this id, too", source)
                for identifier in duplicates
            ]
            self._skipped.update({(name, row.utterance): row for row in skipped})
            cuts.update({cut.id: cut for cut in source_cuts if cut.id not in cuts})
        return list(cuts.values())

    def _reading(self, transcripts: bool) -> Reading:
        settings = self.run.settings.corpus
        return Reading(
            data=self.run.data, speaker=speaker_of(settings.speaker),
            channel=None if settings.channel < 0 else settings.channel, decode=settings.check_audio,
            min_duration=_MIN_DURATION, transcripts=transcripts, cache=self.run.dir("prepare") / "corpus",
        )  # fmt: skip

    def _corpus(self, name: str, source: str, reading: Reading) -> Corpus:
        if source == PYTHON:
            corpus: Corpus = self.run.hook.call("read", self.run, name, reading)
            return corpus
        return read_corpus(
            self.run.source(source), reading, executor=self.executor, progress=self.run.bar(f"reading {name}")
        )

    def report(self, problems: Problems) -> None:
        """Hand what was skipped to the stage's problems."""
        for row in self._skipped.values():
            problems.add(row.utterance, row.reason, row.file, row.remedy)
