"""Bytes to arrays and back: V1, V2 and their tensors; no codec knows a manager."""
