"""A request for a comparison: planned, tuned, run, extended by seeds."""
