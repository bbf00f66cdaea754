"""The adapters' terms on CUDA: Triton kernels that read adapter images where they lie."""
