"""One file a metric: what a film's readings or pixels say."""
