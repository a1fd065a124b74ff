"""Shot detectors, a plug-in point: see base.py for the protocol."""
