//! Runs ONNX models in a process of its own: tensors, embeddings, text generation, and evidence of each.
