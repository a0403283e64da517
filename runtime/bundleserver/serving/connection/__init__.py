"""Connections of REST clients; the only package that imports uvicorn."""
