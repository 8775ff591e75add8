"""What a cache gives back is believed: a wrong byte of it would be a wrong byte of a dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from derm_ml.cache import Cache


def filled(path: Path, n: int = 100) -> dict[bytes, bytes]:
    made = {f"key{k}".encode(): os.urandom(500) for k in range(n)}
    with Cache(path) as cache:
        for key, data in made.items():
            cache.put("photo", key, data)
    return made


@pytest.mark.slow  # starts a process
def test_another_process_finds_what_was_put(tmp_path):
    made = filled(tmp_path / "new" / "folder" / "cache")
    code = (
        "import sys; from pathlib import Path; from derm_ml.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]))\n"
        "print(sum(cache.get('photo', f'key{k}'.encode()) is not None for k in range(100)), cache.get('mask', b'key1'))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "new" / "folder" / "cache")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [str(len(made)), "None"]


def test_a_damaged_entry_is_not_there(tmp_path):
    path = tmp_path / "cache"
    made = filled(path)
    stored = bytearray(path.read_bytes())
    for key in (b"key3", b"key50"):
        stored[stored.index(made[key]) + 7] ^= 1
    path.write_bytes(stored)
    with Cache(path) as cache:
        found = {key: cache.get("photo", key) for key in made}
        assert {key for key, data in found.items() if data is None} == {b"key3", b"key50"}
        assert all(found[key] in (None, data) for key, data in made.items())
        cache.put("photo", b"key3", made[b"key3"])
    with Cache(path) as cache:
        assert cache.get("photo", b"key3") == made[b"key3"]


@pytest.mark.parametrize("harm", ["cut", "garbage", "header", "inner pages"])
def test_a_damaged_file_gives_nothing_wrong_and_can_be_used_again(tmp_path, harm):
    path = tmp_path / "cache"
    made = filled(path)
    stored = bytearray(path.read_bytes())
    if harm == "cut":
        del stored[len(stored) // 2 :]
    elif harm == "garbage":
        stored = bytearray(os.urandom(5000))
    elif harm == "header":
        stored[:40] = bytes(40)
    else:
        for place in range(4096, len(stored), 4096):
            stored[place : place + 12] = bytes(range(12))
    path.write_bytes(stored)
    with Cache(path) as cache:
        assert all(cache.get("photo", key) in (None, data) for key, data in made.items())
        for key, data in made.items():
            cache.put("photo", key, data)
        cache.flush()
    with Cache(path) as cache:  # at the second opening at the latest it is whole
        for key, data in made.items():
            cache.put("photo", key, data)
    with Cache(path) as cache:
        assert all(cache.get("photo", key) == data for key, data in made.items())


def test_what_was_not_used_is_gone_to_the_last_byte(tmp_path):
    """A withdrawn image must not stay behind in a file that nobody thinks of."""
    path = tmp_path / "cache"
    made = filled(path)
    before = path.stat().st_size
    with Cache(path) as cache:
        cache.get("photo", b"key1")
        cache.keep("photo", b"key2")
        cache.put("photo", b"new", b"put now")
        cache.passing.put("bytes", b"key1", b"superfluous")
        assert cache.passing.get("bytes", b"key1") == b"superfluous"
        cache.forget_unused()
        assert cache.passing.get("bytes", b"key1") is None
    left = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert [key for key, data in made.items() if data[:50] in left] == [b"key1", b"key2"]
    assert path.stat().st_size < before / 2
    with Cache(path) as cache:
        assert cache.get("photo", b"new") == b"put now"


def test_what_threads_put_is_in_one_file(tmp_path):
    with Cache(tmp_path / "cache") as cache, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda k: cache.passing.put("image", f"{k}".encode(), b"data"), range(200)))
    with Cache(tmp_path / "cache") as cache:
        assert all(cache.passing.get("image", f"{k}".encode()) == b"data" for k in range(200))


def test_where_nothing_can_be_kept_nothing_is_and_nothing_fails(tmp_path):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    for path in (None, tmp_path / "file" / "cache", tmp_path / "folder"):
        with Cache(path) as cache:
            cache.put("photo", b"key", b"data")
            cache.flush()
            assert cache.get("photo", b"key") is None
            cache.keep("photo", b"key")
            cache.forget_unused()


@pytest.mark.slow  # starts processes
def test_two_processes_put_into_one_file_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from derm_ml.cache import Cache\n"
        "with Cache(Path(sys.argv[1])) as cache:\n"
        "    for k in range(400):\n"
        "        cache.put('photo', f'{k % 300 + int(sys.argv[2])}'.encode(), b'x' * 2000)\n"
        "        cache.get('photo', f'{k}'.encode())\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "cache"), f"{100 * n}"]) for n in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    with Cache(tmp_path / "cache") as cache:
        assert all(cache.get("photo", f"{k}".encode()) == b"x" * 2000 for k in range(500))
