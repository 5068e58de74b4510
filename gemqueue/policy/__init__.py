"""What to do next, as pure functions over (record, event, now). The stages only carry out what is decided here.

Nothing in this folder reads a clock, calls a server or draws a random number, so every decision can be checked by
property, replayed from a record, and run in lock-step with the scripts.
"""
