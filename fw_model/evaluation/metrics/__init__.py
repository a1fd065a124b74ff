"""The metrics, one file for each family: what a film's readings or pixels say."""
