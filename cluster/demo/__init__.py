"""The whole job once, on this machine."""
