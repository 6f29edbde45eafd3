"""One run from load to record."""
