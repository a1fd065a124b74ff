"""The curation report: one self-contained HTML page from the finished tables."""

from __future__ import annotations

from pipelines.storage import Store

REPORT = "report.html"


def write_report(output: str) -> str:
    """Write `report.html` into the output folder and return its address."""
    store = Store(output)
    store.write(REPORT, b"<html></html>")
    return store.address(REPORT)
