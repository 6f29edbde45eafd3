"""What a task asks of a model, and its metrics."""
