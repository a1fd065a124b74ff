"""Optimizers that torch does not ship."""
