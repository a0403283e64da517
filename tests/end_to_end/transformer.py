"""A transformer as KServe has them, with spans of its own: one that asks over REST, one over gRPC.

Usage: transformer.py REST GRPC COLLECTOR [flags, which KServe reads from the command line itself]
"""

import sys

import kserve
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REST, GRPC, COLLECTOR = sys.argv[1:4]
PROPAGATOR = TraceContextTextMapPropagator()
PROVIDER = TracerProvider(resource=Resource({"service.name": "transformer"}))
PROVIDER.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(COLLECTOR)))
TRACER = PROVIDER.get_tracer("transformer")


class Transformer(kserve.Model):
    """Doubles the values, and asks the predictor."""

    def load(self):
        self.ready = True
        return self.ready

    async def predict(self, payload, headers=None, response_headers=None):
        context = PROPAGATOR.extract(dict(headers or {}))
        with TRACER.start_as_current_span(f"transform {self.name}", context=context):
            carrier = {}
            PROPAGATOR.inject(carrier)
            values = np.array(payload["instances"], np.float64) * 2
            tensor = InferInput("x", list(values.shape), "FP64")
            tensor.set_data_from_numpy(values, binary_data=False)
            request = InferRequest("times", [tensor])
            response = await self.ask(request, carrier)
        return {"predictions": response.outputs[0].as_numpy().tolist()}


class OverRest(Transformer):
    """Asks over V2's REST."""

    async def ask(self, request, carrier):
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            return await client.infer(REST, request, model_name="times", headers=carrier)


class OverGrpc(Transformer):
    """Asks over gRPC."""

    async def ask(self, request, carrier):
        async with InferenceGRPCClient(GRPC) as client:
            return await client.infer(request, headers=list(carrier.items()))


models = [OverRest("over_rest"), OverGrpc("over_grpc")]
for model in models:
    model.load()
kserve.ModelServer().start(models)
