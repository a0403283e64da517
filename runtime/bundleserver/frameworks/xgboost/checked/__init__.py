"""Checks of a model's content before XGBoost reads it: its own readers trust every number."""
