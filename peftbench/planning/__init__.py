"""From a request to runs that are checked before anything runs."""
