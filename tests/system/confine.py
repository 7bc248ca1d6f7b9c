"""Becomes a service as the unit file says, then runs its program. What systemd does, by hand.

    python confine.py SETTINGS PROGRAM ARGUMENTS...

systemd is process 1 nowhere where tests run, so a unit that is too strict would only show on
an operator's machine. This applies what can hurt: the user, the mounts of ProtectSystem=strict,
ProtectHome=, PrivateTmp=, PrivateDevices=, ProtectProc= and ProcSubset=, no capabilities, the
limits, and as seccomp filters the system calls, address families and MemoryDenyWriteExecute=.
Not applied: PrivateUsers=, RestrictNamespaces=, RestrictSUIDSGID=, ProtectHostname=,
ProtectClock= and the cgroup's settings. SETTINGS is a JSON object (`Confinement`). Standard
library only; runs as root, in a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import json
import os
import pwd
import resource
import sys
from pathlib import Path
from typing import Any, TypedDict

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 1, 2, 4, 32, 4096
MS_MOVE, MS_REC, MS_PRIVATE = 8192, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
LAST_CAPABILITY = 40
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
SCMP_ACT_ALLOW, SCMP_CMP_NE, SCMP_CMP_MASKED_EQ = 0x7FFF0000, 1, 7
EPERM, EAFNOSUPPORT = 1, 97
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

libc = ctypes.CDLL(None, use_errno=True)


class Confinement(TypedDict):
    """The settings of a unit that are applied here."""

    user: str
    group: str
    environment: dict[str, str]
    working_directory: str
    state: str
    umask: int
    limits: dict[str, int]
    families: list[str]
    system_calls: list[str]


def must(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (text.encode() for text in (source, target, kind))
    must(libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def private_view(state: str) -> None:
    """A read-only machine with a /tmp of its own, no homes, few devices, and *state* to write."""
    must(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount(state, state, "", MS_BIND)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV, "hidepid=invisible,subset=pid")
    for folder in ("/tmp", "/var/tmp"):
        mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for folder in ("/home", "/root"):
        if Path(folder).is_dir():
            mount("tmpfs", folder, "tmpfs", MS_RDONLY, "mode=000")
    devices()
    for folder in ("/sys", "/"):
        mount("none", folder, "", MS_REMOUNT | MS_BIND | MS_RDONLY)


def devices() -> None:
    new = Path("/tmp/dev")
    new.mkdir()
    mount("tmpfs", str(new), "tmpfs", MS_NOSUID, "mode=755")
    for name in DEVICES:
        (new / name).touch()
        mount(f"/dev/{name}", str(new / name), "", MS_BIND)
    (new / "shm").mkdir()
    mount("tmpfs", str(new / "shm"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    (new / "log").touch()
    mount(str(new), "/dev", "", MS_MOVE)


def become(user: str, group: str) -> None:
    """The user, without groups, capabilities or a way to get any."""
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    gid = grp.getgrnam(group).gr_gid
    os.setresgid(gid, gid, gid)
    uid = pwd.getpwnam(user).pw_uid
    os.setresuid(uid, uid, uid)
    must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``"""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class Filter:
    """One seccomp filter; what it has no rule for gets *otherwise*."""

    def __init__(self, otherwise: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(otherwise)))

    def rule(self, action: int, call: str, *comparisons: Comparison) -> None:
        """Add a rule; a call that this machine does not have is left out."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        array = (Comparison * len(comparisons))(*comparisons)
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        if done != 0:
            raise OSError(-done, f"seccomp rule for {call}")

    def load(self) -> None:
        """Put the filter in force, for good."""
        if self._library.seccomp_load(self._context) != 0:
            raise OSError("seccomp_load")


def refused(error: int) -> int:
    return 0x00050000 | error  # SCMP_ACT_ERRNO


def filters(families: list[str], system_calls: list[str]) -> None:
    """The three filters; the list of calls last, because it may forbid loading filters."""
    socket = Filter(SCMP_ACT_ALLOW)
    # One family: "not equal" to all allowed ones needs a chain that libseccomp cannot write,
    # so every other family of the kernel is named.
    allowed = {FAMILIES[name] for name in families}
    for family in set(range(46)) - allowed:
        same = Comparison(0, 4, family, 0)  # SCMP_CMP_EQ
        socket.rule(refused(EAFNOSUPPORT), "socket", same)
    memory = Filter(SCMP_ACT_ALLOW)
    both = PROT_WRITE | PROT_EXEC
    memory.rule(refused(EPERM), "mmap", Comparison(2, SCMP_CMP_MASKED_EQ, both, both))
    for call in ("mprotect", "pkey_mprotect"):
        executable = Comparison(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC)
        memory.rule(refused(EPERM), call, executable)
    memory.rule(refused(EPERM), "shmat", Comparison(2, SCMP_CMP_MASKED_EQ, SHM_EXEC, SHM_EXEC))
    calls = Filter(refused(EPERM))
    for call in system_calls:
        calls.rule(SCMP_ACT_ALLOW, call)
    for one in (socket, memory, calls):
        one.load()


def main() -> None:
    settings: Confinement = json.loads(sys.argv[1])
    program = sys.argv[2:]
    for name, value in settings["limits"].items():
        limit: Any = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        with contextlib.suppress(ValueError):  # a root that may not raise limits
            resource.setrlimit(limit, (value, value))
            continue
        resource.setrlimit(limit, (min(value, hard), hard))
    private_view(settings["state"])
    os.umask(settings["umask"])
    os.chdir(settings["working_directory"])
    become(settings["user"], settings["group"])
    if settings["system_calls"]:
        filters(settings["families"], settings["system_calls"])
    os.execve(program[0], program, settings["environment"])


if __name__ == "__main__":
    main()
