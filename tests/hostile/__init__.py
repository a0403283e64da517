"""What a client, a file or a registry may send, and what never stops the server."""
