"""IN: opened, and read as rows."""
