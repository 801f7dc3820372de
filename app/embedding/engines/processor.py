"""What the processor can do."""

from pathlib import Path

_BF16 = frozenset({"avx512_bf16", "amx_bf16"})


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether it multiplies in bf16, as far as Linux tells; elsewhere False."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return not _BF16.isdisjoint(flags.split())
