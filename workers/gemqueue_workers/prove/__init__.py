"""``gemqueue prove``: what gemqueue takes for granted of the provider, put to the provider itself.

An assumption is a row of ``assumptions.ASSUMPTIONS``. What it needs to be judged by are looks (``looks``), which cost
nothing, and trials (``trials``), jobs that are bought. All that was seen is written to a file before and after each
effect (``state``), and pure functions (``judges``, ``row_judges``) make the verdicts of it; so the command may die at
any moment, and the same command goes on.
"""
