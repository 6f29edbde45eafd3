"""From records to rows, pairs, limits and advice."""
