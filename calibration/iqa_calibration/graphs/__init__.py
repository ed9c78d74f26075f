"""ONNX graphs: read, run and finish them, and know who makes and who reads each tensor."""
