"""The native operations for CPUs, `torch.ops.headmix.*`: C++ sources, and how they are built and loaded.

All .cpp files here form one library; each registers its own operations with STABLE_TORCH_LIBRARY_FRAGMENT.
"""
