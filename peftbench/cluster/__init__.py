"""A Ray cluster: the process that talks to it, what that starts on a node, and files that travel there."""
