"""How a tenant's data are to rest is what they do, or nothing is written."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from functions.cli.up import vet
from functions.logs import LineFormatter
from functions.problems import Unavailable, UnknownTenant
from functions.roster import EveryTenant, FolderRoster, Isolation, Spec, write
from functions.settings import Settings, SettingsError
from functions.storage import Stores
from functions.storage.base import StoreDenied, StoreFault, StoreMissing, StoreShut
from functions.storage.encrypted import EncryptedStore
from functions.storage.file import FileStore
from functions.storage.gcs import GcsStore
from functions.storage.memory import MemoryStore
from functions.storage.protection import Protection, Wanted
from functions.storage.resting import Resting, bare_keys
from functions.storage.s3 import S3Store
from functions.storage.s3_bucket import protection_of
from functions.swap.door import create_app
from functions.tenant import Key, Tenant
from tests.swap.house import House, Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from functions.envelopes import Envelopes
    from functions.roster.spec import Level
    from tests.storage import gcs_server
    from tests.storage.s3_process import Server

ACME, GLOBEX = Tenant("acme"), Tenant("globex")
A = Key("uploads/a.jpg")
KMS = "projects/p/locations/eu/keyRings/r/cryptoKeys/acme"
ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    folder.mkdir()
    return folder


def spec(folder: Path, tenant: Tenant, level: Level, key: str = "") -> None:
    compute: Level = 1 if level == 2 else 0
    isolation = Isolation(data=level, compute=compute)
    text = write(Spec(id=tenant.id, isolation=isolation, key=key))
    (folder / f"{tenant.id}.yaml").write_bytes(text)


def stores(tmp_path: Path, **more: str) -> Stores:
    environ = {"GUISE_STORE": f"file://{tmp_path}/{{tenant}}", **more}
    return Stores.from_settings(Settings.from_env(environ))


class TestFolders:
    """A `file:` store, with keys of ours or without."""

    def test_by_the_roster_one_is_enveloped_and_another_is_not(
        self, tmp_path: Path, specs: Path
    ) -> None:
        """As each spec says."""
        spec(specs, ACME, 1)
        spec(specs, GLOBEX, 0)
        keys = str(tmp_path / "keys")
        found = stores(tmp_path, GUISE_TENANTS=str(specs), GUISE_ENVELOPES=keys)
        assert isinstance(found.of(ACME), EncryptedStore)
        assert isinstance(found.of(GLOBEX), FileStore)
        found.of(ACME).put(A, b"one")
        assert found.of(ACME).get(A).data == b"one"
        assert not (tmp_path / "acme" / A).exists()

    def test_a_roster_that_asks_for_keys_where_there_are_none_is_obeyed(
        self, tmp_path: Path, specs: Path
    ) -> None:
        """Nothing is written as it is, and nothing is read."""
        spec(specs, ACME, 1)
        with pytest.raises(StoreDenied, match="GUISE_ENVELOPES"):
            stores(tmp_path, GUISE_TENANTS=str(specs)).of(ACME)

    def test_without_a_roster_keys_alone_say_it(self, tmp_path: Path) -> None:
        """Where they are named, everybody is enveloped."""
        assert isinstance(stores(tmp_path).of(ACME), FileStore)
        found = stores(tmp_path, GUISE_ENVELOPES=str(tmp_path / "keys"))
        assert isinstance(found.of(ACME), EncryptedStore)

    def test_whoever_the_roster_never_heard_of_has_no_store(
        self, tmp_path: Path, specs: Path
    ) -> None:
        """And whose spec is broken, none for now."""
        (specs / "globex.yaml").write_text("id: acme")
        found = stores(tmp_path, GUISE_TENANTS=str(specs))
        with pytest.raises(UnknownTenant):
            found.of(ACME)
        with pytest.raises(Unavailable):
            found.of(GLOBEX)

    def test_a_spec_that_changes_takes_effect_at_once(
        self, tmp_path: Path, specs: Path
    ) -> None:
        """No function is started anew for it."""
        spec(specs, ACME, 0)
        keys = str(tmp_path / "keys")
        found = stores(tmp_path, GUISE_TENANTS=str(specs), GUISE_ENVELOPES=keys)
        assert isinstance(found.of(ACME), FileStore)
        spec(specs, ACME, 1)
        assert isinstance(found.of(ACME), EncryptedStore)
        assert found.of(ACME) is found.of(ACME)

    def test_objects_that_lie_as_they_are_shut_the_store(
        self, tmp_path: Path, specs: Path
    ) -> None:
        """Empty folders, and what is ours beside the objects, do not."""
        spec(specs, ACME, 1)
        (tmp_path / "acme/uploads").mkdir(parents=True)
        (tmp_path / "acme/.tmp").mkdir()
        (tmp_path / "acme/.tmp/half").write_bytes(b"x")
        keys = str(tmp_path / "keys")
        told = {"GUISE_TENANTS": str(specs), "GUISE_ENVELOPES": keys}
        stores(tmp_path, **told).of(ACME).put(A, b"one")
        assert list(bare_keys(tmp_path / "acme")) == []
        (tmp_path / "acme/uploads/a.jpg").write_bytes(b"as it is")
        assert list(bare_keys(tmp_path / "acme")) == [A]
        with pytest.raises(StoreShut, match="guise tenant envelop acme"):
            stores(tmp_path, **told).of(ACME)

    def test_a_shut_store_is_503_at_the_door_and_the_log_says_what_mends_it(
        self, tmp_path: Path, specs: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """To a stranger it says nothing of the file, and no other tenant notices."""
        spec(specs, ACME, 1)
        spec(specs, GLOBEX, 1)
        (tmp_path / "acme/uploads").mkdir(parents=True)
        (tmp_path / "acme/uploads/a.jpg").write_bytes(b"as it is")
        told = {"GUISE_TENANTS": str(specs), "GUISE_ENVELOPES": str(tmp_path / "keys")}
        house = House()
        door = create_app(
            Settings(),
            stores=stores(tmp_path, **told),
            keys=house.keys,
            roster=EveryTenant(),
            authenticator=Tokens(),
            auditor=house.auditor,
            sink=house.sink,
            worker=house,
        ).test_client()
        heads = {
            name: {"Authorization": f"Bearer {name}"} for name in ("acme", "globex")
        }
        answer = door.get("/v1/swaps", headers=heads["acme"])
        assert answer.status_code == 503
        assert answer.get_json()["type"] == "urn:guise:problem:unavailable"
        assert "until the operator" in answer.get_json()["detail"]
        assert "a.jpg" not in answer.text
        [record] = caplog.records
        said = LineFormatter("%(message)s").format(record)
        assert "guise tenant envelop acme" in said
        assert "a.jpg" not in said
        assert door.get("/v1/swaps", headers=heads["globex"]).status_code == 200

    def test_no_envelopes_envelop_nothing(self, tmp_path: Path) -> None:
        """A mistake of ours is not a tenant's data in the open."""
        with pytest.raises(ValueError, match="no envelopes"):
            Resting().encrypted(ACME, tmp_path)

    def test_keys_that_cannot_be_are_a_fault_of_the_settings(
        self, tmp_path: Path
    ) -> None:
        """Told at the start."""
        with pytest.raises(SettingsError, match="GUISE_ENVELOPES"):
            stores(tmp_path, GUISE_ENVELOPES="relative")

    def test_memory_keeps_nothing_to_encrypt(self, specs: Path, tmp_path: Path) -> None:
        """What ends with the process rests nowhere."""
        spec(specs, ACME, 1)
        settings = Settings(
            profile="development",
            store="memory:{tenant}",
            tenants=specs,
            envelopes=str(tmp_path),
        )
        assert isinstance(Stores.from_settings(settings).of(ACME), MemoryStore)


@pytest.mark.parametrize(
    ("wanted", "found", "why"),
    [
        (Wanted(1), Protection(KMS), []),
        (Wanted(1), Protection(), ["no default KMS key"]),
        (Wanted(production=True), Protection(), ["no default KMS key"]),
        (
            Wanted(0, production=True),
            Protection(KMS, "versions"),
            ["nothing is erased"],
        ),
        (Wanted(1), Protection(KMS, "versions"), []),
        (Wanted(1, shared=True), Protection(KMS), ["a bucket for each tenant"]),
        (Wanted(0, shared=True, production=True), Protection(KMS), []),
        (Wanted(2, "gcpkms://" + KMS), Protection(KMS), []),
        (Wanted(2, "gcpkms://other"), Protection(KMS), ["not the one"]),
        (Wanted(2, ARN), Protection(ARN), []),
        (
            Wanted(1, production=True, shared=True),
            Protection("", "versions"),
            ["no default KMS key", "a bucket for each", "nothing is erased"],
        ),
    ],
)
def test_a_bucket_is_refused_for_every_reason_at_once(
    wanted: Wanted, found: Protection, why: list[str]
) -> None:
    """One change of the bucket mends them all."""
    reasons = list(wanted.refusals(found))
    assert len(reasons) == len(why)
    assert all(part in reason for part, reason in zip(why, reasons, strict=True))


def test_a_laptops_bucket_is_not_looked_at() -> None:
    """No level, and no production: it takes a permission that few need."""
    assert not Wanted().asks
    assert not Wanted(0).asks
    assert Wanted(1).asks
    assert Wanted(production=True).asks


class TestS3:
    """A bucket of S3's, by moto."""

    @pytest.fixture
    def bucket(self, s3_server: Server) -> str:
        return s3_server.bucket(f"guise-{secrets.token_hex(4)}-acme")

    @staticmethod
    def encrypt(server: Server, bucket: str, **default: str) -> None:
        rule = {"ApplyServerSideEncryptionByDefault": default}
        server.client.put_bucket_encryption(
            Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
        )

    @staticmethod
    def of(server: Server, bucket: str, *, production: bool = True) -> Stores:
        url = f"s3://{bucket}?endpoint={server.endpoint}"
        profile: Any = "production" if production else "development"
        return Stores.from_settings(Settings(profile=profile, tenant=ACME, store=url))

    def test_what_a_bucket_says_of_itself(self, s3_server: Server, bucket: str) -> None:
        """Its default key, if there is one of KMS; and versions, if it keeps any."""
        store = S3Store(bucket, endpoint=s3_server.endpoint)
        assert store.protection() == Protection()
        self.encrypt(s3_server, bucket, SSEAlgorithm="AES256")
        assert store.protection() == Protection()
        self.encrypt(s3_server, bucket, SSEAlgorithm="aws:kms")
        assert store.protection() == Protection(), "AWS's own key is nobody's"
        self.encrypt(s3_server, bucket, SSEAlgorithm="aws:kms", KMSMasterKeyID=ARN)
        assert store.protection() == Protection(ARN)
        for status in ("Enabled", "Suspended"):
            s3_server.client.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": status}
            )
            assert status.lower() in store.protection().keeps

    def test_in_production_a_bucket_without_a_key_is_refused(
        self, s3_server: Server, bucket: str
    ) -> None:
        """Before the first byte; with one it is taken."""
        with pytest.raises(StoreDenied, match="no default KMS key"):
            self.of(s3_server, bucket).of(ACME)
        self.encrypt(s3_server, bucket, SSEAlgorithm="aws:kms", KMSMasterKeyID=ARN)
        self.of(s3_server, bucket).of(ACME).put(A, b"one")

    def test_in_production_a_bucket_with_versions_is_refused(
        self, s3_server: Server, bucket: str
    ) -> None:
        """Nothing would ever be erased there."""
        self.encrypt(s3_server, bucket, SSEAlgorithm="aws:kms", KMSMasterKeyID=ARN)
        s3_server.client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        with pytest.raises(StoreDenied, match="nothing is erased"):
            self.of(s3_server, bucket).of(ACME)
        self.of(s3_server, bucket, production=False).of(ACME)

    def test_another_refusal_is_not_taken_for_a_bucket_without_a_key(
        self, bucket: str
    ) -> None:
        """What it was, is in the log."""

        class Teapot:
            def get_bucket_encryption(self, **_: str) -> None:
                answer = {
                    "Error": {"Code": "Teapot"},
                    "ResponseMetadata": {"HTTPStatusCode": 418},
                }
                raise ClientError(answer, "GetBucketEncryption")

        with pytest.raises(StoreFault, match="Teapot"):
            protection_of(Teapot(), bucket)

    def test_a_bucket_that_is_not_there_is_missing(self, s3_server: Server) -> None:
        """It is not one without a key."""
        with pytest.raises(StoreMissing):
            self.of(s3_server, f"none-{secrets.token_hex(4)}").of(ACME)

    def test_guise_up_refuses_such_a_bucket_at_its_start(
        self, s3_server: Server, bucket: str, specs: Path
    ) -> None:
        """Of whom it would serve; one that is away is no reason to stay down."""
        roster = FolderRoster(specs)
        spec(specs, ACME, 1)
        spec(specs, GLOBEX, 0)

        def up(endpoint: str, pinned: Tenant = ACME) -> None:
            url = f"s3://{bucket}?endpoint={endpoint}"
            settings = Settings(
                profile="development", tenant=pinned, store=url, tenants=specs
            )
            vet(roster, Stores.from_settings(settings))

        with pytest.raises(StoreDenied, match="no default KMS key"):
            up(s3_server.endpoint)
        up(s3_server.endpoint, GLOBEX)
        up("http://127.0.0.1:9")
        vet(FolderRoster(specs / "none"), Stores("memory:{tenant}"))
        self.encrypt(s3_server, bucket, SSEAlgorithm="aws:kms", KMSMasterKeyID=ARN)
        up(s3_server.endpoint)

    def test_a_tenant_whose_data_is_apart_shares_no_bucket(
        self, s3_server: Server, bucket: str, specs: Path
    ) -> None:
        """A prefix has no key of its own."""
        self.encrypt(s3_server, bucket, SSEAlgorithm="aws:kms", KMSMasterKeyID=ARN)
        spec(specs, ACME, 1)
        spec(specs, GLOBEX, 0)
        url = f"s3://{bucket}/{{tenant}}?endpoint={s3_server.endpoint}"
        settings = Settings(profile="development", store=url, tenants=specs)
        found = Stores.from_settings(settings)
        with pytest.raises(StoreDenied, match="a bucket for each tenant"):
            found.of(ACME)
        found.of(GLOBEX).put(A, b"one")


class TestGcs:
    """A bucket of Google's."""

    @pytest.fixture
    def bucket(self, gcs_service: gcs_server.Service) -> str:
        return gcs_service.bucket(f"guise-{secrets.token_hex(4)}-acme")

    @pytest.mark.parametrize(
        ("said", "protection"),
        [
            ({}, Protection()),
            ({"encryption": {"defaultKmsKeyName": KMS}}, Protection(KMS)),
            ({"softDeletePolicy": {"retentionDurationSeconds": "0"}}, Protection()),
            (
                {
                    "softDeletePolicy": {"retentionDurationSeconds": "604800"},
                    "versioning": {"enabled": True},
                },
                Protection("", "soft deletion and versions"),
            ),
        ],
    )
    def test_what_a_bucket_says_of_itself(
        self,
        gcs_service: gcs_server.Service,
        bucket: str,
        said: dict[str, Any],
        protection: Protection,
    ) -> None:
        """Soft deletion is on, by default, for a week."""
        gcs_service.resources[bucket] = said
        store = GcsStore(bucket, endpoint=gcs_service.endpoint)
        assert store.protection() == protection

    def test_where_we_may_not_ask_nothing_is_written(
        self, gcs_service: gcs_server.Service, bucket: str
    ) -> None:
        """Fail closed: the permission is named in docs/encryption.md."""
        gcs_service.refusals.append("forbidden")
        url = f"gs://{bucket}?endpoint={gcs_service.endpoint}"
        settings = Settings(profile="production", tenant=ACME, store=url)
        with pytest.raises(StoreDenied):
            Stores.from_settings(settings).of(ACME)

    def test_a_bucket_that_is_not_there_is_missing(
        self, gcs_service: gcs_server.Service
    ) -> None:
        """It is not one without a key."""
        with pytest.raises(StoreMissing):
            GcsStore("none", endpoint=gcs_service.endpoint).protection()

    def test_the_customers_key_is_held_to(
        self, gcs_service: gcs_server.Service, bucket: str, specs: Path
    ) -> None:
        """It is not enough that there is some key."""
        gcs_service.resources[bucket] = {"encryption": {"defaultKmsKeyName": KMS}}
        url = f"gs://{bucket}?endpoint={gcs_service.endpoint}"
        settings = Settings(
            profile="development", tenant=ACME, store=url, tenants=specs
        )
        spec(specs, ACME, 2, "gcpkms://" + KMS)
        Stores.from_settings(settings).of(ACME)
        spec(specs, ACME, 2, "gcpkms://projects/p/somebody/else")
        with pytest.raises(StoreDenied, match="not the one"):
            Stores.from_settings(settings).of(ACME)


def test_the_keys_of_a_deployment_are_remembered_by_its_stores(
    tmp_path: Path,
) -> None:
    """One cache of keys for all tenants, not one for each."""
    settings = Settings(profile="development", envelopes=str(tmp_path / "keys"))
    resting = Resting.from_settings(settings)
    assert resting is not None
    rings: list[Envelopes | None] = [
        resting.encrypted(tenant, tmp_path / tenant.id)._envelopes
        for tenant in (ACME, GLOBEX)
    ]
    assert rings[0] is rings[1] is resting.envelopes
    assert Resting.from_settings(Settings(profile="development")) is None
