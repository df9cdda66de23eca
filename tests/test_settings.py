"""Settings: one place that reads the environment, and reads all of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from fractions import Fraction
from pathlib import Path

import pytest

from functions.settings import Limits, Settings, SettingsError, variables
from functions.tenant import Tenant
from tests.certificates import self_signed

PEM, _ = self_signed("127.0.0.1")
# A value other than the default for each variable, and what it becomes.
SAMPLES = {
    "GUISE_PROFILE": ("development", "development"),
    "GUISE_TENANT": ("acme", Tenant("acme")),
    "GUISE_TENANTS": ("/tenants", Path("/tenants")),
    "GUISE_ENVELOPES": ("/keys/envelopes", "/keys/envelopes"),
    "GUISE_REGION": ("europe-west4", "europe-west4"),
    "GUISE_STORE": ("file:///srv/acme", "file:///srv/acme"),
    "GUISE_MODELS": ("/models", Path("/models")),
    "GUISE_MODEL_KEYS": ("/trust", Path("/trust")),
    "GUISE_ACCEPTANCES": ("/acceptances", Path("/acceptances")),
    "GUISE_VERIFY": ("manifest", "manifest"),
    "GUISE_CUDA_GRAPH": ("true", True),
    "GUISE_DEVICE": ("cuda:0", "cuda:0"),
    "GUISE_DEVICE_SHARE": ("2/7", Fraction(2, 7)),
    "GUISE_RATES": ("/rates.toml", Path("/rates.toml")),
    "GUISE_WORKER_URL": ("http://worker/", "http://worker"),
    "GUISE_AUDIT_URL": ("https://audit:8443/base", "https://audit:8443/base"),
    "K_SINK": ("http://broker/ns/default?x=1", "http://broker/ns/default?x=1"),
    "K_CE_OVERRIDES": ('{"extensions":{"region":"eu"}}', (("region", "eu"),)),
    "K_CA_CERTS": (PEM, PEM),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://otel:4318/", "http://otel:4318"),
    "GUISE_LOG_FORMAT": ("json", "json"),
    "GUISE_TOKEN_FILE": ("/oidc/token", Path("/oidc/token")),
    "GUISE_AUDIT_TOKEN_FILE": ("/audit/token", Path("/audit/token")),
    "GUISE_WORKER_TOKEN_FILE": ("/worker/token", Path("/worker/token")),
    "GUISE_OIDC_ISSUER": ("https://cluster.local", "https://cluster.local"),
    "GUISE_OIDC_JWKS": ("/cluster/jwks.json", Path("/cluster/jwks.json")),
    "GUISE_OIDC_AUDIENCE": ("guise-audit", "guise-audit"),
    "GUISE_OIDC_READER": ("/var/run/reader", Path("/var/run/reader")),
    "GUISE_OIDC_NAMESPACES": ("ours, theirs,ours", ("ours", "theirs")),
    "GUISE_DATABASE": ("sqlite:////a.db", "sqlite:////a.db"),
    "GUISE_WITNESS": ("s3://locked", "s3://locked"),
    "GUISE_KEYS": ("/keys", Path("/keys")),
    "GUISE_PROVENANCE": ("/keys/provenance.pem", Path("/keys/provenance.pem")),
    "GUISE_PRODUCER": ("Acme", "Acme"),
    "GUISE_TIMESTAMP_URL": ("http://tsa.test/", "http://tsa.test"),
    "GUISE_JWKS": ("/jwks.json", Path("/jwks.json")),
    "GUISE_ISSUER": ("https://id.example", "https://id.example"),
    "GUISE_AUDIENCE": ("swap", "swap"),
}
LIMITS = {each.metadata["env"]: each.name for each in fields(Limits)}


def test_defaults_need_no_environment() -> None:
    """A bare container starts, as strict as production is."""
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.profile == "production"
    assert settings.verify == "full"


@pytest.mark.parametrize("name", [each.name for each in fields(Settings)])
def test_every_field_has_a_variable(name: str) -> None:
    """What no variable sets could not be operated."""
    if name == "limits":
        return  # they have their own
    by_name = {each.name: str(each.metadata.get("env")) for each in fields(Settings)}
    variable = by_name[name]
    text, value = SAMPLES[variable]
    settings = Settings.from_env({variable: text})
    assert getattr(settings, name) == value
    assert getattr(settings, name) != getattr(Settings(), name)


@pytest.mark.parametrize("variable", LIMITS)
def test_every_limit_has_a_variable_with_its_unit(variable: str) -> None:
    """And the variable is called as the field is."""
    assert variable == f"GUISE_{LIMITS[variable].upper()}"
    settings = Settings.from_env({variable: "7"})
    assert getattr(settings.limits, LIMITS[variable]) == 7


def test_the_variables_are_all_there_are() -> None:
    """Whoever checks a manifest against them misses none."""
    assert variables() == {*SAMPLES, *LIMITS}


def test_every_fault_is_told_at_once() -> None:
    """One restart mends them all."""
    environ = {
        "GUISE_TYPO": "x",
        "GUISE_PROFILE": "prod",
        "GUISE_TENANT": "../globex",
        "GUISE_VERIFY": "never",
        "GUISE_CUDA_GRAPH": "yes",
        "GUISE_WORKER_URL": "worker:8080",
        "K_SINK": "ftp://broker",
        "GUISE_FACES_MAX": "many",
        "GUISE_IMAGE_BYTES_MAX": "0",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    faults = str(caught.value).split("; ")
    assert sorted(fault.partition(":")[0] for fault in faults) == sorted(environ)


def test_an_unknown_variable_of_ours_is_a_fault() -> None:
    """A misspelt limit is none, and nobody would notice."""
    with pytest.raises(SettingsError, match="GUISE_FACE_MAX: no such setting"):
        Settings.from_env({"GUISE_FACE_MAX": "1"})


def test_other_peoples_variables_are_none_of_ours() -> None:
    """Also where their names are near."""
    assert Settings.from_env({"PATH": "/bin", "XGUISE_A": "1", "K_X": ""}) == Settings()


def test_an_empty_variable_is_unset() -> None:
    """As Knative leaves K_SINK until it is bound."""
    assert Settings.from_env(dict.fromkeys(SAMPLES, "")) == Settings()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "10MB", "x", "9" * 5000, "1e3"])
def test_a_limit_is_a_positive_whole_number(text: str) -> None:
    """And nothing is guessed."""
    with pytest.raises(SettingsError, match="GUISE_FACES_MAX"):
        Settings.from_env({"GUISE_FACES_MAX": text})


@pytest.mark.parametrize("text", ["0", "-1/7", "8/7", "1/0", "a", "1/1001", "nan"])
def test_a_device_share_is_a_part_of_one_device(text: str) -> None:
    """Above nothing, at most all of it, and as a person would write it."""
    with pytest.raises(SettingsError, match="GUISE_DEVICE_SHARE"):
        Settings.from_env({"GUISE_DEVICE_SHARE": text})


@pytest.mark.parametrize(
    "url",
    [
        "worker",
        "//worker",
        "file:///etc/passwd",
        "HTTP//worker",
        "http://",
        "http:///path",
        "http://:8080",
        "http://worker:port",
        "http://worker:99999",
        "http://worker:0",
        "http://[::1",
        "http://worker/a b",
        "http://worker/\r\nX: 1",
        "http://wörker",
        "http://user:password@worker",
        "http://worker/#part",
    ],
)
def test_a_url_that_could_not_be_called_is_a_fault(url: str) -> None:
    """It is found at the start, not when the first event is lost."""
    with pytest.raises(SettingsError, match="GUISE_AUDIT_URL") as said:
        Settings.from_env({"GUISE_AUDIT_URL": url})
    assert "password" not in str(said.value)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8080", "http://127.0.0.1:1", "https://a.b.svc.cluster.local"]
)
def test_a_url_of_any_host_is_taken(url: str) -> None:
    """By name or by number."""
    assert Settings.from_env({"GUISE_AUDIT_URL": url}).audit_url == url


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"extensions":{"a":1}}',
        '{"extensions":{"A":"x"}}',
        '{"extensions":{"a":"\\n"}}',
        '{"attributes":{}}',
        *(
            f'{{"extensions":{{"{name}":"x"}}}}'
            for name in ("sig", "sigkid", "tenant", "id", "time", "subject", "data")
        ),
    ],
)
def test_no_override_touches_what_an_event_says_itself(text: str) -> None:
    """Least of all what is signed; it is found at the start."""
    with pytest.raises(SettingsError, match="K_CE_OVERRIDES"):
        Settings.from_env({"K_CE_OVERRIDES": text})


@pytest.mark.parametrize("text", ["x", "-----BEGIN CERTIFICATE-----\nx\n", "\0", "é"])
def test_authorities_that_cannot_be_read_are_a_fault(text: str) -> None:
    """Not a sink that is silently trusted, or never reached."""
    with pytest.raises(SettingsError, match="K_CA_CERTS"):
        Settings.from_env({"K_CA_CERTS": text})


def test_nothing_is_kept_for_over_ten_years() -> None:
    """A typing error is no policy."""
    with pytest.raises(SettingsError, match="GUISE_RETENTION_DAYS"):
        Settings.from_env({"GUISE_RETENTION_DAYS": "3651"})


def test_what_a_role_requires_is_told_at_once() -> None:
    """By the names of the variables."""
    with pytest.raises(SettingsError) as caught:
        Settings(issuer="x").require("jwks", "issuer", "sink_url")
    assert str(caught.value) == "GUISE_JWKS: not set; K_SINK: not set"
    Settings(issuer="x").require("issuer", "audience")


def test_what_is_needed_is_there_or_a_fault() -> None:
    """So that no caller meets a None."""
    assert Settings(issuer="x").need("issuer") == "x"
    with pytest.raises(SettingsError, match="GUISE_KEYS"):
        Settings().need("keys")


def test_settings_cannot_be_changed() -> None:
    """They were read once, and hold."""
    with pytest.raises(FrozenInstanceError):
        Settings().store = "memory:"  # type: ignore[misc]  # the point
    with pytest.raises(FrozenInstanceError):
        Settings().limits.faces_max = 1  # type: ignore[misc]  # the point


@pytest.mark.parametrize("text", ["a,,b", ",", "A", "a b", "-a", "a/b", "a" * 64])
def test_a_namespace_is_named_as_kubernetes_does(text: str) -> None:
    """A list that does not read lets nobody speak for everybody."""
    with pytest.raises(SettingsError, match="GUISE_OIDC_NAMESPACES"):
        Settings.from_env({"GUISE_OIDC_NAMESPACES": text})
