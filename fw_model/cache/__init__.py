"""FilmWeaver's two caches, and the segments that the transformer reads from them."""
