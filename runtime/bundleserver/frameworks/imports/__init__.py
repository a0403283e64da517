"""When, and with what beside them, libraries are imported."""
