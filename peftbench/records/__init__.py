"""What is planned, what came of it, and where it is kept."""
