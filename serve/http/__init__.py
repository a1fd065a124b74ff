"""The HTTP API: routes, schemas, problems, event streams."""
