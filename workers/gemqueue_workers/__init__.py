"""The processes: pack, submit, track, resolve, and the command line."""
