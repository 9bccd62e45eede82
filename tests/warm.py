"""Control processes that start at once: what control imports is loaded here one time, and each start is a fork of it.

python tests/warm.py    reads lines of arguments as JSON, forks a control process for each, and writes its pid

The child is control as ever: its own session, its own files, its own end. Only the second that imports take is saved.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import ciranda.web.__main__ as control


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            for descriptor in (1, 2):
                os.dup2(log, descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.argv = ["ciranda.web", *asked["argv"]]
            os._exit(control.main())
        print(pid, flush=True)


if __name__ == "__main__":
    main()
