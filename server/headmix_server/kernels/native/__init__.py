"""The native operations for CPUs, `torch.ops.headmix.*`: C++ sources, their building and loading.

Every .cpp file here is part of one library and registers its own operations with STABLE_TORCH_LIBRARY_FRAGMENT.
"""
