"""Other names for what is in hybrid/fst.py."""

from __future__ import annotations

from hybrid.fst import Graph, const, from_bytes, to_bytes
from hybrid.fst import add_word_penalty as add_cost_per_word
from hybrid.fst import to_arrays as read_arcs

__all__ = ["Graph", "add_cost_per_word", "const", "from_bytes", "read_arcs", "to_bytes"]
