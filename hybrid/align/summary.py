"""What the user asks of an alignment, what comes of it, and the words in which that is said."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Union

from hybrid.align.outputs import FORMATS, check_formats
from hybrid.align.result import AlignedUtterance
from hybrid.align.suspicious import Suspicion
from hybrid.corpus import Reading
from hybrid.errors import ConfigError
from hybrid.io import write_json
from hybrid.run import Run

_PLACES = ("corpus", "data", "lexicon", "out", "model", "g2p_model")


@dataclass(frozen=True)
class Options:
    """What the command line says; `oov` is "leave" or "spn"."""

    corpus: Path
    lexicon: Path
    out: Path
    model: Optional[Path] = None
    formats: Sequence[str] = FORMATS
    data: Optional[Path] = None
    speaker: Union[int, str] = 0
    channel: Optional[int] = None
    g2p: bool = False
    g2p_model: Optional[Path] = None
    oov: str = "leave"
    max_problems: float = 0.5
    beam: float = 10.0
    retry_beam: float = 40.0
    seed: int = 0
    jobs: int = 0

    def reading(self) -> Reading:
        """Return how the corpus is read; what is made of it is kept in OUT until the alignment is done."""
        return Reading(self.data, self.speaker, self.channel, cache=self.out / "work" / "corpus")

    def check(self) -> None:
        """Raise ConfigError for what cannot be meant."""
        self.reading()
        check_formats(self.formats)
        if not 0 <= self.max_problems <= 1:
            raise ConfigError(f"--max-problems {self.max_problems:g}", remedy="give a share from 0 to 1")
        if self.oov not in ("leave", "spn"):
            raise ConfigError(f"--oov {self.oov}", remedy="use leave or spn")
        if self.out.exists() and not self.out.is_dir():
            raise ConfigError("OUT is a file", file=self.out, remedy="give a folder, or a name that is not there yet")
        if self.corpus.is_dir() and self.corpus.resolve() in (self.out.resolve(), *self.out.resolve().parents):
            raise ConfigError(
                "OUT lies in CORPUS: its TextGrids would be taken for transcripts",
                file=self.out,
                remedy="give a folder beside the corpus",
            )


@dataclass
class Result:
    """`skipped` are the utterances that are not aligned, `suspicions` all others, ranked."""

    total: int
    utterances: List[AlignedUtterance] = field(default_factory=list)
    skipped: Dict[str, str] = field(default_factory=dict)
    suspicions: List[Suspicion] = field(default_factory=list)
    written: List[str] = field(default_factory=list)
    too_many: bool = False


def write_summary(options: Options, run: Run, result: Result, seconds: float) -> None:
    words = sum(len(utterance.words) for utterance in result.utterances)
    speech = sum(utterance.end - utterance.start for utterance in result.utterances)
    reasons = Counter(reason.split(":")[0].split(" (")[0] for reason in result.skipped.values())
    suspicious = [row for row in result.suspicions if row.suspicious]
    if suspicious:
        run.log(f"{len(suspicious)} suspicious transcripts; the worst:")
        for row in suspicious[:10]:
            run.log(f"  {row.score:5.1f}  {row.id}: {'; '.join(row.reasons)[:160]}")
    for reason, count in reasons.most_common(10):
        run.log(f"  not aligned, {count}: {reason}")
    run.log(
        f"{len(result.utterances)} of {result.total} utterances aligned ({words} words, {speech / 60:.1f} min), "
        f"{len(result.skipped)} not (problems.jsonl), {len(suspicious)} suspicious (suspicious.tsv); "
        f"{', '.join(result.written)} in {options.out}, {seconds:.0f} s"
    )
    write_json(
        options.out / "summary.json",
        {
            "utterances": result.total,
            "aligned": len(result.utterances),
            "not_aligned": len(result.skipped),
            "reasons": dict(reasons.most_common()),
            "suspicious": len(suspicious),
            "words": words,
            "speech_seconds": round(speech, 3),
            "seconds": round(seconds, 1),
            "written": result.written,
            "settings": {name: str(value) for name, value in asdict(options).items() if name not in _PLACES},
        },
    )
    if result.too_many:
        share = len(result.skipped) / max(result.total, 1)
        run.log(f"{100 * share:.0f} % are not aligned, above --max-problems {options.max_problems:g}: exit code 1")
