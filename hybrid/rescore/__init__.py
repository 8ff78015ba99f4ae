"""Rescoring of n-best lists."""
