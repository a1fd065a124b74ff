"""The default shot detector: small networks that judge possible cuts and gradual transitions."""
