"""Attacks: what a client, a file or a registry sends stops nothing."""
