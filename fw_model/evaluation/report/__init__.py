"""The scorecard as a table, plots, films and a page."""
