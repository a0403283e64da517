"""The V2 protocol over gRPC: the only package that imports grpc."""
