"""Training a backbone to use the caches: data, plan, step, loop and engines."""
