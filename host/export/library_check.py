"""Runs a compiled library once: `python -m ... LIBRARY.so IMAGES.npy OUTPUTS.npy`."""

from __future__ import annotations

import sys

import numpy as np


def main(library: str, images: str, outputs: str) -> None:
    """Run the library on images and write what it returns.

    Args:
        library: Made by TVM for this machine.
        images: A numpy file with the input.
        outputs: Where the first output goes, likewise.
    """
    import tvm
    from tvm.runtime.vm import VirtualMachine

    machine = VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(np.load(images)))
    first = found if hasattr(found, "numpy") else found[0]
    np.save(outputs, first.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
