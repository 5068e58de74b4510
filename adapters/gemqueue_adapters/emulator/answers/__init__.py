"""What the emulator answers."""
