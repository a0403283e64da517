"""Sends a row of two columns to a model by gRPC from inside a pod, and prints the answer.

Runs with the image's own Python, so it imports nothing of the tests'.
"""

import sys

import grpc

from bundleserver.serving.grpc import open_inference as v2

if __name__ == "__main__":
    address, host, model = sys.argv[1:]
    request = v2.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="input-0", datatype="FP64", shape=[1, 2])
    tensor.contents.fp64_contents.extend([0.1, 0.2])
    with grpc.insecure_channel(address, options=[("grpc.default_authority", host)]) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            v2.ModelInferRequest.SerializeToString,
            v2.ModelInferResponse.FromString,
        )
        answer = infer(request, timeout=30, wait_for_ready=True)
    sys.stdout.write(f"{answer.outputs[0].contents.int64_contents[0]}\n")
