"""The splat's inner loops compiled by numba, bit for bit what the numpy modules beside this package compute.

Only ``backend.compiled()`` decides whether anything in here is imported, so numba stays optional and costs nothing before the
first splat. Machine code is cached on disk by numba (``$NUMBA_CACHE_DIR``, default beside the package or in the user's cache).
Floats are float32 throughout and no sum is reordered or contracted (no ``fastmath``, one thread).
"""
