"""Forced alignment of a corpus: `hybrid align CORPUS LEXICON OUT` (hybrid/align/run.py reads top to bottom)."""
