"""Published figures of the GPUs that `launcher.gpu` can name."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """memory: GiB, as the driver reports them. tflops: peak of dense bfloat16 matrix multiplication. bandwidth: of its memory,
    GB a second."""

    memory: float
    tflops: float
    bandwidth: float


# NVIDIA's data sheets: the figures without sparsity, SXM versions where there are several.
DEVICES = {
    "L40S-48GB": Device(45.0, 362.0, 864.0),
    "A100-40GB": Device(40.0, 312.0, 1555.0),
    "A100-80GB": Device(80.0, 312.0, 2039.0),
    "H100-80GB": Device(79.6, 989.0, 3350.0),
    "H200-141GB": Device(140.4, 989.0, 4800.0),
    "B200-180GB": Device(179.1, 2250.0, 8000.0),
}

CONTEXT = 1.5 * GIB  # CUDA's context, its loaded kernels, NCCL's buffers: assumed
FRAGMENTATION = 0.06  # of the memory that the allocator holds and cannot give out: assumed


def peak_flops(name: str) -> float | None:
    """FLOP/s of one GPU by the name that its driver gives it, `NVIDIA H100 80GB HBM3`; None of one that is not above."""
    return next((device.tflops * 1e12 for key, device in DEVICES.items() if key.partition("-")[0] in name), None)


def usable(device: Device) -> float:
    """Bytes that tensors can take."""
    return (device.memory * GIB - CONTEXT) * (1 - FRAGMENTATION)
