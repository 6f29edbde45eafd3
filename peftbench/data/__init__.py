"""Files from outside: the cache, wheels, the hub, users' rows, folders of the PEFT library."""
