"""The command ``python -m tests.liepoints``; what it runs is in ``tests/proofs``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("tests.proofs.liepoints", run_name="__main__", alter_sys=True)
