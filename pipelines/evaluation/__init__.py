"""Filming stories on Ray, and the judges and suites that it needs."""
