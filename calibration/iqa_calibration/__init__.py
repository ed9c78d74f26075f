"""ONNX to ONNX: what is done to an exported graph on any CPU, without the network it came from."""
