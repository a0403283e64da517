"""A model of onnxruntime for MLServer, which has no runtime of its own for it."""

from __future__ import annotations

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxModel(MLModel):
    """One graph with one input, in a session as onnxruntime makes it for one thread."""

    async def load(self) -> bool:
        """Open the file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = await get_model_uri(self._settings)
        self._session = onnxruntime.InferenceSession(path, options)
        self._input = self._session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer with every output of the graph."""
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        names = [output.name for output in self._session.get_outputs()]
        values = self._session.run(names, {self._input: rows})
        outputs = [NumpyCodec.encode_output(name, v) for name, v in zip(names, values)]  # noqa: B905
        return InferenceResponse(model_name=self.name, outputs=outputs)
