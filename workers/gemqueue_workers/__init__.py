"""The processes: pack, submit, track, resolve, rescue, and the command line."""
