"""The names that `import hybrid` offers, and where each is; nothing of them is imported before it is used.

Two of them are functions and packages at once: `hybrid.align(corpus, lexicon, out)` aligns, `hybrid.align.run` is a
module below it; so with `hybrid.run`. A module can be called where its type says how (`callable_module`).
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Dict

# name -> module:name in it; of a module alone, the module itself
NAMES: Dict[str, str] = {
    "run": "hybrid.run",
    "align": "hybrid.align",
    "load": "hybrid.decode.load:load",
    "open_run": "hybrid.pipeline.front:open_run",
    "Recogniser": "hybrid.decode.recogniser:Recogniser",
    "Result": "hybrid.decode.result:Result",
    "Corpus": "hybrid.corpus:Corpus",
    "read_corpus": "hybrid.corpus:read_corpus",
    "Lexicon": "hybrid.lexicon.lexicon:Lexicon",
    "Lang": "hybrid.lexicon.lang:Lang",
    "NgramModel": "hybrid.lm.model:NgramModel",
    "GmmModel": "hybrid.gmm.model:GmmModel",
    "Senones": "hybrid.hmm.senones:Senones",
    "Decoder": "hybrid.decode.decoder:Decoder",
    "Lattice": "hybrid.decode.lattice:Lattice",
    "FeatureExtractor": "hybrid.data.features:FeatureExtractor",
    "LogMel": "hybrid.data.feature_config:LogMel",
    "Mfcc": "hybrid.data.feature_config:Mfcc",
    "NoiseLibrary": "hybrid.data.noise:NoiseLibrary",
    "open_noises": "hybrid.data.noise_sources:open_noises",
    "open_rooms": "hybrid.data.noise_sources:open_rooms",
    "MeasuredRooms": "hybrid.data.measured:MeasuredRooms",
    "SimulatedRooms": "hybrid.data.rooms:SimulatedRooms",
    "HybridError": "hybrid.errors:HybridError",
    "WorkerPool": "hybrid.parallel:WorkerPool",
}


def resolve(place: str) -> Any:
    """Import what stands at "module:name", or the module at "module"."""
    module_name, _, name = place.partition(":")
    module = import_module(module_name)
    return getattr(module, name) if name else module


def callable_module(module: str, place: str) -> None:
    """Let the module of that name be called as the function at `place`, which is imported at the first call."""

    class CallableModule(ModuleType):
        def __call__(self, *arguments: Any, **named: Any) -> Any:
            return resolve(place)(*arguments, **named)

    sys.modules[module].__class__ = CallableModule
