"""What to do next, as pure functions over (record, event, now)."""
