"""Looking at methods, tasks, stored runs and this machine: check, verify, export, doctor."""
