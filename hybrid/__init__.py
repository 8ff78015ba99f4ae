"""Hybrid speech recognition: a corpus comes in, a recogniser goes out.

    run = hybrid.run("an4", data="DIR")                # the stages of a recipe
    asr = hybrid.load("exp/an4")                       # a recogniser from a run's folder
    asr("a.wav").text
    hybrid.align("corpus/", "lexicon.txt", "out/")     # when each word and phone of a transcript is said

Nothing heavy is imported before it is used (hybrid/front_door.py).
"""

from typing import TYPE_CHECKING, Any, List

from hybrid.cpu import prefer_fast_kernels
from hybrid.front_door import NAMES, resolve

if TYPE_CHECKING:
    from hybrid.align.call import align as align
    from hybrid.corpus import Corpus as Corpus
    from hybrid.corpus import read_corpus as read_corpus
    from hybrid.data.feature_config import LogMel as LogMel
    from hybrid.data.feature_config import Mfcc as Mfcc
    from hybrid.data.features import FeatureExtractor as FeatureExtractor
    from hybrid.data.measured import MeasuredRooms as MeasuredRooms
    from hybrid.data.noise import NoiseLibrary as NoiseLibrary
    from hybrid.data.noise_sources import open_noises as open_noises
    from hybrid.data.noise_sources import open_rooms as open_rooms
    from hybrid.data.rooms import SimulatedRooms as SimulatedRooms
    from hybrid.decode.decoder import Decoder as Decoder
    from hybrid.decode.lattice import Lattice as Lattice
    from hybrid.decode.load import load as load
    from hybrid.decode.recogniser import Recogniser as Recogniser
    from hybrid.decode.result import Result as Result
    from hybrid.errors import HybridError as HybridError
    from hybrid.gmm.model import GmmModel as GmmModel
    from hybrid.hmm.senones import Senones as Senones
    from hybrid.lexicon.lang import Lang as Lang
    from hybrid.lexicon.lexicon import Lexicon as Lexicon
    from hybrid.lm.model import NgramModel as NgramModel
    from hybrid.parallel import WorkerPool as WorkerPool
    from hybrid.pipeline.front import open_run as open_run
    from hybrid.pipeline.front import run as run

# Before the first matrix product of the process: afterwards it has no effect.
prefer_fast_kernels()


if not TYPE_CHECKING:  # a name that is not there is an error for type checkers

    def __getattr__(name: str) -> Any:
        if name in NAMES:
            return resolve(NAMES[name])
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *NAMES})
