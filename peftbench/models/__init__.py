"""Checkpoints, the roles of their modules, and what a method does to them."""
