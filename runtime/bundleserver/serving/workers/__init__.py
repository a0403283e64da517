"""Several worker processes on one port, and the supervisor that they agree through."""
