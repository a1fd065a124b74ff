"""Published curated tables in the formats that other tools read; one file per format."""
