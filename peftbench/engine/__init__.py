"""Carries planned runs to processes and listens to them."""
