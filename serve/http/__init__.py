"""The HTTP API: routes, schemas, problem documents, event streams."""
