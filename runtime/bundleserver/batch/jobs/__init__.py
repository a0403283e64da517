"""Files scored by worker processes, which open the model once each."""
