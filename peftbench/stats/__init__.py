"""Estimates, intervals and looks at data that grows."""
