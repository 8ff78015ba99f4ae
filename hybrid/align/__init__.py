"""Forced alignment of a corpus: `hybrid align CORPUS LEXICON OUT` (hybrid/align/run.py reads top to bottom).

The package can be called: `hybrid.align("corpus/", "lexicon.txt", "out/")` (call.py).
"""

from hybrid.front_door import callable_module

callable_module(__name__, "hybrid.align.call:align")
