"""What the emulated service holds: files, jobs, models and the ledger."""
