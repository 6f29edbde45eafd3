"""The command line, a file a command. Tables go to stdout, progress and notices to stderr."""
