"""What prompts, rows and outcomes are written in. Pure."""
