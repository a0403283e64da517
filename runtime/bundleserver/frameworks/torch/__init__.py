"""PyTorch: exported programs, TorchScript, state dicts."""
