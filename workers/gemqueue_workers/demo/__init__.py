"""``gemqueue demo``."""
