"""Ensembles that combine the votes of named members."""
