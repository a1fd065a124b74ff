"""How good a film is: one file a metric, each pure, each checked on films whose truth is known."""
