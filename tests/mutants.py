"""The command ``python -m tests.mutants``; what it runs is in ``tests/proofs``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("tests.proofs.mutants", run_name="__main__", alter_sys=True)
