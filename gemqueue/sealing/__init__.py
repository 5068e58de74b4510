"""Sealing: what holds a prompt, an answer or a name is encrypted before it goes to Redis. No I/O but a key's file."""
