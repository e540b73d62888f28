# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a node without curl: one transfer by a presigned URL. Four lines and more on stdin: URL, file, file for a refusal's text, method, headers.

Prints the HTTP status. Runs on Python 3.6 and newer; sent without this docstring.
"""

import shutil
import sys
import urllib.error
import urllib.request


def transfer() -> None:
    url, path, refusal, method, *lines = sys.stdin.read().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    source = None
    if method == "PUT":
        source = open(path, "rb")  # noqa: SIM115
        headers["Content-Length"] = str(source.seek(0, 2))
        headers.setdefault("Content-Type", "")
        source.seek(0)
    try:
        with urllib.request.build_opener().open(urllib.request.Request(url, source, headers, method=method), timeout=60) as answer:
            if method == "GET":
                with open(path, "wb") as sink:
                    shutil.copyfileobj(answer, sink)
            print(answer.status)
    except urllib.error.HTTPError as error:
        with open(path if method == "GET" else refusal, "wb") as sink:
            sink.write(error.read(2000))
        print(error.code)


if __name__ == "__main__":
    transfer()
