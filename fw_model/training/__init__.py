"""Teaching a backbone to read the caches: data, plan, step, loop and engines."""
