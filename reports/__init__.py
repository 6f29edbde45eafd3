"""Reports, one a file. Installed as `peftbench.reports`; ask the registry for them by name."""
