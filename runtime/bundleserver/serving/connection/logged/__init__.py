"""What a log has of requests: no secrets, and who sent them."""
