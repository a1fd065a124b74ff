"""Models that look at films, and their settings."""
