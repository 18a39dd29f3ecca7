"""Settings: what each variable takes, what is said of a wrong one, and that no secret is ever said."""

from pathlib import Path

import pytest

from ferryman.settings import Environment, SettingsError
from ferryman.settings import variables as v
from ferryman.settings.processes import (
    access_settings,
    api_settings,
    identity_settings,
    log_settings,
    owner_database_url,
    secrets_of,
    service_login,
    signing_settings,
    store_settings,
    worker_settings,
)

SECRET = "s3cr3t-" * 6
COMPLETE = {
    "FERRYMAN_DATABASE_URL": "postgresql://ferryman:db-password@db:5432/app",
    "FERRYMAN_REDIS_URL": "redis://:redis-password@redis:6379/0",
    "FERRYMAN_JWT_SECRET": SECRET,
}


def said(error: SettingsError) -> str:
    return "\n".join([str(error), *error.advice])


def test_api_takes_its_defaults() -> None:
    settings = api_settings(Environment(COMPLETE), host=None, port=None)
    assert (settings.host, settings.port) == ("127.0.0.1", 3101)
    assert settings.max_body_bytes == 1_048_576
    assert settings.grace_seconds == 30
    assert settings.queues == {}


def test_command_line_wins_over_environment() -> None:
    environment = Environment(COMPLETE | {"FERRYMAN_HOST": "0.0.0.0", "FERRYMAN_PORT": "8000"})
    assert api_settings(environment, host=None, port=None).host == "0.0.0.0"
    settings = api_settings(environment, host="127.0.0.2", port=0)
    assert (settings.host, settings.port) == ("127.0.0.2", 0)
    handlers = environment_with(FERRYMAN_HANDLERS="shop.jobs")
    assert worker_settings(handlers, handlers=None, arq_settings=None).handlers == "shop.jobs"
    assert worker_settings(handlers, handlers="other.jobs", arq_settings=None).handlers == "other.jobs"
    assert worker_settings(handlers, handlers=None, arq_settings="shop.Arq").handlers is None
    with pytest.raises(SettingsError, match="FERRYMAN_HANDLERS is not set"):
        worker_settings(Environment(COMPLETE), handlers=None, arq_settings=None)


def environment_with(**more: str) -> Environment:
    return Environment(COMPLETE | more)


@pytest.mark.parametrize("name", ["FERRYMAN_DATABASE_URL", "FERRYMAN_REDIS_URL"])
def test_missing_variable_is_named_with_what_it_takes(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        store_settings(Environment({k: value for k, value in COMPLETE.items() if k != name}))
    assert str(caught.value) == f"{name} is not set"
    assert f"{name}_FILE reads it from a file." in said(caught.value)
    assert "`ferryman dev`" in said(caught.value)


def test_rates_are_off_until_they_are_set() -> None:
    off = api_settings(environment_with(FERRYMAN_API_RATE_BURST="400"), host=None, port=None).rates
    assert (off.calls_per_second, off.trusted_proxies) == (0, ())
    on = api_settings(
        environment_with(
            FERRYMAN_API_RATE_PER_SECOND="0.5", FERRYMAN_TRUSTED_PROXIES="10.0.0.0/8, 2001:db8::1"
        ),
        host=None,
        port=None,
    ).rates
    assert (on.calls_per_second, on.call_burst) == (0.5, 1)
    assert [str(network) for network in on.trusted_proxies] == ["10.0.0.0/8", "2001:db8::1/128"]


def test_service_subjects_need_an_audience() -> None:
    subjects = {"FERRYMAN_SERVICE_SUBJECTS": "system:serviceaccount:ferryman:operator, cron"}
    with pytest.raises(SettingsError, match="FERRYMAN_JWT_AUDIENCE is not"):
        identity_settings(environment_with(**subjects))
    identity = identity_settings(environment_with(**subjects, FERRYMAN_JWT_AUDIENCE="ferryman"))
    assert identity.service_subjects == ("system:serviceaccount:ferryman:operator", "cron")


def test_empty_value_counts_as_none() -> None:
    with pytest.raises(SettingsError, match="FERRYMAN_DATABASE_URL is not set"):
        store_settings(environment_with(FERRYMAN_DATABASE_URL=""))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (v.DATABASE_URL, "mysql://db/app"),
        (v.DATABASE_URL, "db:5432"),
        (v.DATABASE_URL, "postgresql://db:port/app"),
        (v.REDIS_URL, "http://redis:6379"),
        (v.REDIS_URL, "redis://"),
        (v.JWT_SECRET, "too short"),
        (v.JWT_SECRET, "-----BEGIN PUBLIC KEY-----\n" + "A" * 64),
        (v.JWT_PUBLIC_KEY, SECRET),
        (v.JWKS_URL, "ftp://keys"),
        (v.JWKS_URL, "http://keys.example/jwks"),
        (v.JWKS_URL, "http://127.0.0.1.example/jwks"),
        (v.JWKS_URL, "http://localhost@keys.example/jwks"),
        (v.JWKS_URL, "https://user:password@keys.example/jwks"),
        (v.SERVICE_SUBJECTS, "one,,two"),
        (v.SERVICE_SUBJECTS, "system:serviceaccount:*:operator"),
        (v.TRUSTED_PROXIES, "10.0.0.1/8"),
        (v.TRUSTED_PROXIES, "everywhere"),
        (v.ENVIRONMENT_NAME, "a\nb"),
        (v.HANDLERS, "shop/jobs.py"),
        (v.QUEUES_FILE, "/no/such/file.toml"),
        (v.API_URL, "127.0.0.1:3101"),
        (v.TOKEN, "with blank"),
        (v.LOG_FORMAT, "xml"),
        (v.LOG_LEVEL, "loud"),
        (v.MAX_BODY_BYTES, "1MiB"),
        (v.MAX_BODY_BYTES, "0"),
        (v.PORT, "65536"),
        (v.PORT, "-1"),
        (v.PORT, "٣١٠١"),
        (v.SHUTDOWN_GRACE_SECONDS, "nan"),
        (v.SHUTDOWN_GRACE_SECONDS, "-3"),
        (v.API_RATE_PER_SECOND, "inf"),
        (v.API_RATE_BURST, "1.5"),
        (v.POOL_SIZE, "1"),
    ],
)
def test_wrong_value_is_told_with_name_and_what_it_takes(variable: v.Variable[object], value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Environment({variable.name: value}).get(variable)
    assert str(caught.value).startswith(f"{variable.name} is wrong")
    assert f"It takes {variable.takes}" in said(caught.value)
    assert ("characters that are not shown" if variable.secret else repr(value)[:80]) in said(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (v.DATABASE_URL, "postgres://db/app?sslmode=verify-full"),
        (v.DATABASE_URL, "postgresql://u:p@one:5432,two:5433/app?target_session_attrs=read-write"),
        (v.DATABASE_URL, "postgresql:///app?host=/run/postgresql"),
        (v.REDIS_URL, "rediss://user:p%40ss@redis:6380/1"),
        (v.REDIS_URL, "unix:///run/redis.sock?db=1"),
        (v.REDIS_URL, "sentinel://:p@one:26379,two:26379/master/0"),
        (v.JWKS_URL, "https://id.example/jwks"),
        (v.JWKS_URL, "http://localhost:8080/jwks"),
        (v.JWKS_URL, "http://[::1]:8080/jwks"),
    ],
)
def test_addresses_of_every_form_are_taken(variable: v.Variable[str], value: str) -> None:
    assert Environment({variable.name: value}).get(variable) == value


def test_secret_values_are_never_said() -> None:
    secret_url = "mysql://ferryman:hunter2hunter2@db/app"
    with pytest.raises(SettingsError) as caught:
        Environment({"FERRYMAN_DATABASE_URL": secret_url}).get(v.DATABASE_URL)
    assert "hunter2" not in said(caught.value)
    settings = api_settings(Environment(COMPLETE), host=None, port=None)
    assert not any(word in repr(settings) for word in ("db-password", "redis-password", SECRET))
    assert set(secrets_of(Environment(COMPLETE))) >= {"db-password", "redis-password", SECRET}


@pytest.mark.parametrize("variable", v.ALL, ids=lambda variable: variable.name)
def test_every_variable_has_a_file_twin(variable: v.Variable[object], tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("?\n")
    with pytest.raises(SettingsError) as direct:
        raise_of({variable.name: "?"}, variable)
    with pytest.raises(SettingsError) as twin:
        raise_of({f"{variable.name}_FILE": str(file)}, variable)
    assert str(twin.value) == str(direct.value).replace(variable.name, f"{variable.name}_FILE", 1)


def raise_of(values: dict[str, str], variable: v.Variable[object]) -> None:
    """Reads the value; those few that take any text are read as if they were wrong."""
    value = Environment(values).get(variable)
    assert value == "?"
    source = next(iter(values))
    raise SettingsError(f"{source} takes any text")


def test_file_is_read_without_its_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    assert Environment({"FERRYMAN_JWT_SECRET_FILE": str(file)}).get(v.JWT_SECRET) == SECRET


def test_variable_and_twin_together_are_refused(tmp_path: Path) -> None:
    values = {"FERRYMAN_TOKEN": "abc", "FERRYMAN_TOKEN_FILE": str(tmp_path / "token")}
    with pytest.raises(SettingsError, match="both set"):
        Environment(values).get(v.TOKEN)


def test_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"FERRYMAN_TOKEN_FILE is wrong: .* cannot be read"):
        Environment({"FERRYMAN_TOKEN_FILE": str(tmp_path / "none")}).get(v.TOKEN)


def test_tokens_are_checked_in_exactly_one_way() -> None:
    with pytest.raises(SettingsError, match="none of FERRYMAN_JWT_SECRET"):
        identity_settings(Environment({}))
    both = environment_with(FERRYMAN_JWKS_URL="https://id.example/jwks")
    with pytest.raises(SettingsError, match="FERRYMAN_JWT_SECRET and FERRYMAN_JWKS_URL are both set"):
        identity_settings(both)
    with pytest.raises(SettingsError, match="FERRYMAN_JWT_SECRET is not set"):
        signing_settings(Environment({"FERRYMAN_JWKS_URL": "https://id.example/jwks"}))


def test_unknown_names_come_with_the_nearest_known_one() -> None:
    environment = Environment(
        {
            "FERRYMAN_DATABSE_URL": "x",
            "FERRYMAN_JWT_SECRET_FIL": "x",
            "FERRYMAN_XYLOPHONES": "x",
            "FERRYMAN_TEST_EFFECTS": "x",
            "PATH": "x",
        }
    )
    assert environment.unknown() == [
        ("FERRYMAN_DATABSE_URL", "FERRYMAN_DATABASE_URL"),
        ("FERRYMAN_JWT_SECRET_FIL", "FERRYMAN_JWT_SECRET_FILE"),
        ("FERRYMAN_XYLOPHONES", None),
    ]


def test_kubernetes_service_links_are_no_settings() -> None:
    """A Service called `ferryman` lets Kubernetes set FERRYMAN_PORT in every pod of its namespace."""
    environment = environment_with(
        FERRYMAN_PORT="tcp://10.96.0.7:3101",
        FERRYMAN_SERVICE_HOST="10.96.0.7",
        FERRYMAN_SERVICE_PORT_HTTP="3101",
        FERRYMAN_PORT_3101_TCP_ADDR="10.96.0.7",
        FERRYMAN_API_PORT="tcp://10.96.0.8:80",
    )
    assert environment.unknown() == []
    assert api_settings(environment, host=None, port=None).port == 3101


def test_owner_is_the_service_where_nothing_else_is_said() -> None:
    assert owner_database_url(Environment(COMPLETE)) == COMPLETE["FERRYMAN_DATABASE_URL"]
    assert service_login(Environment(COMPLETE)) is None
    owned = environment_with(FERRYMAN_OWNER_DATABASE_URL="postgresql://owner@db/app")
    assert owner_database_url(owned) == "postgresql://owner@db/app"
    assert service_login(owned) == "ferryman"
    same = environment_with(FERRYMAN_OWNER_DATABASE_URL="postgresql://ferryman@db/app")
    assert service_login(same) is None


def test_command_line_signs_for_itself_only_without_a_token() -> None:
    assert access_settings(Environment({})).url == "http://127.0.0.1:3101"
    assert access_settings(Environment({})).signing is None
    signing = access_settings(environment_with(FERRYMAN_API_URL="https://jobs.example/")).signing
    assert signing is not None
    assert signing.secret == SECRET
    assert access_settings(environment_with(FERRYMAN_TOKEN="a.b.c")).signing is None


def test_logs_choose_their_form_later() -> None:
    assert log_settings(Environment({})).form is None
    assert log_settings(Environment({"FERRYMAN_LOG_FORMAT": "text"})).form == "text"
