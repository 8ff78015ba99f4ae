"""What streaming costs in words: errors of streams beside those of whole utterances, by what a stream waits for.

    python -m benchmarks.streaming EXP [--system lfmmi] [--set dev] [--chunks 8+8 16+16 24+24] [--global 0 50 200]

EXP: a run that has been decoded, with a network. Its stored features are normalised, computed and decoded as streams
are: by the running mean, which begins with so many frames of the training set's (`--global`), and in chunks of network
frames with so many more to the right (`--chunks`, of a bidirectional LSTM; of others chunks alone). Printed, in percent
of the reference's words, for each noise condition of the set: whole utterances with the mean that the network was
trained with; the network whole and the running mean, of each utterance alone and of a speaker's one after another; and
chunks, with the mean of training. Choose on dev: that is the default.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
from lhotse import CutSet

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.data.online_cmvn import OnlineCmvn
from hybrid.decode.acoustics import NetworkAcoustics, load_acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.trained import System, find_search, systems
from hybrid.errors import ConfigError
from hybrid.lexicon.lang import Lang
from hybrid.online.features import FrameStack
from hybrid.online.network import ChunkConfig, OnlineNetwork, chunked_loglikes
from hybrid.pipeline.sets import speakers_of
from hybrid.score.wer import score

Arrays = Dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--system", default="lfmmi")
    parser.add_argument("--set", default="dev")
    parser.add_argument("--chunks", nargs="+", default=["8+8", "16+16", "24+24", "24+48", "48+24"], type=chunk_of)
    parser.add_argument("--global", nargs="+", default=[0, 25, 50, 100, 200], type=int, dest="global_frames")
    options = parser.parse_args()
    system = systems(options.exp).get(options.system)
    acoustics = load_acoustics(system.model, True) if system is not None and system.network else None
    if system is None or not isinstance(acoustics, NetworkAcoustics):
        raise ConfigError(f"no network {options.system} in {options.exp}", remedy="give a network of its tables")
    conditions = sorted(
        folder.name[len(options.set) + 1 :] for folder in (options.exp / "features").glob(f"{options.set}_*")
    )
    sets = [Set(options.exp, system, acoustics, options.set, condition) for condition in conditions]
    print(f"{'':40}" + "".join(f"{condition:>12}" for condition in conditions))

    def row(title: str, make: Callable[[Set], Arrays]) -> None:
        print(f"{title:40}" + "".join(f"{one.errors(make(one)):12.2f}" for one in sets), flush=True)

    row("whole, mean of training", Set.whole)
    for frames in options.global_frames:
        row(f"whole, running mean, {frames} global", partial(Set.running_mean, frames=frames, speaker=False))
        row(f"  of a speaker, {frames} global", partial(Set.running_mean, frames=frames, speaker=True))
    for chunk in options.chunks:
        title = f"chunks of {chunk.chunk} + {chunk.right_context}, mean of training"
        row(title, partial(Set.in_chunks, chunk=chunk))


def chunk_of(text: str) -> ChunkConfig:
    chunk, _, right = text.partition("+")
    return ChunkConfig(int(chunk), int(right or 0))


class Set:
    """One test set: its features, the references, and how the run decodes it."""

    def __init__(self, exp: Path, system: System, acoustics: NetworkAcoustics, name: str, condition: str) -> None:
        kind = kind_of(acoustics.features)
        cuts, self._features = read_arrays(exp / "features" / f"{name}_{condition}" / kind, kind)
        self._cuts: CutSet = cuts
        self._acoustics, self._lang = acoustics, Lang.load(exp / "lang")
        self._speakers = speakers_of(cuts)
        self._point = find_search(exp, system, condition, acoustics.scale)
        self._decoder = Decoder(
            system.graph, beam=self._point.beam, max_active=self._point.max_active,
            word_penalty=self._point.word_penalty,
        )  # fmt: skip
        self._names = {number: word for word, number in self._lang.words.items()}
        self._references = {cut.id: " ".join(one.text or "" for one in cut.supervisions).split() for cut in cuts}
        self._read = acoustics.network_input(self._features, self._speakers)

    def whole(self) -> Arrays:
        """Log-likelihoods as the run computes them, of whole utterances."""
        return {name: self._acoustics.outputs(x) for name, x in self._read.items()}

    def in_chunks(self, chunk: ChunkConfig) -> Arrays:
        """Log-likelihoods of chunks, with the mean of training."""
        network = OnlineNetwork(self._acoustics.model, chunk, self._acoustics.priors)
        return {name: chunked_loglikes(network, x) for name, x in self._read.items()}

    def running_mean(self, frames: int, speaker: bool) -> Arrays:
        """Log-likelihoods of whole utterances, the running mean taken off, of a speaker's one after another or alone;
        it begins with so many frames of the training set's."""
        config = replace(self._acoustics.online_cmvn, global_frames=frames)
        means: Dict[str, OnlineCmvn] = {}
        loglikes = {}
        for cut in self._cuts:
            mean = means.setdefault(self._speakers[cut.id] if speaker else cut.id, OnlineCmvn(config))
            x = mean.apply(self._features[cut.id])
            mean.next_utterance()
            stack = FrameStack(self._acoustics.frame_subsampling_factor)
            read = np.concatenate([stack.accept(x), stack.finish(x.shape[1])])
            loglikes[cut.id] = self._acoustics.outputs(read)
        return loglikes

    def errors(self, loglikes: Arrays) -> float:
        """The word error rate in percent."""
        words: Dict[str, List[str]] = {}
        for name, rows in loglikes.items():
            path = self._decoder.decode(rows, self._point.acoustic_scale, name)
            words[name] = self._lang.words_of(self._names[number] for number in path.words)
        return score(self._references, words).wer


if __name__ == "__main__":
    main()
