"""``make proofs`` forgets nothing."""

from __future__ import annotations

from pathlib import Path

from tests.proofs.__main__ import PROOFS

TESTS = Path(__file__).parents[1]


def test_every_proof_is_run() -> None:
    """Each command of ``tests/proofs`` that can be run by hand is among the long proofs."""
    commands = {
        file.stem for file in TESTS.glob("*.py") if 'run_module("tests.proofs.' in file.read_text(encoding="utf-8")
    }
    apart = {name for name, proof in PROOFS.items() if proof.module}
    assert commands - {"conftest"} == set(PROOFS) - apart
    assert {PROOFS[name].module for name in apart} <= {
        f"tests.proofs.{file.parent.name}" for file in TESTS.glob("proofs/*/__main__.py")
    }
