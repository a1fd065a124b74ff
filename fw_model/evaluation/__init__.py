"""How good a film is: one file per metric, each checked on films whose truth is known."""
