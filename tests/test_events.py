"""Events: what goes out comes in, and nothing else does."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from functions import events
from functions.events import Event, as_dict, decode, encode, from_dict, sign, verify
from functions.keys import MemoryKeys, Signer, Verifier, key_id
from functions.problems import Forbidden, InvalidRequest, Refused, TooLarge

GOLDEN = Path(__file__).parent / "golden" / "events"
KEYS = MemoryKeys()
SIGNER = KEYS.signer("events/acme")
VERIFIERS = KEYS.verifiers("events/acme")
STRUCTURED = {"Content-Type": "application/cloudevents+json"}

FULL = Event(
    id="1",
    source=events.swap_source("acme"),
    type=events.SWAP_STARTED,
    subject="job",
    time="2026-11-21T01:18:03.860Z",
    tenant="acme",
    data={"job": "j-1", "n": 1, "ratio": 0.5, "deep": {"list": [None, True, "ü"]}},
    extensions={"traceparent": "00-ab-cd-01"},
)
BINARY = {
    "ce-id": "1",
    "ce-source": "/s",
    "ce-type": "t",
    "ce-specversion": "1.0",
    "content-type": "application/json",
}
PLAIN: dict[str, Any] = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}

TEXT = st.text(
    st.characters(
        exclude_categories=("Cc", "Cs"),
        exclude_characters="\ufffe\uffff",
    ),
    max_size=12,
)
WORD = TEXT.filter(bool)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=6,
)
EVENTS = st.builds(
    Event,
    id=WORD,
    source=WORD,
    type=WORD,
    subject=TEXT,
    tenant=TEXT,
    time=st.just("") | st.datetimes(timezones=st.just(UTC)).map(events.rfc3339),
    data=st.dictionaries(TEXT, JSON, max_size=4),
    extensions=st.dictionaries(
        st.from_regex(r"\A(?!(?:data|id|sig|time|type)\Z)[a-z0-9]{1,6}\Z").filter(
            lambda name: name not in events._RESERVED
        ),
        WORD,
        max_size=2,
    ),
)


def structured(**changes: object) -> bytes:
    return json.dumps({**PLAIN, **changes}).encode()


def through_the_sdk(event: Event) -> Event:
    """Send an event through another implementation: binary in, structured out."""
    message = http.HTTPMessage(*encode(event))
    theirs = http.from_binary(message, JSONFormat(), CloudEvent)
    answer = http.to_structured(theirs, JSONFormat())
    return decode(answer.headers, answer.body)


def test_the_source_names_the_tenant_and_the_function() -> None:
    """With the id it names a fact for ever, so it never changes."""
    assert events.swap_source("acme") == "/tenants/acme/swap"


class TestRoundTrip:
    """What one of our functions says, another of them hears."""

    @given(EVENTS)
    def test_binary(self, event: Event) -> None:
        """As headers and a body."""
        assert decode(*encode(event)) == event

    @given(EVENTS)
    def test_stored(self, event: Event) -> None:
        """As the JSON that is kept in a record, to be sent again word for word."""
        stored = msgspec.json.encode(as_dict(event))
        assert from_dict(msgspec.json.decode(stored)) == event
        assert decode(STRUCTURED, stored) == event
        assert encode(from_dict(msgspec.json.decode(stored))) == encode(event)

    @given(EVENTS)
    def test_headers_are_plain_ascii(self, event: Event) -> None:
        """Whatever the attributes hold, no header can break the message."""
        headers, body = encode(event)
        assert all(name.replace("-", "a").isalnum() for name in headers)
        assert all(name.isascii() and name.islower() for name in headers)
        assert all(text.isascii() and text.isprintable() for text in headers.values())
        assert json.loads(body) == event.data

    def test_an_event_without_a_time_gets_none(self) -> None:
        """The SDK would draw one, and a signature over none would break."""
        assert "ce-time" not in encode(replace(FULL, time=""))[0]

    def test_the_callers_data_is_not_touched(self) -> None:
        """The SDK changes what it is given."""
        document = as_dict(FULL)
        before = msgspec.json.encode(document)
        from_dict(document)
        assert msgspec.json.encode(document) == before

    def test_a_stored_signed_event_stays_readable(self) -> None:
        """Version 1, as it was first written."""
        private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        kid = key_id(private.public_key().public_bytes_raw())
        document = json.loads((GOLDEN / "started-v1.json").read_bytes())
        event = from_dict(document)
        verify(event, {kid: Verifier(kid, private.public_key())})
        assert as_dict(event) == document
        assert sign(event, Signer(kid, private)) == event


class TestSignature:
    """Who said it, and that nothing was changed on the way."""

    def test_a_signed_event_verifies(self) -> None:
        """Also after any other implementation has handed it on."""
        signed = sign(FULL, SIGNER)
        for event in (signed, decode(*encode(signed)), through_the_sdk(signed)):
            verify(event, VERIFIERS)

    @given(EVENTS)
    def test_binary_to_structured_and_back(self, event: Event) -> None:
        """A broker may hand an event on in the other mode."""
        signed = sign(event, SIGNER)
        there = from_dict(as_dict(decode(*encode(signed))))
        back = decode(*encode(there))
        assert back == signed
        verify(back, VERIFIERS)

    @pytest.mark.parametrize(
        "written",
        [
            "2026-11-21T01:18:03.86Z",  # the Go SDK drops trailing zeros
            "2026-11-21T01:18:03.860000Z",  # the Python SDK adds some
            "2026-11-21T01:18:03.860000000Z",
            "2026-11-21T01:18:03.860+00:00",
            "2026-11-21t01:18:03.860z",
            "2026-11-21T02:18:03.860+01:00",
        ],
    )
    def test_a_broker_may_write_the_time_in_its_own_way(self, written: str) -> None:
        """The moment is signed, and read in one form."""
        headers, body = encode(sign(FULL, SIGNER))
        event = decode(headers | {"ce-time": written}, body)
        verify(event, VERIFIERS)
        verify(replace(event, time=written), VERIFIERS)
        assert event.time == FULL.time

    @pytest.mark.parametrize(
        "change",
        [
            {"id": "2"},
            {"source": "/tenants/globex/swap"},
            {"type": events.SWAP_COMPLETED},
            {"subject": "other"},
            {"subject": ""},
            {"time": "2026-11-21T01:18:03.861Z"},
            {"time": "2026-11-21T01:18:03.860001Z"},
            {"time": ""},
            {"tenant": "globex"},
            {"tenant": ""},
            {"data": {}},
            {"data": {**FULL.data, "n": 2}},
            {"data": {**FULL.data, "n": "1"}},
            {"data": {**FULL.data, "deep": {"list": [None, 1, "ü"]}}},
        ],
    )
    def test_a_changed_attribute_breaks_it(self, change: dict[str, Any]) -> None:
        """Every one that says something is covered."""
        with pytest.raises(Forbidden):
            verify(replace(sign(FULL, SIGNER), **change), VERIFIERS)

    @pytest.mark.parametrize("sig", ["", "!", "é", "AAAA", "A" * 88, "A" * 10_000])
    def test_a_garbage_signature_is_forbidden(self, sig: str) -> None:
        """Whatever it is, it is not ours."""
        with pytest.raises(Forbidden):
            verify(replace(sign(FULL, SIGNER), sig=sig), VERIFIERS)

    def test_an_unsigned_event_is_forbidden(self) -> None:
        """Also where there are no keys at all."""
        with pytest.raises(Forbidden):
            verify(FULL, VERIFIERS)
        with pytest.raises(Forbidden):
            verify(FULL, {})

    def test_another_tenants_key_is_forbidden(self) -> None:
        """Its signature is good, but not here."""
        with pytest.raises(Forbidden):
            verify(sign(FULL, KEYS.signer("events/globex")), VERIFIERS)

    def test_another_tenants_key_under_our_id_is_forbidden(self) -> None:
        """The id says which key to use, not that it was used."""
        forged = sign(FULL, KEYS.signer("events/globex"))
        with pytest.raises(Forbidden):
            verify(replace(forged, sigkid=SIGNER.kid), VERIFIERS)

    @pytest.mark.parametrize(
        "value", [2**53, float("nan"), float("inf"), {1: 2}, "\ud800"]
    )
    def test_data_without_a_canonical_form_is_not_signed(self, value: object) -> None:
        """Two readers might not agree on what was signed."""
        with pytest.raises(InvalidRequest):
            sign(replace(FULL, data={"x": value}), SIGNER)

    def test_data_too_deep_to_sign_is_invalid(self) -> None:
        """And not a crash."""
        deep: dict[str, Any] = {}
        for _ in range(5000):
            deep = {"x": deep}
        with pytest.raises(InvalidRequest):
            sign(replace(FULL, data=deep), SIGNER)


class TestValidByConstruction:
    """An `Event` can be sent, stored and logged as it is."""

    @pytest.mark.parametrize("name", ["id", "source", "type"])
    def test_the_names_of_a_fact_are_not_empty(self, name: str) -> None:
        """Or it could not be told from another."""
        change: dict[str, Any] = {name: ""}
        with pytest.raises(InvalidRequest):
            replace(FULL, **change)

    @pytest.mark.parametrize("text", ["a\r\nX: 1", "a\0", "a\x7f", "\x85", "\ud800"])
    @pytest.mark.parametrize(
        "name", ["id", "source", "type", "subject", "tenant", "sig"]
    )
    def test_header_injection_is_refused(self, name: str, text: str) -> None:
        """No attribute holds what ends a header, a log line or a C string."""
        change: dict[str, Any] = {name: text}
        with pytest.raises(InvalidRequest):
            replace(FULL, **change)

    @pytest.mark.parametrize(
        "name",
        ["", "a\n", "a\r\nx-evil", "a-b", "A", "a b", "é", "data", "id", "time", "sig"],
    )
    def test_an_extension_cannot_pose_as_something_else(self, name: str) -> None:
        """Its name becomes a header's, and must not be one of ours."""
        with pytest.raises(InvalidRequest):
            replace(FULL, extensions={name: "x"})

    def test_header_injection_by_an_extensions_text_is_refused(self) -> None:
        """As by any other attribute."""
        with pytest.raises(InvalidRequest):
            replace(FULL, extensions={"x": "a\r\nb: c"})

    @pytest.mark.parametrize(
        "time",
        [
            "yesterday",
            "2026-11-21",
            "2026-11-21T01:18:03",
            "2026-11-21 01:18:03Z",
            "2026-11-21\n01:18:03Z",
            "2026-11-21\u202801:18:03Z",
            "2026-11-21T01:18:03Z\r\nX: 1",
            "20261121T011803Z",
            "2026-W47-6T01:18:03Z",
            "2026-02-30T01:18:03Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T23:59:60Z",
            "2026-11-21T01:18:03.Z",
            "2026-11-21T01:18:03+25:00",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "٢٠٢٦-11-21T01:18:03Z",
            "-1",
        ],
    )
    def test_a_time_that_is_not_rfc_3339_is_refused(self, time: str) -> None:
        """ISO 8601 allows much that nobody expects, in a header least of all."""
        with pytest.raises(InvalidRequest):
            replace(FULL, time=time)
        with pytest.raises(InvalidRequest):
            decode(STRUCTURED, structured(time=time))

    def test_an_id_depends_on_its_parts_alone(self) -> None:
        """A retry repeats itself; parts that only look alike when joined do not."""
        assert events.derived_id("a", "b") == events.derived_id("a", "b")
        assert events.derived_id("a", "b") != events.derived_id("a\nb")
        assert events.derived_id("a\nb", "c") != events.derived_id("a", "b\nc")
        assert events.derived_id("a", "") != events.derived_id("", "a")
        assert events.derived_id("ü").isalnum()

    def test_now_is_rfc_3339_in_utc(self) -> None:
        """To the millisecond, in the form in which it is read."""
        event = replace(FULL, time=events.now())
        assert decode(*encode(event)).time == event.time
        assert abs(datetime.now(UTC) - datetime.fromisoformat(event.time)).seconds < 5


class TestTolerated:
    """What others may send us."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [("x", "x"), (5, "5"), (-1, "-1"), (True, "true"), (False, "false")],
    )
    def test_an_extension_nobody_here_knows_is_kept(
        self, value: object, text: str
    ) -> None:
        """As CloudEvents writes its type in a header, so that both modes agree."""
        event = decode(STRUCTURED, structured(unknown=value))
        assert event.extensions == {"unknown": text}
        assert decode(*encode(event)) == event

    def test_an_attribute_that_is_null_is_absent(self) -> None:
        """CloudEvents' JSON format says so."""
        body = structured(subject=None, time=None, data=None, tenant=None, x=None)
        assert decode(STRUCTURED, body) == decode(STRUCTURED, structured())

    @pytest.mark.parametrize(
        "media",
        [
            "application/json",
            "Application/JSON; charset=utf-8",
            "text/json",
            "application/vnd.acme+json",
            "application/problem+json ;x=y",
        ],
    )
    def test_every_kind_of_json_is_json(self, media: str) -> None:
        """Parameters and capitals do not matter."""
        headers = {**BINARY, "content-type": media}
        assert decode(headers, b'{"a":1}').data == {"a": 1}
        body = structured(datacontenttype=media, data={"a": 1})
        assert decode(STRUCTURED, body).data == {"a": 1}

    def test_no_data_is_empty_data(self) -> None:
        """With or without a content type, in either mode."""
        bare = {name: text for name, text in BINARY.items() if name != "content-type"}
        assert decode(BINARY, b"").data == {}
        assert decode(bare, b"").data == {}
        assert decode(bare, b'{"a":1}').data == {"a": 1}
        assert decode(STRUCTURED, structured()).data == {}

    @pytest.mark.parametrize(
        "media",
        ["application/cloudevents+json; charset=UTF-8", "APPLICATION/CloudEvents+JSON"],
    )
    def test_structured_mode_is_told_by_the_media_type(self, media: str) -> None:
        """Headers in binary mode's style are then no part of the event."""
        headers = {"CONTENT-type": media, "ce-id": "other"}
        assert decode(headers, structured()).id == "1"

    def test_names_of_headers_have_no_case(self) -> None:
        """A server may write them as it likes."""
        headers = {name.title(): text for name, text in BINARY.items()}
        assert decode(headers, b"") == decode(BINARY, b"")

    def test_headers_are_percent_decoded_once(self) -> None:
        """All of them, the time too."""
        headers = {
            **BINARY,
            "ce-id": "%C3%BC %2541",
            "ce-time": "2026-11-21T01%3A18%3A03Z",
            "ce-sure": "100% sure",
        }
        event = decode(headers, b"")
        assert event.id == "ü %41"
        assert event.time == "2026-11-21T01:18:03.000Z"
        assert event.extensions == {"sure": "100% sure"}

    def test_data_may_come_in_base64(self) -> None:
        """As long as it is JSON."""
        data = base64.b64encode(b'{"a":1}').decode()
        assert decode(STRUCTURED, structured(data_base64=data)).data == {"a": 1}

    @pytest.mark.parametrize("generation", ["1587627537231057", 96883251])
    def test_googles_storage_event_is_read(self, generation: object) -> None:
        """In the mode in which Eventarc sends it; numbers may be text or numbers."""
        data = json.loads((GOLDEN / "storage-finalized.json").read_bytes())
        data["generation"] = generation
        headers = {
            "ce-id": "1110592384572039",
            "ce-source": "//storage.googleapis.com/projects/_/buckets/guise-acme",
            "ce-type": events.OBJECT_FINALIZED,
            "ce-specversion": "1.0",
            "ce-subject": "objects/requests/j-1.json",
            "ce-time": "2020-04-23T07:38:57.230123Z",
            "ce-bucket": "guise-acme",
            "Content-Type": "application/json; charset=utf-8",
        }
        event = decode(headers, json.dumps(data).encode())
        assert event.type in events.WAKE_UPS
        assert event.subject == "objects/requests/j-1.json"
        assert event.time == "2020-04-23T07:38:57.230123Z"
        assert event.extensions == {"bucket": "guise-acme"}
        assert event.data == data


class TestMalformed:
    """A broker retries a 500 for ever and drops a 400: only refusals leave `decode`."""

    @pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
    def test_a_missing_attribute_is_refused_not_invented(self, name: str) -> None:
        """A drawn id would count a retry twice."""
        headers = {key: text for key, text in BINARY.items() if key != f"ce-{name}"}
        document = {key: text for key, text in PLAIN.items() if key != name}
        with pytest.raises(InvalidRequest, match=name):
            decode(headers, b"")
        with pytest.raises(InvalidRequest, match=name):
            decode(STRUCTURED, json.dumps(document).encode())
        with pytest.raises(InvalidRequest, match=name):
            decode(STRUCTURED, structured(**{name: None}))
        with pytest.raises(InvalidRequest, match=name):
            decode(headers | {f"ce-{name}": ""}, b"")

    @pytest.mark.parametrize(
        "headers",
        [
            {"ce-specversion": "0.3"},
            {"ce-specversion": "2"},
            {"ce-id": "%ff"},
            {"ce-id": "%ed%a0%80"},
            {"ce-id": "a%0d%0ab"},
            {"ce-id": "%00"},
            {"ce-subject": ""},
            {"ce-time": ""},
            {"ce-time": "now"},
            {"ce-time": "%ff"},
            {"ce-": "x"},
            {"ce-some-thing": "x"},
            {"ce-data": "x"},
            {"ce-data_base64": "e30="},
            {"ce-é": "x"},
            {"ce-x": "%0A"},
            {"content-type": "text/plain"},
            {"content-type": "application/xml"},
            {"content-type": "application/json\n"},
            {"content-type": "application/cloudevents-batch+json"},
        ],
        ids=str,
    )
    def test_a_malformed_header_is_refused(self, headers: dict[str, str]) -> None:
        """In binary mode."""
        with pytest.raises(InvalidRequest):
            decode({**BINARY, **headers}, b"{}")

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b"null {}",
            b"1",
            b'"text"',
            b"not json",
            b"\xff\xfe",
            b'{"a":"\xff"}',
            b'\xef\xbb\xbf{"a":1}',
            '{"a":1}'.encode("utf-16"),
            b'{"a":NaN}',
            b'{"a":Infinity}',
            b'{"a":1e999}',
            b'{"a":"\\ud800"}',
            b'{"a":1,"a":2}',
            b'{"a":1,"\\u0061":2}',
            b'{"b":{"a":1,"a":1}}',
            b'{"a":"\n"}',
            b'{"a":' + b"9" * 5000 + b"}",
            b"[" * 60_000,
            b'{"a":' * 10_000,
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
            b"{}x",
            b"{'a':1}",
        ],
        ids=lambda body: repr(body[:20]),
    )
    def test_malformed_data_is_refused(self, body: bytes) -> None:
        """In either mode: not JSON, not one reading, or not an object."""
        with pytest.raises(InvalidRequest):
            decode(BINARY, body)
        whole = structured()[:-1] + b', "data":' + body + b"}"
        with pytest.raises(InvalidRequest):
            decode(STRUCTURED, whole)
        encoded = base64.b64encode(body[:40_000]).decode()
        with pytest.raises(InvalidRequest):
            decode(STRUCTURED, structured(data_base64=encoded))

    @pytest.mark.parametrize(
        "changes",
        [
            {"id": 5},
            {"id": ["x"]},
            {"source": {}},
            {"type": True},
            {"specversion": 1.0},
            {"subject": 5},
            {"subject": ""},
            {"time": 5},
            {"time": ""},
            {"time": ["2026-11-21T01:18:03Z"]},
            {"datacontenttype": 5},
            {"datacontenttype": ""},
            {"datacontenttype": "text/plain", "data": "x"},
            {"dataschema": ""},
            {"x": 1.5},
            {"x": []},
            {"x": {}},
            {"x\n": "a"},
            {"X": "a"},
            {"": "a"},
            {"tenant": {}},
            {"sig": []},
            {"x": "a\nb"},
            {"data_base64": "e30"},
            {"data_base64": "e30=!!"},
            {"data_base64": "é"},
            {"data_base64": 5},
            {"data_base64": {}},
            {"data_base64": ""},
            {"data_base64": "e30=", "data": {}},
            {"id": "a\ud800"},
        ],
        ids=str,
    )
    def test_a_malformed_document_is_refused(self, changes: dict[str, Any]) -> None:
        """In structured mode: wrong types, wrong names, broken base64."""
        with pytest.raises(InvalidRequest):
            decode(STRUCTURED, structured(**changes))

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 60_000]
    )
    def test_a_body_that_is_no_document_is_refused(self, body: bytes) -> None:
        """In structured mode the body is everything."""
        with pytest.raises(InvalidRequest):
            decode(STRUCTURED, body)

    def test_an_attribute_given_twice_is_refused(self) -> None:
        """A filter before us might read the other one."""
        body = structured()[:-1] + b', "type": "' + events.SWAP_STARTED.encode() + b'"}'
        with pytest.raises(InvalidRequest):
            decode(STRUCTURED, body)

    def test_an_event_over_the_limit_is_too_large(self) -> None:
        """And one of exactly that size is not."""
        body = b'{"a":"' + b"x" * 65_527 + b'"}'
        assert len(body) == events.EVENT_BYTES_MAX
        assert len(decode(BINARY, body).data["a"]) == 65_527
        with pytest.raises(TooLarge):
            decode(BINARY, body + b" ")
        with pytest.raises(TooLarge):
            decode(BINARY, b"{}", bytes_max=1)

    def test_no_headers_at_all_are_refused(self) -> None:
        """An empty request is no event."""
        with pytest.raises(InvalidRequest):
            decode({}, b"")

    @given(
        st.dictionaries(
            st.sampled_from([*BINARY, "ce-time", "ce-x", "ce-subject", "ce-sig"])
            | st.text(max_size=6).map("ce-".__add__),
            st.text(max_size=20)
            | st.sampled_from(["1.0", "application/json", *STRUCTURED.values()]),
        ),
        st.binary(max_size=60)
        | JSON.map(lambda value: json.dumps(value).encode())
        | JSON.map(lambda value: structured(data=value)),
    )
    def test_fuzzed_requests_are_read_or_refused(
        self, headers: dict[str, str], body: bytes
    ) -> None:
        """Nothing else ever leaves."""
        for whole in (headers, {**BINARY, **headers}):
            try:
                event = decode(whole, body)
            except Refused:
                continue
            encode(event)

    @given(st.data())
    def test_a_good_event_with_a_few_bytes_changed_is_read_or_refused(
        self, data: st.DataObject
    ) -> None:
        """And what is read can be written again."""
        body = bytearray(msgspec.json.encode(as_dict(FULL)))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(body) - 1))
            body[place] = data.draw(st.sampled_from(b'\0"{}[],:\\u\xff019.eE-ntf '))
        try:
            event = decode(STRUCTURED, bytes(body))
        except Refused:
            return
        assert decode(*encode(event)) == event

    @given(
        st.dictionaries(
            st.sampled_from(
                [*PLAIN, "data", "data_base64", "time", "sig", "x", "subject"]
            ),
            JSON,
        )
    )
    def test_a_document_of_any_types_is_read_or_refused(
        self, document: dict[str, Any]
    ) -> None:
        """Also one that somebody has stored in place of ours."""
        for whole in (document, {**PLAIN, **document}):
            try:
                event = from_dict(whole)
            except Refused:
                continue
            encode(event)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.text('ab\\"/\x7f\x1f é'),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text("aB\\é\U00010000\uffff"), inner)
    ),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_canonical_json_is_that_of_rfc_8785(value: object) -> None:
    """The quick way and the library's give the same bytes, for any JSON."""
    assert events.canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [b"bytes", datetime(2026, 1, 1, tzinfo=UTC), {1: "a"}, {"a": {1, 2}}, 2**53],
)
def test_what_json_does_not_know_has_no_canonical_form(value: object) -> None:
    """A quick encoder would write each of these; what is signed would be a guess."""
    with pytest.raises(InvalidRequest):
        events.canonical(value)
