"""The caller's side: a ``Queue`` in the caller's process, from a prompt at the door to its answer."""
