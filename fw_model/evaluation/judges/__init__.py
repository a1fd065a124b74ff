"""The models that look at films, and their settings."""
