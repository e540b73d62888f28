# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import random
import zipfile

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm import archive

FILES = {"a/__init__.py": b"", "a/long_name_of_a_module.py": b"x = 1\n" * 500, "a/bïn": random.Random(1).randbytes(3000), "last.py": b"y = 2\n"}


def build(time: tuple[int, ...] = (2026, 11, 23, 4, 5, 6), *, compression: int = zipfile.ZIP_DEFLATED, comment: bytes = b"", extra: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out:
        for name, data in FILES.items():
            info = zipfile.ZipInfo(name, time)  # type: ignore[arg-type]
            info.compress_type = compression
            info.extra = extra
            out.writestr(info, data)
        out.comment = comment
    return file.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_there_and_back(compression: int) -> None:
    whole = build(compression=compression)
    parts = archive.split(whole)
    assert parts is not None
    assert archive.join(*parts) == whole
    assert len(parts.members) == len(FILES)


def test_only_the_time_differs_between_runs() -> None:
    one, other = archive.split(build()), archive.split(build((2031, 1, 2, 3, 4, 5)))
    assert one is not None
    assert other is not None
    assert one[:2] == other[:2]
    assert one.time != other.time
    assert archive.join(one.skeleton, one.members, other.time) == build((2031, 1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    "other",
    [
        build(comment=b"!"),
        build(extra=b"\1\0\0\0"),
        build() + b"\0",
        b"\0" + build(),
        build()[:-1],
        b"",
        b"PK\5\6" + bytes(18),
    ],
)
def test_refused(other: bytes) -> None:
    assert archive.split(other) is None


def test_streamed_is_refused() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_args: int) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    file = Pipe()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("name", b"data")
    assert archive.split(file.getvalue()) is None


def test_any_change_is_kept_or_refused() -> None:
    """There is no archive that comes back as another one."""
    whole, source = build(), random.Random(2)
    for _change in range(3000):
        changed = bytearray(whole)
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
        parts = archive.split(bytes(changed))
        assert parts is None or archive.join(*parts) == bytes(changed)
