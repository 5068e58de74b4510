"""What a worker process does beside its stages: sweeping, arq, recovery, comparison with the provider."""
