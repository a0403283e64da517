"""Several processes on one port: a supervisor that loads nothing, and workers that agree."""
