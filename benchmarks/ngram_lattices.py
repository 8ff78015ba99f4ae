"""What benchmarks.ngram_rescoring reads: models of a run and a larger one, speech, lattices of the first pass."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.trained import Search, System, find_search, find_system
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import ConfigError
from hybrid.io import load_tensors, read_json, save_tensors
from hybrid.lm import arpa
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.interpolate import interpolate
from hybrid.lm.ngram import train_arrays
from hybrid.lm.sample import Sampler
from hybrid.lm.text import read_sentences
from hybrid.pipeline.sets import speakers_of

ARRAYS = ("frame", "source", "target", "word", "graph", "acoustic", "start", "offsets", "pdfs")
FIRST, MODEL = "first.safetensors", "model.safetensors"  # in FOLDER
SHARE = 0.2  # of the drawn sentences' model in the mixture


class Place(NamedTuple):
    """A run, of which only is read; the folder for what is made; the system; folders in EXP/features."""

    exp: Path
    folder: Path
    system: str
    sets: Tuple[str, ...]

    def found(self) -> System:
        return find_system(self.exp, self.system, None)

    def search(self) -> Search:
        return find_search(self.exp, self.found(), "clean", 1.0)

    def words(self) -> Path:
        return self.exp / "lang" / "words.txt"

    def lattice_beam(self) -> float:
        return float(read_json(self.exp / "config.json")["rescore.lattice_beam"])

    def lattice(self, number: int, times: int) -> Path:
        return self.lattices(times) / f"{number:06d}.safetensors"

    def lattices(self, times: int) -> Path:
        return self.folder / f"lattices-{times}"


class Speech(NamedTuple):
    """{utterance: log-likelihoods, words of the transcript}."""

    loglikes: Dict[str, np.ndarray]
    texts: Dict[str, List[str]]


def make_first(place: Place) -> None:
    """Write the model of the graph as arrays."""
    arpa.read_arrays(place.exp / "lm" / "lm.arpa").save(place.folder / FIRST)


def whole(exp: Path) -> NgramArrays:
    """Read the model of which that of the graph was pruned. Raises ConfigError where it was not."""
    path = exp / "lm" / "full.safetensors"
    if not path.is_file():
        raise ConfigError(f"no {path}: the graph's model is not pruned", remedy="give a run with lm.max_ngrams")
    return NgramArrays.load(path)


def make_model(place: Place, words: int, text: Sequence[Path]) -> None:
    """Write the mixture of the whole model with one of order 4 of sentences drawn from it, and of those of the texts
    that it has the words of."""
    full = whole(place.exp)
    sentences: Iterator[List[str]] = Sampler(full.to_model(), np.random.default_rng(0)).text(words)
    for path in text:
        known = (line for line in read_sentences(path) if all(word in full for word in line))
        sentences = itertools.chain(known, sentences)
    drawn = train_arrays(sentences, 4)
    mixture = interpolate([full, drawn], [1.0 - SHARE, SHARE])
    mixture.save(place.folder / MODEL)
    for name, model in (("whole", full), ("drawn", drawn), ("mixture", mixture)):
        print(f"{name}: {len(model):,} n-grams, {' + '.join(f'{size:,}' for size in model.sizes)}", flush=True)


def read_speech(place: Place, number: int) -> Speech:
    """Read so many utterances, at equal distances in all that the sets have."""
    system = place.found()
    acoustics = load_acoustics(system.model, system.network)
    kind = kind_of(acoustics.features)
    found: Dict[str, Tuple[Any, np.ndarray]] = {}
    for name in place.sets:
        cuts, features = read_arrays(place.exp / "features" / name / kind, kind)
        found.update({cut.id: (cut, features[cut.id]) for cut in cuts})
    if len(found) < number:
        raise ConfigError(f"{len(found)} utterances, not {number}", remedy="name more --sets, or ask for fewer")
    names = list(found)
    chosen = [names[index * len(names) // number] for index in range(number)]
    cuts = [found[name][0] for name in chosen]
    loglikes = acoustics.loglikes({name: found[name][1] for name in chosen}, speakers_of(cuts))
    texts = {cut.id: " ".join(part.text or "" for part in cut.supervisions).split() for cut in cuts}
    return Speech({name: loglikes[name] for name in chosen}, texts)


def make_lattices(place: Place, number: int, times: int, most: int) -> None:
    """Write the lattices of the first pass, determinised without pdfs, as second_pass.py has them; of several
    utterances, of `most` that are read, searched as one."""
    search, beam = place.search(), place.lattice_beam()
    decoder = Decoder(
        place.found().graph, beam=search.beam, max_active=search.max_active, word_penalty=search.word_penalty
    )
    each = list(read_speech(place, most).loglikes.items())
    for index in range(number):
        parts = [each[(index + more) % most] for more in range(times)]
        name = "+".join(utterance for utterance, _ in parts)
        loglikes = np.concatenate([values for _, values in parts])
        raw = decoder.lattice(loglikes, search.acoustic_scale, name, lattice_beam=beam)
        if raw is None:
            raise ConfigError(f"no path through {name}", remedy="leave its set out of --sets")
        lattice = raw.determinised(search.acoustic_scale, lattice_beam=beam, pdfs=False)
        save_tensors(place.lattice(index, times), {array: getattr(lattice, array) for array in ARRAYS})


def read_lattice(place: Place, number: int, times: int) -> WordLattice:
    return WordLattice(**load_tensors(place.lattice(number, times)))
