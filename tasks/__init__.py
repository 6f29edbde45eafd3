"""Tasks, one a file. Installed as `peftbench.tasks`; ask the registry for them by name."""
