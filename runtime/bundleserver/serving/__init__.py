"""The edge: V1, V2 and gRPC in, answers out; the only floor that imports kserve and grpc."""
