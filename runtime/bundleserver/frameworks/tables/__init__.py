"""Tables of models: which columns a model takes, and how tensors become its table."""
