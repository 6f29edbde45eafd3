"""The meters: parameters, memory, step time and inference latency."""
