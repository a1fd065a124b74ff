"""Opening a model folder: its record, where each part lies, and the parts themselves."""
