"""Tenants, and the keys that nobody else can make."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from functions.problems import InvalidRequest, UnknownTenant
from functions.tenant import KEY_BYTES_MAX, Tenant, job_id, job_of_request

ACME = Tenant("acme")
ROOT = PurePosixPath("/srv/tenants/acme")

# Text that looks like a path more often than chance would have it.
PATHS = st.lists(
    st.one_of(
        st.sampled_from(["..", ".", "/", "//", "uploads", "%2e%2e", "\\", "\0", "~"]),
        st.sampled_from(
            [
                "\uff0e\uff0e",
                "\uff0f",
                "\u2025",
                "\u202e",
                "\u2028",
                "é",
                "e\u0301",
                "\ud800",
            ]
        ),
        st.text(max_size=8),
    ),
    max_size=8,
).map("".join)


@given(PATHS)
def test_whatever_is_accepted_stays_inside(text: str) -> None:
    """A key, joined to the tenant's root, names something below `uploads`."""
    try:
        key = ACME.upload(f"uploads/{text}")
    except InvalidRequest:
        return
    path = ROOT / key
    assert ".." not in path.parts
    assert path.is_relative_to(ROOT / "uploads")
    assert str(path) == f"{ROOT}/{key}"
    assert str(path.relative_to(ROOT)) == key


@given(PATHS)
def test_whatever_is_accepted_is_what_was_sent(text: str) -> None:
    """A key is never rewritten: one object has one name, in every Unicode form."""
    try:
        key = ACME.upload(f"uploads/{text}")
    except InvalidRequest:
        return
    assert key == f"uploads/{text}"
    assert unicodedata.normalize("NFC", key) == key
    assert key.encode().decode() == key
    assert len(key.encode()) <= KEY_BYTES_MAX


@given(PATHS)
def test_nothing_outside_the_prefix_is_accepted(text: str) -> None:
    """What does not begin with `uploads/` is no upload."""
    assume(not text.startswith("uploads/"))
    with pytest.raises(InvalidRequest):
        ACME.upload(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("uploads/../results/j/job.json", id="dot dot"),
        pytest.param("uploads/a/../../../etc/passwd", id="dot dot deeper"),
        pytest.param("uploads/..", id="dot dot at the end"),
        pytest.param("uploads/./a", id="dot"),
        pytest.param("uploads/.tmp/a", id="hidden"),
        pytest.param("uploads//a", id="empty part"),
        pytest.param("uploads/a/", id="a folder"),
        pytest.param("uploads/", id="no name"),
        pytest.param("uploads", id="no slash"),
        pytest.param("", id="empty"),
        pytest.param("/uploads/a", id="absolute"),
        pytest.param("//host/uploads/a", id="network path"),
        pytest.param("file:///uploads/a", id="a URL"),
        pytest.param("gs://globex/uploads/a", id="another bucket"),
        pytest.param("globex/uploads/a", id="another tenant's prefix"),
        pytest.param("results/j/job.json", id="another prefix of one's own"),
        pytest.param("requests/j.json", id="a request as an input"),
        pytest.param("Uploads/a", id="upper case"),
        pytest.param("uploads/%2e%2e/a", id="percent-encoded dots"),
        pytest.param("uploads/%2E%2E%2Fa", id="percent-encoded slash"),
        pytest.param("uploads/%252e%252e/a", id="encoded twice"),
        pytest.param("uploads/a%00.jpg", id="percent-encoded NUL"),
        pytest.param("uploads/a\0.jpg", id="NUL"),
        pytest.param("uploads/a\n.jpg", id="newline"),
        pytest.param("uploads/a\x7f.jpg", id="delete"),
        pytest.param("uploads/a\x85.jpg", id="C1 control"),
        pytest.param("uploads/a\u2028.jpg", id="line separator"),
        pytest.param("uploads/a\u2029.jpg", id="paragraph separator"),
        pytest.param("uploads/..\\a", id="backslash"),
        pytest.param("uploads/\u202egpj.exe", id="right to left override"),
        pytest.param("uploads/a\u2066b", id="bidi isolate"),
        pytest.param("uploads/a\u200bb", id="zero width space"),
        pytest.param("uploads/\ufeffa", id="byte order mark"),
        pytest.param("uploads/e\u0301", id="not in form C"),
        pytest.param("uploads/\u212b", id="a second code point for a letter"),
        pytest.param("uploads/\ud800", id="lone surrogate"),
        pytest.param("uploads/\ue000", id="private use"),
        pytest.param("uploads/" + "a" * 505, id="513 bytes"),
        pytest.param("uploads/" + "é" * 253, id="513 bytes, fewer letters"),
    ],
)
def test_path_tricks_are_refused(text: str) -> None:
    """Each would be another object, or would look like one."""
    with pytest.raises(InvalidRequest):
        ACME.upload(text)


@pytest.mark.parametrize(
    "text",
    [
        "uploads/a.jpg",
        "uploads/holiday 2024/Ännchen (1).jpg",
        "uploads/100%.png",
        "uploads/a..b",
        "uploads/\uff5eacme",
        "uploads/\uff0e\uff0e",  # full-width dots are letters to every file system
        "uploads/顔.webp",
        "uploads/" + "a" * 504,
    ],
)
def test_ordinary_names_are_accepted(text: str) -> None:
    """People name their pictures as they like."""
    assert ACME.upload(text) == text


def test_consents_have_their_own_prefix() -> None:
    """A consent record is no upload, and an upload no consent."""
    assert ACME.consent("consents/42.json") == "consents/42.json"
    with pytest.raises(InvalidRequest):
        ACME.consent("uploads/42.json")
    with pytest.raises(InvalidRequest):
        ACME.upload("consents/42.json")


@given(st.text(max_size=40))
def test_a_tenant_id_is_one_path_segment_and_one_dns_label(text: str) -> None:
    """Whatever is accepted could be a host name and a folder."""
    try:
        tenant = Tenant(text)
    except UnknownTenant:
        return
    assert 1 <= len(tenant.id) <= 32
    assert tenant.id.isascii()
    assert tenant.id.replace("-", "a").isalnum()
    assert tenant.id == tenant.id.lower()


@pytest.mark.parametrize(
    "text",
    ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a\n", "á", "٣", "a" * 33, "a b"],
)
def test_a_tenant_id_of_another_shape_is_unknown(text: str) -> None:
    """And the answer does not repeat it."""
    with pytest.raises(UnknownTenant) as caught:
        Tenant(text)
    assert caught.value.detail == ""


@pytest.mark.parametrize("text", ["a", "acme", "a-1", "0", "a" * 32, "a--b"])
def test_a_tenant_is_equal_to_its_like(text: str) -> None:
    """Tenants are values."""
    assert Tenant(text) == Tenant(text)
    assert len({Tenant(text), Tenant(text)}) == 1


@pytest.mark.parametrize(
    "text",
    ["", "a/b", "..", "a.json", "A", "-", "a-", "a\n", "a\0", "a" * 65, "é", "a%2fb"],
)
def test_a_job_id_cannot_leave_its_folder(text: str) -> None:
    """It becomes a part of every key of the job."""
    with pytest.raises(InvalidRequest):
        job_id(text)


def test_the_keys_of_a_job_are_those_of_the_design() -> None:
    """The layout is a contract: other programs read it."""
    assert [
        ACME.request("j-1"),
        ACME.received("j-1", "source"),
        ACME.pinned("j-1"),
        ACME.claim("j-1"),
        ACME.record("j-1"),
        ACME.output("j-1", 2, "jpg"),
        ACME.outbox("j-1"),
        ACME.undelivered("j-1"),
    ] == [
        "requests/j-1.json",
        "uploads/j-1/source",
        "jobs/j-1/request.json",
        "jobs/j-1/claim.json",
        "results/j-1/job.json",
        "results/j-1/2.jpg",
        "outbox/j-1",
        "undelivered/j-1.json",
    ]


@pytest.mark.parametrize(
    "make",
    [
        ACME.request,
        ACME.pinned,
        ACME.claim,
        ACME.record,
        ACME.outbox,
        ACME.undelivered,
        lambda job: ACME.received(job, "source"),
        lambda job: ACME.output(job, 1, "jpg"),
    ],
)
def test_no_key_is_made_of_a_hostile_job(make: object) -> None:
    """Every maker checks the job itself."""
    assert callable(make)
    with pytest.raises(InvalidRequest):
        make("../globex")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "", ".", "a\0"])
def test_a_received_file_cannot_leave_its_job(name: str) -> None:
    """The name is the client's, from a multipart header."""
    with pytest.raises(InvalidRequest):
        ACME.received("j", name)


@pytest.mark.parametrize("extension", ["", "JPG", "a/b", "..", "jpegxl", "j\n"])
def test_an_output_has_a_plain_extension(extension: str) -> None:
    """It comes from our own formats, and nothing else passes."""
    with pytest.raises(InvalidRequest):
        ACME.output("j", 1, extension)


def test_an_uploaded_request_names_its_job() -> None:
    """`requests/<job>.json` is job `<job>`."""
    assert job_of_request(ACME.request("j-1")) == "j-1"


@pytest.mark.parametrize(
    "name",
    [
        "requests/j",
        "requests/.json",
        "j.json",
        "requests/a/b.json",
        "requests/requests/j.json",
        "uploads/requests/j.json",
        "requests/J.json",
        "requests/j.json.json",
        "requests/j.json\n",
        "",
    ],
)
def test_another_object_starts_nothing(name: str) -> None:
    """A notification for any other name is malformed."""
    with pytest.raises(InvalidRequest):
        job_of_request(name)
