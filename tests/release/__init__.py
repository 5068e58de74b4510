"""A release, built and tried out: ``python -m tests.release``."""
