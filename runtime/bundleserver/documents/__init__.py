"""JSON documents that people write by hand: strict parsing, and forms with clear messages."""
