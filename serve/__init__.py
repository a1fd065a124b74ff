"""Stories over HTTP on Ray Serve: durable jobs, leases and the shared keyframe store."""
