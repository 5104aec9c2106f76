#!/usr/bin/env python3
"""Ask a process of this container how it is: `postorder-probe livez|readyz [PORT]`; exits 0 or 1.

The image has no other HTTP client. Only the standard library, so that a probe takes a tenth of a second of
CPU and not the second that the program itself takes to load.
"""

import http.client
import os
import sys

DEFAULT_PORT = 9464
TIMEOUT_S = 3.0
_OK = 200


def main(arguments: list[str]) -> int:
    """Return 0 when the ops port answers 200, 1 when it answers otherwise or not at all, 2 for wrong use."""
    if not arguments or arguments[0] not in ("livez", "readyz") or not all(map(str.isdecimal, arguments[1:])):
        sys.stderr.write("usage: postorder-probe livez|readyz [PORT]\n")
        return 2
    port = (
        int(arguments[1])
        if arguments[1:]
        else int(os.environ.get("POSTORDER_OPS_METRICS_PORT", DEFAULT_PORT))
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/{arguments[0]}")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"postorder-probe: {arguments[0]}: {type(error).__name__}\n")
        return 1
    finally:
        connection.close()
    if status != _OK:
        sys.stderr.write(f"postorder-probe: {arguments[0]}: status {status}\n")
    return 0 if status == _OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
