"""The report of a run as a page, and its results as Markdown."""

from __future__ import annotations

from hybrid.report.markdown import write_results_md
from hybrid.report.page import write_report

__all__ = ["write_report", "write_results_md"]
