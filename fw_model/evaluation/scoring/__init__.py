"""From the metrics of each story to a scorecard with intervals."""
