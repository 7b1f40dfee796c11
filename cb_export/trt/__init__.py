"""From ONNX to a TensorRT engine, with either flavour, on machines with and without a GPU."""
