"""Parts of a corpus: speakers held out for development, transcripts withheld."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from lhotse import MonoCut

from hybrid.errors import ConfigError, DataError

Log = Callable[[str], None]
SHARE = 0.1  # of the utterances, held out where there are no speakers to hold out
MOST = 1000  # utterances at most, then


def choose_speakers(
    names: Iterable[str], num_speakers: int, seed: int = 0, *, group: Optional[Callable[[str], str]] = None
) -> Set[str]:
    """Return `num_speakers` of the names, but not all.

    Speakers are taken in the order of a hash of seed and name, so that the choice is the same everywhere; with
    `group` (name -> e.g. gender) each group gives its share. Raises DataError when no speaker would be left.
    """
    speakers = sorted(set(names))
    if not 0 < num_speakers < len(speakers):
        raise DataError(
            f"{num_speakers} speakers cannot be held out of {len(speakers)}",
            remedy="hold fewer out, or check that the corpus names its speakers",
        )
    groups: Dict[str, List[str]] = defaultdict(list)
    for speaker in sorted(speakers, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()):
        groups[group(speaker) if group else ""].append(speaker)
    # Largest remainders: the shares are whole numbers and sum to num_speakers.
    shares = {name: num_speakers * len(members) / len(speakers) for name, members in sorted(groups.items())}
    counts = {name: int(share) for name, share in shares.items()}
    missing = num_speakers - sum(counts.values())
    for name in sorted(shares, key=lambda name: (counts[name] - shares[name], name))[:missing]:
        counts[name] += 1
    return {speaker for name, members in groups.items() for speaker in members[: counts[name]]}


def hold_out(
    cuts: Sequence[MonoCut], speakers: int, seed: int = 0, *, log: Optional[Log] = None
) -> Tuple[List[MonoCut], List[MonoCut]]:
    """Return (the rest, the cuts of `speakers` speakers), each in the order of `cuts`; genders by their share.

    Where no utterance names its speaker, or there is one speaker alone, no speaker can be held out: then it is a tenth
    of the utterances (`speakers` of them at least, 1000 at most), which `log` is told. Raises DataError where nothing
    would be left.
    """
    names, genders = _speakers(cuts)
    if len(names) > 1 and not _unnamed(cuts):
        held_speakers = choose_speakers(names, speakers, seed, group=genders.__getitem__)
        return _part(cuts, lambda cut: _speaker(cut) not in held_speakers)
    if speakers < 1:
        raise DataError(f"{speakers} speakers cannot be held out", remedy="hold out one at least")
    count = max(speakers, min(round(SHARE * len(cuts)), MOST))
    held_ids = choose_speakers((cut.id for cut in cuts), count, seed)
    if log is not None:
        reason = "there is one speaker" if len(names) == 1 else "no utterance names its speaker"
        log(f"{reason}: {count} of {len(cuts)} utterances are held out, and not {speakers} speakers")
    return _part(cuts, lambda cut: cut.id not in held_ids)


def withhold(cuts: Sequence[MonoCut], share: float, seed: int = 0) -> Tuple[List[MonoCut], List[MonoCut]]:
    """Return (labelled, unlabelled): the cuts of a share of the speakers, and the others without their transcripts.

    Genders by their share; at least one speaker keeps the transcripts. Where speakers are unknown it is a share of the
    utterances. Raises ConfigError for a share that is not above 0 and at most 1.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"a share of {share} with transcripts", remedy="a share above 0, up to 1")
    names, genders = _speakers(cuts)
    unnamed = len(names) == 1 or _unnamed(cuts)
    candidates = {cut.id for cut in cuts} if unnamed else names
    num_labelled = max(1, round(share * len(candidates)))
    if num_labelled >= len(candidates):
        return list(cuts), []
    labelled_names = choose_speakers(candidates, num_labelled, seed, group=None if unnamed else genders.__getitem__)
    labelled, unlabelled = _part(cuts, lambda cut: (cut.id if unnamed else _speaker(cut)) in labelled_names)
    return labelled, [_without_text(cut) for cut in unlabelled]


def _speaker(cut: MonoCut) -> str:
    return str(cut.supervisions[0].speaker)


def _unnamed(cuts: Sequence[MonoCut]) -> bool:
    return all(_speaker(cut) == cut.id for cut in cuts)


def _speakers(cuts: Sequence[MonoCut]) -> Tuple[Set[str], Mapping[str, str]]:
    """The speakers, and the first letter of each one's gender in small letters; empty where it is unknown."""
    genders: Dict[str, str] = {}
    for cut in cuts:
        gender = (cut.supervisions[0].gender or "")[:1].lower()
        genders[_speaker(cut)] = genders.get(_speaker(cut)) or gender
    return set(genders), genders


def _part(
    cuts: Sequence[MonoCut], first: Callable[[MonoCut], bool]
) -> Tuple[List[MonoCut], List[MonoCut]]:
    return [cut for cut in cuts if first(cut)], [cut for cut in cuts if not first(cut)]


def _without_text(cut: MonoCut) -> MonoCut:
    supervisions = [replace(supervision, text=None, alignment=None, custom=None) for supervision in cut.supervisions]
    return replace(cut, supervisions=supervisions, custom=None)
