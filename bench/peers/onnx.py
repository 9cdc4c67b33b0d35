"""A torch module in ONNX Runtime: `pip install onnx onnxruntime`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import torch

from bench.peers import PeerMissingError


def onnx_layer(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], np.ndarray]:
    """Return a call that gives the outputs of the module for `x`, on one thread."""
    try:
        import onnxruntime
    except ImportError:
        raise PeerMissingError("pip package onnxruntime is not installed") from None
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module, (x,), content, dynamo=False, input_names=["x"], output_names=["y", "h"]
            )
        except (ImportError, torch.onnx.errors.OnnxExporterError):
            raise PeerMissingError("pip package onnx is not installed") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        content.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": x.numpy()}
    return lambda: session.run(None, feed)[0]
