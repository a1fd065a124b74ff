"""Durable state: SQL rows (SQLite or PostgreSQL) and content-addressed blobs."""
