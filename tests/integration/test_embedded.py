"""The embedded servers: they keep what they should, end when they should, and show nobody their passwords."""

import asyncio
import json
import os
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ferryman.embedded import (
    DataDirInUseError,
    EmbeddedPostgres,
    EmbeddedRedis,
    ServerStartError,
    SqlError,
    StopMode,
    loopback,
)
from ferryman.embedded.accounts import can_run, server_account
from ferryman.embedded.binaries import find_postgres, find_redis
from ferryman.embedded.psql import Psql
from tests.support.servers import make_postgres, make_redis

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def own_postgres(server_dir: Path) -> Iterator[EmbeddedPostgres]:
    with make_postgres(server_dir / "postgres") as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    with make_redis() as server:
        yield server


def as_service(server: EmbeddedPostgres, statement: str, password: str | None = None) -> str:
    password = password or server.password_of("ferryman")
    return Psql(find_postgres(None), server.port, "ferryman", password).run(statement, "ferryman")


def ends(pid: int) -> bool:
    """Waits for the end of any process, child or not; False if it outlives our patience."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)


def modes(folder: Path, *names: str) -> set[int]:
    return {stat.S_IMODE((folder / name).stat().st_mode) for name in names}


def test_service_role_is_neither_superuser_nor_owner(postgres: EmbeddedPostgres) -> None:
    role = (
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = 'ferryman'"
    )
    assert postgres.sql(role).split("\t") == ["f"] * 4
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'ferryman'"
    assert postgres.sql(owner) == "postgres"
    assert as_service(postgres, "SELECT current_user") == "ferryman"


def test_text_is_unicode_and_commits_are_durable(postgres: EmbeddedPostgres) -> None:
    assert (
        postgres.sql("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'ferryman'")
        == "UTF8"
    )
    assert postgres.sql("SELECT upper('straße ä')").endswith("Ä")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert postgres.sql(f"SHOW {setting}") == "on"


def test_wrong_passwords_are_refused(postgres: EmbeddedPostgres, redis_server: EmbeddedRedis) -> None:
    with pytest.raises(SqlError, match="password authentication failed"):
        as_service(postgres, "SELECT 1", password="guess")
    with (
        redis.Redis(host=loopback.HOST, port=redis_server.port, password="guess") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


@on_linux
def test_servers_listen_on_loopback_only(postgres: EmbeddedPostgres, redis_server: EmbeddedRedis) -> None:
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {row[1] for row in listening if row[3] == "0A"}
    for port in (postgres.port, redis_server.port):
        assert {address for address in addresses if address.endswith(f":{port:04X}")} == {
            f"0100007F:{port:04X}"
        }
    assert f":{postgres.port:04X}" not in Path("/proc/net/tcp6").read_text()


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_postgres_keeps_its_data_and_port_over_a_restart(
    own_postgres: EmbeddedPostgres, mode: StopMode
) -> None:
    own_postgres.sql("CREATE TABLE kept AS SELECT 42 AS answer", "ferryman")
    url = own_postgres.owner_url
    own_postgres.stop(mode)
    assert not own_postgres.is_running
    own_postgres.start()
    assert own_postgres.sql("SELECT answer FROM kept", "ferryman") == "42"
    assert own_postgres.owner_url == url


@on_linux
def test_postgres_restarts_after_its_process_was_killed(own_postgres: EmbeddedPostgres) -> None:
    own_postgres.sql("CREATE TABLE kept AS SELECT 42 AS answer", "ferryman")
    old = own_postgres.pid
    os.kill(old, signal.SIGKILL)
    assert own_postgres.wait(PATIENCE)
    assert not own_postgres.is_running
    own_postgres.start()
    assert own_postgres.pid != old
    assert own_postgres.sql("SELECT answer FROM kept", "ferryman") == "42"


def test_data_directory_serves_the_next_process(server_dir: Path) -> None:
    with make_postgres(server_dir / "postgres") as first:
        first.sql("CREATE TABLE kept AS SELECT 42 AS answer", "ferryman")
        passwords = [first.password_of("postgres"), first.password_of("ferryman")]
    with make_postgres(server_dir / "postgres") as second:
        assert second.sql("SELECT answer FROM kept", "ferryman") == "42"
        assert [second.password_of("postgres"), second.password_of("ferryman")] == passwords


def test_half_made_cluster_is_made_anew(server_dir: Path) -> None:
    server = make_postgres(server_dir / "postgres")
    draft = server_dir / "postgres" / "cluster.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    with server:
        assert server.sql("SELECT 1") == "1"
    assert not draft.exists()


@on_linux
def test_second_server_on_a_data_directory_is_refused(
    own_postgres: EmbeddedPostgres, server_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferryman.embedded.postgres_server._PREDECESSOR_SECONDS", 0.0)
    second = make_postgres(server_dir / "postgres")
    with pytest.raises(DataDirInUseError, match=str(own_postgres.pid)):
        second.start()
    assert own_postgres.sql("SELECT 1") == "1"


def test_taken_ports_are_left_to_their_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (make_postgres, make_redis):
        with socket.create_server((loopback.HOST, 0)) as taken:
            free = loopback.free_port()
            ports = iter([taken.getsockname()[1], free])
            monkeypatch.setattr(loopback, "free_port", lambda ports=ports: next(ports))
            with make() as server:
                assert server.port == free
            monkeypatch.undo()


def test_wished_port_that_is_taken_is_an_error_with_the_servers_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ferryman.embedded.redis_server._PASSING_SECONDS", 0.0)
    with socket.create_server((loopback.HOST, 0)) as taken:
        server = EmbeddedRedis(port=taken.getsockname()[1])
        with pytest.raises(ServerStartError, match="Address already in use"):
            server.start()
        server.close()


def test_redis_forgets_over_a_restart_but_keeps_its_address(own_redis: EmbeddedRedis) -> None:
    url = own_redis.url
    with redis.Redis.from_url(url, decode_responses=True) as client:
        client.set("key", "value")
        assert client.config_get("maxmemory-policy", "appendonly", "save") == {
            "maxmemory-policy": "noeviction",
            "appendonly": "no",
            "save": "",
        }
    own_redis.kill()
    own_redis.start()
    assert own_redis.url == url
    with redis.Redis.from_url(url) as client:
        assert client.get("key") is None


@on_linux
def test_passwords_are_for_their_owner_only(own_postgres: EmbeddedPostgres, server_dir: Path) -> None:
    with make_redis(server_dir / "redis") as own_redis:
        assert modes(server_dir / "postgres", "passwords.json", "postgres.log") == {0o600}
        assert modes(server_dir / "redis", "redis.conf", "redis.log") == {0o600}
        secrets = [
            own_postgres.password_of("postgres"),
            own_postgres.password_of("ferryman"),
            own_redis.password,
        ]
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                shown = command.read_bytes()
            except OSError:
                continue  # that process has ended meanwhile
            assert not any(secret.encode() in shown for secret in secrets)


def test_bad_setting_is_an_error_with_the_servers_words() -> None:
    with (
        pytest.raises(ServerStartError, match="no_such_setting"),
        EmbeddedPostgres(settings={"no_such_setting": "1"}),
    ):
        pass
    with (
        pytest.raises(ServerStartError, match="no-such-setting"),
        EmbeddedRedis(settings={"no-such-setting": "1"}),
    ):
        pass


async def test_servers_outlive_the_thread_that_started_them() -> None:
    server = make_redis()
    loop = asyncio.new_event_loop()
    try:
        # Another loop's threads end with it; the server must not.
        await asyncio.to_thread(lambda: loop.run_until_complete(start_in_thread_of(loop, server)))
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
    finally:
        loop.close()
        await asyncio.to_thread(server.close)


async def start_in_thread_of(loop: asyncio.AbstractEventLoop, server: EmbeddedRedis) -> None:
    await asyncio.to_thread(server.start)
    await loop.shutdown_default_executor()


SERVE_UNTIL_KILLED = """
    import json, signal, sys
    from tests.support.servers import make_postgres, make_redis
    with make_postgres() as postgres, make_redis() as redis:
        roots = [str(postgres.log.parent), str(redis.log.parent)]
        print(json.dumps({"pids": [postgres.pid, redis.pid], "roots": roots}), flush=True)
        signal.pause()
"""


@on_linux
def test_servers_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVE_UNTIL_KILLED)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'service'}"},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        told = json.loads(parent.stdout.readline())
        parent.kill()
        parent.wait(PATIENCE)
        try:
            assert all(ends(pid) for pid in told["pids"])
            # Nothing else holds the pipe, or a caller that reads to its end would wait for ever.
            assert parent.stdout.read() == b""
        finally:
            for root in told["roots"]:
                shutil.rmtree(root, ignore_errors=True)


@as_root
@on_linux
def test_roots_postgres_runs_as_nobody(postgres: EmbeddedPostgres) -> None:
    assert Path(f"/proc/{postgres.pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid


RUN_AS_PLAIN_USER = """
    import json, os, sys
    import redis, _posixsubprocess, encodings.idna
    from tests.support.servers import make_postgres, make_redis
    # The interpreter may lie where only root can go; what is imported by now needs it no more.
    uid, gid, home = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.setgroups([]); os.setgid(gid); os.setuid(uid); os.environ["HOME"] = home; os.chdir(home)
    from pathlib import Path
    with make_postgres(Path("data/postgres")) as postgres, make_redis(Path("data/redis")) as server:
        owners = [os.stat(f"/proc/{pid}").st_uid for pid in (postgres.pid, server.pid)]
        client = redis.Redis.from_url(server.url)
        print(json.dumps({"answer": postgres.sql("SELECT 42"), "pong": client.ping(), "owners": owners}))
        client.close()
"""


@as_root
@on_linux
def test_plain_users_servers_run_as_themselves(server_dir: Path) -> None:
    account = server_account()
    assert account is not None
    if not all(
        can_run([path, "--version"], account) for path in (find_postgres(None) / "initdb", find_redis(None))
    ):
        pytest.skip("this environment lies where only root can go")
    home = server_dir / "home"
    home.mkdir(mode=0o700)
    account.take(home)
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN_AS_PLAIN_USER), str(account.uid), str(account.gid), home],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'service'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == {"answer": "42", "pong": True, "owners": [account.uid] * 2}
    assert stat.S_IMODE((home / "data" / "postgres").stat().st_mode) == 0o700


@as_root
def test_programs_that_nobody_can_reach_are_copied(server_dir: Path, request: pytest.FixtureRequest) -> None:
    wheel = find_postgres(None).parents[1]
    hidden = server_dir / "hidden"
    hidden.mkdir(mode=0o700)
    usual_umask = os.umask(0o077)
    request.addfinalizer(lambda: os.umask(usual_umask))
    for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        shutil.copytree(folder, hidden / folder.name, symlinks=True)
    with EmbeddedPostgres(server_dir / "data", bin_dir=hidden / wheel.name / "pginstall" / "bin") as server:
        assert server.sql("SELECT 42") == "42"
        server.sql("CREATE EXTENSION pg_trgm")  # its library came along, too
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
