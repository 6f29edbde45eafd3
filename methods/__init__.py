"""Fine-tuning methods, one a file. Installed as `peftbench.methods`; ask the registry for them by name."""
