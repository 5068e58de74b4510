"""The keys of a sealed queue in Redis, and what is locked and opened under them."""
