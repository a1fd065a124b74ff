"""The HTTP handlers, a file for each kind of resource."""
