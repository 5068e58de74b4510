"""The plan of the house, measured from its own imports."""
