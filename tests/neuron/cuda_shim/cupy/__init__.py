"""A stand-in for CuPy that runs CUDA kernels on the CPU, one thread after another.

A first pass collects the kernels, `compile_all` builds them with g++ as one library,
and a second pass runs them. `__syncthreads` is a barrier among real threads.
"""

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np

PRELUDE = r"""
#include <math.h>
#include <barrier>
#include <thread>
#include <vector>
struct Index { int x, y, z; };
static thread_local Index threadIdx, blockIdx;
static thread_local Index blockDim, gridDim;
static thread_local std::barrier<>* at_sync;
#define __global__
#define __shared__ static
#define __syncthreads() at_sync->arrive_and_wait()
static void atomicAdd(float* sum, float value) { *sum += value; }
template <class Kernel> static void launch(int blocks, int threads, Kernel kernel) {
  for (int block = 0; block < blocks; ++block)
    for (int thread = 0; thread < threads; ++thread) {
      blockIdx.x = block; threadIdx.x = thread; blockDim.x = threads;
      kernel();
    }
}
template <class Kernel> static void launch_synced(int blocks, int n, Kernel kernel) {
  for (int block = 0; block < blocks; ++block) {
    std::barrier<> barrier(n);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < n; ++thread)
      threads.emplace_back([&, thread] {
        at_sync = &barrier;
        blockIdx.x = block; threadIdx.x = thread; blockDim.x = n;
        kernel();
      });
    for (auto& one : threads) one.join();
  }
}
"""
FLAGS = ("-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread")

_sources: dict[str, str] = {}
_names: dict[str, str] = {}
_library = None


class _Device:
    id = -1


class ndarray(np.ndarray):
    """A NumPy array on the device that torch numbers -1, which is the CPU."""

    device = _Device()


def asarray(value, dtype=None):
    """Make an array."""
    return np.ascontiguousarray(value, dtype=dtype).view(ndarray)


def ascontiguousarray(value):
    """Make an array contiguous."""
    return value


class RawKernel:
    """A kernel by its source, run on raw addresses."""

    def __init__(self, code, name, options=(), backend="nvrtc"):
        if code not in _names:
            _names[code] = f"{name}_{len(_names)}"
            # The header serves half precision, of which no kernel here makes use.
            source = code.replace("#include <cuda_fp16.h>", "")
            _sources[_names[code]] = re.sub(rf"\b{name}\b", _names[code], source)
        self._name = _names[code]

    def __call__(self, grid, block, args):
        """Launch it."""
        if _library is None:
            return
        addresses = [
            arg.ctypes.data if isinstance(arg, np.ndarray) else int(arg) for arg in args
        ]
        pointers = (ctypes.c_void_p * len(addresses))(*addresses)
        getattr(_library, f"launch_{self._name}")(grid[0], block[0], pointers)


def sources():
    """The kernels that were collected, each under a name of its own.

    Returns:
        CUDA source by kernel name.
    """
    return dict(_sources)


def compile_all(folder):
    """Build what was collected; from now on kernels run."""
    global _library
    parts = [PRELUDE]
    for name, source in _sources.items():
        count = source[source.index("(") : source.index("{")].count(",") + 1
        pointers = ", ".join(["void*"] * count)
        given = ", ".join(f"args[{i}]" for i in range(count))
        launch = "launch_synced" if "__syncthreads" in source else "launch"
        parts.append(source)
        # A reference is passed as a pointer is.
        parts.append(
            f'extern "C" void launch_{name}(int blocks, int threads, void** args) {{\n'
            f"  auto kernel = reinterpret_cast<void (*)({pointers})>(&{name});\n"
            f"  {launch}(blocks, threads, [=] {{ kernel({given}); }});\n}}\n"
        )
    path = Path(folder) / "kernels.cpp"
    path.write_text("\n".join(parts))
    library = path.with_suffix(".so")
    subprocess.run(
        ["g++", *FLAGS, "-o", str(library), str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    _library = ctypes.CDLL(str(library))
