"""V1 and V2 over REST: the routes, and HTTP as they see it."""
