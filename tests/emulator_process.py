"""The emulator as a process of its own: the class that the pytest plugin gives to everyone."""

from __future__ import annotations

from gemqueue_adapters.emulator.process import EmulatorProcess

__all__ = ["EmulatorProcess"]
