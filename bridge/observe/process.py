"""CPU, memory and open files of this process, also where systemd hides the rest of /proc."""

from __future__ import annotations

import time

from prometheus_client.process_collector import ProcessCollector


class ThisProcess(ProcessCollector):
    """The library's collector, which reads when the machine booted from ``/proc/stat``.

    With ``ProcSubset=pid`` there is no such file, and the library would show nothing at all;
    the kernel's clocks know it too.
    """

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
