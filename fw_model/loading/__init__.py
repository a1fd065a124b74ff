"""Opening a model folder: its record, where each part is, and the parts themselves."""
