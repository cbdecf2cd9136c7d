"""Runs a command at a pseudo-terminal, types a line when a text is shown, prints the screen's bytes.

    type_at.py TEXT LINE COMMAND [ARGUMENT ...]
"""

import os
import pty
import sys

wanted, line, command = sys.argv[1].encode(), sys.argv[2].encode() + b"\n", sys.argv[3:]
seen, typed = b"", False


def read(terminal):
    global seen, typed
    data = os.read(terminal, 4096)
    seen += data
    if not typed and wanted in seen:
        typed = True
        os.write(terminal, line)
    return data


status = pty.spawn(command, read, lambda _: b"")
sys.exit(os.waitstatus_to_exitcode(status))
