"""What the process itself logs, and how logging is set up."""
