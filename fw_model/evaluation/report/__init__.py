"""The scorecard as text, pictures and a page."""
