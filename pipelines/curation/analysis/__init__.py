"""Phase analyze: one decode pass per video gives shots, keyframes and measurements."""
