"""Time and memory of a step on the processor or on an accelerator."""

import os
import time
from pathlib import Path

import torch

__all__ = ["exact_memory", "peak_bytes", "restart_peak", "seconds"]


def seconds(device: str) -> float:
    """A clock: processor time, as wall time says little on a shared machine; wall time at rest on an accelerator."""
    if device == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


def restart_peak(device: str) -> None:
    """Peak memory is counted from here on."""
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")
    else:
        torch.accelerator.reset_peak_memory_stats()


def peak_bytes(device: str, now: bool = False) -> float:
    """Peak memory of this process, the resident one on the processor.

    Args:
        device: ``cpu`` or an accelerator's name.
        now: What is held now instead of the peak.
    """
    if device == "cpu":
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return 1024.0 * float(lines["VmRSS" if now else "VmHWM"].split()[0])
    return float(torch.accelerator.memory_allocated() if now else torch.accelerator.max_memory_allocated())


def exact_memory() -> None:
    """Lets the C library hand freed tensors back at once, in processes started from now on."""
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "65536")
