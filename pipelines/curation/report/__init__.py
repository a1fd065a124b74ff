"""The curation report: counts, contact sheets, Prometheus series."""
