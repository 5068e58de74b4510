"""The command ``python -m tests.webhooks_latency``; what it runs is in ``tests/proofs``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("tests.proofs.webhooks_latency", run_name="__main__", alter_sys=True)
