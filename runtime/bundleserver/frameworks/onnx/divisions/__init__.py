"""Divisions of integers in ONNX graphs: by 0, or of the least one by -1, they end the process."""
