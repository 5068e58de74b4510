"""Producers, workers, a server and a provider under every fault at once, and the judge of what comes of it."""
