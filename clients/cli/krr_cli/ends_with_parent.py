"""Becomes a command that is killed when its parent is gone: even a supervisor killed with -9
leaves nothing behind.

    python ends_with_parent.py PARENT_PID COMMAND...

A program of its own, since code between fork and exec is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have gone before that took effect.
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(command[0], command)


main()
