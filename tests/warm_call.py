"""What a program of `warm.folder()` does: hand over to the server, and end as the process there.

    python -I -S tests/warm_call.py ADDRESS PROGRAM ARGUMENT …

It imports hardly anything, since it starts once for each stage and each command of the tests.
"""

import array
import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SHUT_WR, SOL_SOCKET, socket

address, program, *arguments = sys.argv[1:]
if program == "python" and not (arguments and arguments[0].endswith(("-m", ".py"))):
    os.execv(sys.executable, [sys.executable, *arguments])
variables = [f"{name}={value}" for name, value in os.environ.items()]
request = [os.getcwd(), program, str(len(arguments)), *arguments, *variables]
connection = socket(AF_UNIX)
connection.connect(address)
streams = array.array("i", [0, 1, 2])
connection.sendmsg([b"0"], [(SOL_SOCKET, SCM_RIGHTS, streams)])
connection.sendall(os.fsencode("\0".join(request)))
connection.shutdown(SHUT_WR)
sys.exit(int(connection.recv(16) or b"1"))
