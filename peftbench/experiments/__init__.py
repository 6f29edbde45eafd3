"""Pages of experiments: tables, pictures, and statements with their verdicts."""
