"""Prophet models."""
