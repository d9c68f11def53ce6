"""The machine that figures were measured on."""

import os
import platform
from pathlib import Path
from typing import Any

import jax


def describe_machine() -> dict[str, Any]:
    """Describes processor, device and versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [ln.split(":")[1] for ln in cpuinfo.read_text().splitlines() if "model name" in ln]
        model = names[0].strip() if names else model
    device = jax.devices()[0]
    return {
        "processor": model,
        "cores": os.cpu_count() or 0,
        "device": device.device_kind,
        "backend": device.platform,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
