"""Commands that look after a queue: batches, show, cancel, purge, config, doctor."""
