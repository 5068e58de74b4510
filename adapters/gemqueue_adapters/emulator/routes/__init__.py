"""The emulator's HTTP: one file per group of routes."""
