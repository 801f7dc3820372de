"""This machine: what tells it from others, and what leads to it."""

import math
import os
import socket
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from uuid import getnode

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LOCAL_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}


@cache
def machine() -> str:
    """The same for all processes that have one loopback address, and for no others.

    On Linux it is another one after a restart, and in each container.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        where = f"{boot}/{os.readlink('/proc/self/ns/net')}"
    except OSError:
        where = f"{getnode():x}"
    return f"{socket.gethostname()}/{where}"


def memory_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """The memory that this process and its children may use: the machine's, or the container's."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(limit.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return whole


def cores(quota: Path = _QUOTA) -> int:
    """Processors that this process may use: the scheduler's, or a container's quota; 1 at least."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        most, period = quota.read_text().split()
        count = min(count, math.ceil(int(most) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        pass
    return max(count, 1)


def is_loopback(host: str) -> bool:
    """Whether a name or address means the machine that says it, such as localhost or 0.0.0.0."""
    name = host.lower().rstrip(".")
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ip_address(socket.inet_aton(name))  # such as 127.1
        except OSError:
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified
