"""A server of one's own: local processes for who has no Redis."""
