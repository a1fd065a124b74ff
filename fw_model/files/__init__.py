"""Files on a local disk: atomic writes, locks, fingerprints, weights."""
