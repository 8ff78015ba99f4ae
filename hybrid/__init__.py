from hybrid.cpu import prefer_fast_kernels

# Before the first matrix product of the process: afterwards it has no effect.
prefer_fast_kernels()
