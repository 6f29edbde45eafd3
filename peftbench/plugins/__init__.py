"""Methods, tasks, reports and experiments by name: the registry, the loader, the contracts, the decorators."""
