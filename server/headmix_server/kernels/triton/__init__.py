"""The adapters' terms on CUDA: Triton kernels that read adapter images in place."""
