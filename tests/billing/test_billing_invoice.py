"""Invoices: one rounding a line, the payable the sum, the same usage the same bytes."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.billing.canonical import canonical
from functions.billing.credits import Available, Credit
from functions.billing.drafting import Bill, Late, draft
from functions.billing.evidence import root_of
from functions.billing.invoice import Invoice, Period, State, number, parse, state
from functions.billing.money import EXACT, coins
from functions.billing.rates import RateCards
from functions.billing.rating import Meter
from functions.problems import InvalidRequest
from tests.billing.bills import OCTOBER, bill, cards, issued, spans
from tests.billing.prices import (
    HEAD,
    NOVEMBER,
    PRICES,
    cards_of,
    metered,
    one_rate,
    used,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.billing.invoice import Line

GOLDEN = Path(__file__).with_name("golden")

METERS = [
    *[Meter("cpu.exec"), Meter("request"), Meter("storage")],
    *[Meter("gpu.exec", "NVIDIA L4"), Meter("gpu.exec", "NVIDIA H100 80GB HBM3")],
]
sums = st.dictionaries(
    st.sampled_from(METERS),
    st.integers(0, 10**15).map(lambda n: Decimal(n).scaleb(-6, context=EXACT)),
)


def of(kind: str, invoice: Invoice) -> list[Line]:
    return [line for line in invoice.lines if line.kind == kind]


def simple(
    found: RateCards, quantities: Mapping[Meter, Decimal], **more: Any
) -> Invoice:
    given: dict[str, Any] = {"metered": metered(found, quantities), **more}
    return draft(Bill(tenant="acme", period=NOVEMBER, **given), found)


def test_a_hundred_thousand_swaps_bill_what_they_are_worth() -> None:
    """Issue 7: 100,000 swaps of 136 ms at 0.000222 USD are one line of 3.02."""
    found = {Meter("gpu.exec", "NVIDIA L4"): Decimal("13600.000")}
    invoice = simple(RateCards.load(), found)
    (line,) = invoice.lines
    assert (line.exact, line.amount, line.amount_minor) == ("3.0192", "3.02", 302)
    assert (invoice.total, invoice.total_minor) == ("3.02", 302)


@given(sums, sums, sums)
def test_the_payable_is_the_sum_of_what_is_shown(
    now: Mapping[Meter, Decimal],
    before: Mapping[Meter, Decimal],
    more: Mapping[Meter, Decimal],
) -> None:
    """Each line is its quantity times its price, rounded half up once.

    A correction is the difference of two such lines, so it may be a coin beside it.
    """
    after = {m: before.get(m, Decimal(0)) + more.get(m, Decimal(0)) for m in METERS}
    found = cards()
    late = Late(OCTOBER, spans(found, OCTOBER, before), spans(found, OCTOBER, after))
    invoice = draft(bill(metered=spans(found, NOVEMBER, now), late=(late,)), found)
    assert invoice.total_minor == sum(line.amount_minor for line in invoice.lines)
    assert invoice.total_minor == (
        invoice.net_minor + invoice.credits_minor + invoice.tax_minor
    )
    assert Decimal(invoice.total) * 100 == invoice.total_minor
    for line in of("usage", invoice) + of("correction", invoice):
        with localcontext(EXACT):
            exact = Decimal(line.quantity) * Decimal(line.unit_price)
        with localcontext() as context:
            context.prec = 60
            coins_ = exact.quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert Decimal(line.exact) == exact
        beside = abs(Decimal(line.amount) - coins_)
        assert beside <= (Decimal("0.01") if line.kind == "correction" else 0)


events_ = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from(METERS),
        st.integers(0, 10**9),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda each: each[0],
)


@given(events_, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_any_order_and_any_duplicates_give_the_same_bytes(
    found: list[tuple[int, Meter, int, bool]], dice: Any
) -> None:
    """Events are counted once each, and sums do not know an order."""
    delivered = found * 3
    dice.shuffle(delivered)
    assert bytes_of(delivered) == bytes_of(found)


def bytes_of(delivered: list[tuple[int, Meter, int, bool]]) -> bytes:
    """Return the invoice over events that came in this order, some of them late."""
    seen: dict[int, tuple[Meter, int, bool]] = {}
    for name, meter, millionths, late in delivered:
        seen.setdefault(name, (meter, millionths, late))
    sums_: list[dict[Meter, Decimal]] = [{}, {}]
    for meter, millionths, late in seen.values():
        part = sums_[late]
        part[meter] = part.get(meter, Decimal(0)) + Decimal(millionths).scaleb(-6)
    card = cards()
    late_ = Late(OCTOBER, (), spans(card, OCTOBER, sums_[1]))
    digests = sorted(sha256(str(name).encode()).digest() for name in seen)
    whole = bill(
        metered=spans(card, NOVEMBER, sums_[0]), late=(late_,), events=root_of(digests)
    )
    return canonical(draft(whole, card))


def test_an_invoice_is_these_bytes() -> None:
    """Golden: what is stored for ever; a later Guise writes and reads the same."""
    kept = (GOLDEN / "invoice-v1.json").read_bytes().rstrip(b"\n")
    assert canonical(issued()) == kept
    assert parse(kept) == issued()
    assert canonical(parse(kept)) == kept


def test_equal_invoices_have_equal_bytes_whatever_made_them() -> None:
    """Text that was parsed is another object than text that was computed."""
    drafted = draft(bill(), cards())
    again = msgspec.json.decode(msgspec.json.encode(drafted), type=Invoice)
    assert canonical(again) == canonical(drafted)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b'{"version":2}', b"\xff", canonical(issued())[:-1] + b',"x":1}'],
)
def test_what_is_no_invoice_is_refused(text: bytes) -> None:
    """Another version, a field nobody knows, no JSON."""
    with pytest.raises(ValueError, match=r".") as error:
        parse(text)
    assert isinstance(error.value, msgspec.DecodeError | UnicodeDecodeError)


def test_nothing_used_is_nothing_owed() -> None:
    """An invoice without lines is zero, with the currency's coins."""
    invoice = simple(RateCards.load(), {})
    assert (invoice.lines, invoice.total, invoice.total_minor) == ((), "0.00", 0)
    assert draft(Bill(tenant="acme", period=NOVEMBER, metered=()), cards()).lines == ()


@pytest.mark.parametrize(
    ("currency", "total"), [("JPY", "3"), ("USD", "3.02"), ("KWD", "3.019")]
)
def test_a_line_is_rounded_to_its_currencys_coin(
    tmp_path: Path, currency: str, total: str
) -> None:
    """No decimals of a yen, two of a dollar, three of a dinar."""
    found = cards_of(tmp_path, HEAD.replace("USD", currency) + PRICES)
    assert simple(found, used(gpu_exec=13600)).total == total


def test_lines_too_small_for_a_coin_add_up_to_nothing(tmp_path: Path) -> None:
    """What is rounded is the line, which the reader sees; not the sum behind it."""
    found = cards_of(tmp_path, HEAD + PRICES)
    invoice = simple(found, used(cpu_exec=200, gpu_exec=20))
    assert [line.exact for line in invoice.lines] == ["0.0048", "0.00444"]
    assert invoice.total == "0.00"


def test_a_bill_beyond_what_json_holds_is_an_error(tmp_path: Path) -> None:
    """Rather no invoice than a wrong one."""
    found = one_rate(tmp_path, 'unit = "request", price = "99999999"')
    with pytest.raises(ValueError, match="more than an invoice can hold"):
        simple(found, used(request=10**13))


# The minimum


def test_a_minimum_is_a_line_of_what_is_missing(tmp_path: Path) -> None:
    """The lines come to the minimum, exactly; above it there is no such line."""
    found = cards_of(tmp_path, HEAD + 'minimum = "5.00"' + PRICES)
    invoice = simple(found, used(request=1000))
    assert [(each.kind, each.amount) for each in invoice.lines] == [
        ("usage", "0.40"),
        ("minimum", "4.60"),
    ]
    assert (invoice.total, invoice.lines[1].rate_card) == ("5.00", "a")
    (last,) = of("minimum", simple(found, used(request=12_475)))
    assert last.amount == "0.01"
    assert of("minimum", simple(found, used(request=12_500))) == []
    assert simple(found, {}).total == "5.00"


def test_a_minimum_is_taxed_and_credits_may_pay_it(tmp_path: Path) -> None:
    """It is a charge as any other: credits come after it, tax last."""
    text = 'minimum = "5.00"\ntax = { name = "VAT", rate = "0.10" }'
    found = cards_of(tmp_path, HEAD + text + PRICES)
    credit = Credit(id="c", tenant="acme", currency="USD", amount_minor=300, from_ms=0)
    invoice = simple(found, {}, credits=(Available(credit, 300),))
    assert (invoice.net, invoice.credits, invoice.tax, invoice.total) == (
        *("5.00", "-3.00"),
        *("0.20", "2.20"),
    )


# Tax


def test_tax_is_a_line_of_its_own_with_its_base() -> None:
    """Rounded once, on what is left after the credits."""
    invoice = issued()
    (line,) = of("tax", invoice)
    base = invoice.net_minor + invoice.credits_minor
    assert line.base_minor == base
    assert Decimal(line.exact) == Decimal(coins(base, 2)) * Decimal("0.19")
    assert line.amount_minor == (base * 19 + 50) // 100


def test_usage_is_taxed_as_it_was_when_it_was_used(tmp_path: Path) -> None:
    """A rate that changes in the middle of a month makes two taxes."""
    old = HEAD + 'tax = { name = "VAT", rate = "0.16" }' + PRICES
    new = HEAD.replace('"a"', '"b"').replace("2025-01-01", "2026-11-15")
    new += 'tax = { name = "VAT", rate = "0.19", note = "since 15 November" }' + PRICES
    found = cards_of(tmp_path, old + new)
    parts = list(found.spans("acme", NOVEMBER.start_ms, NOVEMBER.stop_ms))
    month = tuple(
        metered(found, used(request=each), period=NOVEMBER)[0].__class__(
            *part, used(request=each)
        )
        for part, each in zip(parts, (10_000, 20_000), strict=True)
    )
    invoice = draft(Bill(tenant="acme", period=NOVEMBER, metered=month), found)
    taxes = [(t.tax.rate, t.base_minor, t.amount_minor) for t in of("tax", invoice)]
    assert taxes == [("0.16", 400, 64), ("0.19", 800, 152)]


@pytest.mark.parametrize(("net", "tax"), [(250, 3), (249, 2), (50, 1), (49, 0)])
def test_tax_is_rounded_half_up(tmp_path: Path, net: int, tax: int) -> None:
    """2.50 at 1 % is 0.025, so 0.03."""
    text = HEAD + 'tax = { name = "GST", rate = "0.01" }'
    text += '\n[card.prices]\n"request" = { unit = "request", price = "0.01" }'
    invoice = simple(cards_of(tmp_path, text), used(request=net))
    assert invoice.tax_minor == tax


def test_no_tax_on_the_card_is_no_line() -> None:
    """Not even one of zero; a rate of zero is a line, with its note."""
    assert of("tax", simple(RateCards.load(), used(request=10_000))) == []


def test_a_reverse_charge_is_a_line_of_zero_that_says_so(tmp_path: Path) -> None:
    """The customer accounts for the tax, and the invoice has to say it."""
    text = 'tax = { name = "VAT", rate = "0", note = "Reverse charge" }'
    found = cards_of(tmp_path, HEAD + text + PRICES)
    (line,) = of("tax", simple(found, used(request=10_000)))
    assert (line.amount, line.tax.note) == ("0.00", "Reverse charge")


# Corrections


def test_late_usage_is_a_correction_of_its_own_period() -> None:
    """Priced with that period's card, on top of what was billed of it."""
    invoice = draft(bill(), cards())
    found = [
        (line.sku, line.period, line.quantity, line.exact)
        for line in of("correction", invoice)
    ]
    assert found == [
        ("cpu.exec", "2026-10", "90.5", "0.002172"),
        ("request", "2026-10", "250", "0.1"),
    ]
    assert {line.period for line in of("usage", invoice)} == {"2026-11"}


@pytest.mark.parametrize("kind", ["graduated", "volume"])
def test_late_usage_comes_to_what_it_would_have_in_time(
    tmp_path: Path, kind: str
) -> None:
    """Also where it makes the whole period cheaper: then it is owed back."""
    tiers = '{ upto = "1000", price = "0.10" }, { price = "0.01" }'
    found = one_rate(tmp_path, f'unit = "request", {kind} = [{tiers}]')
    for before, after in ((900, 1100), (0, 2000), (1500, 1501), (1000, 1001)):
        late = Late(
            OCTOBER,
            metered(found, used(request=before), period=OCTOBER),
            metered(found, used(request=after), period=OCTOBER),
        )
        invoice = simple(found, {}, late=(late,))
        exact = simple(found, used(request=after)).total_minor
        assert (
            invoice.total_minor + simple(found, used(request=before)).total_minor
            == exact
        )


def test_late_usage_lowers_what_was_missing_to_the_minimum(tmp_path: Path) -> None:
    """Late or not, the period costs its minimum."""
    found = cards_of(tmp_path, HEAD + 'minimum = "5.00"' + PRICES)
    before = metered(found, used(request=1000), period=OCTOBER)
    after = metered(found, used(request=2000), period=OCTOBER)
    late = (Late(OCTOBER, before, after),)
    given = Bill(tenant="acme", period=NOVEMBER, metered=(), late=late)
    lines = draft(given, found).lines
    assert [(each.sku, each.amount) for each in lines] == [
        ("request", "0.40"),
        ("", "-0.40"),
    ]


def test_nothing_late_corrects_nothing() -> None:
    """Usage that was billed as it is leaves no line, whatever its minimum."""
    same = spans(cards(), OCTOBER, used(request=10))
    invoice = draft(bill(late=(Late(OCTOBER, same, same),)), cards())
    assert of("correction", invoice) == []


def test_corrections_come_oldest_first_whatever_their_order() -> None:
    """The order in which late periods are found is nobody's order."""
    found = cards()
    late = [
        Late(each, (), spans(found, each, used(request=10)))
        for each in (Period(2026, 8), Period(2026, 9), OCTOBER)
    ]
    documents = [
        canonical(draft(bill(late=tuple(order)), found)) for order in (late, late[::-1])
    ]
    assert documents[0] == documents[1]
    periods = [line.period for line in of("correction", parse(documents[0]))]
    assert periods == sorted(periods)


# Periods, numbers


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "0999-01", "9999-01", "x"],
)
def test_what_is_no_month_is_no_period(text: str) -> None:
    """A period is YYYY-MM."""
    with pytest.raises(InvalidRequest):
        Period.parse(text)


@given(st.integers(1000, 9997), st.integers(1, 12))
def test_periods_follow_one_another(year: int, month: int) -> None:
    """Each month ends where the next begins, and none is lost between years."""
    period = Period(year, month)
    assert period.following == Period(year + month // 12, month % 12 + 1)
    assert period.stop_ms == period.following.start_ms
    assert period.start_ms < period.stop_ms
    assert Period.parse(str(period)) == period


def test_a_period_goes_from_open_to_issued() -> None:
    """Open until it ends, in grace until it is closed, closed until it is issued."""
    start, stop = NOVEMBER.start_ms, NOVEMBER.stop_ms
    assert state(NOVEMBER, start) is state(NOVEMBER, stop - 1) is State.OPEN
    assert state(NOVEMBER, stop) is State.GRACE
    assert state(NOVEMBER, stop, closed=True) is State.CLOSED
    assert state(NOVEMBER, stop, closed=True, issued=True) is State.ISSUED


def test_numbers_are_a_tenants_own_and_sort_as_they_came() -> None:
    """A series without gaps for each tenant."""
    assert [number("acme", n) for n in (1, 12)] == ["acme-000001", "acme-000012"]


def test_an_issued_invoice_says_when_and_until_when() -> None:
    """Number, date and due date come with issuing and change no line."""
    drafted, sent = draft(bill(), cards()), issued()
    assert (drafted.status, drafted.number, drafted.issued) == ("draft", "", "")
    assert (sent.status, sent.number) == ("issued", "acme-000007")
    assert (sent.issued, sent.due) == ("2026-12-03", "2026-12-17")
    assert (sent.lines, sent.total) == (drafted.lines, drafted.total)
