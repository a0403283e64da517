"""The V2 protocol over gRPC: the only package that imports grpc."""

import os

# Read when grpc is imported. Its default writes a line for each handshake that fails, past every
# logger: that of a collector without TLS fails at each try.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
