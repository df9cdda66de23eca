"""Rate cards and contracts: what they say, their digests, what is refused."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from functions.billing.rates import FILE, RateCards
from functions.billing.rating import Meter, rate
from tests.billing.prices import CONTRACT, HEAD, PRICES, cards_of, metered

# Digests


def test_a_digest_is_of_what_a_card_says_and_not_of_how(tmp_path: Path) -> None:
    """Comments, order and another way to write the same moment change nothing."""
    first = cards_of(tmp_path, HEAD + PRICES)
    lines = PRICES.strip().splitlines()
    turned = "\n".join([lines[0], *reversed(lines[1:])])
    head = HEAD.replace("00:00:00Z", "01:00:00+01:00") + "# a comment\n"
    assert cards_of(tmp_path, head + turned).digests == first.digests


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"0.0004"', '"0.0005"'),
        ("2025-01-01", "2025-01-02"),
        ('"USD"', '"EUR"'),
        ('"USD"', '"USD"\nminimum = "1"'),
        ('"USD"', '"USD"\ntax = { name = "VAT", rate = "0.19" }'),
        ('price = "0.02"', 'price = "0.02", included = "5"'),
        (
            'price = "0.000222"',
            'price = "0.000222", models = { "L4" = { price = "1" } }',
        ),
    ],
)
def test_a_digest_changes_with_all_that_a_card_says(
    tmp_path: Path, old: str, new: str
) -> None:
    """A used card that was changed is found out."""
    text = HEAD + PRICES
    assert old in text
    changed = cards_of(tmp_path, text.replace(old, new, 1)).digests
    assert changed["a"] != cards_of(tmp_path, text).digests["a"]


def test_contracts_have_digests_too(tmp_path: Path) -> None:
    """They are as immutable as cards."""
    found = cards_of(tmp_path, HEAD + PRICES + CONTRACT).digests
    other = cards_of(
        tmp_path, HEAD + PRICES + CONTRACT.replace('"5.00"', '"6"')
    ).digests
    assert set(found) == {"a", "acme-1"}
    assert found["acme-1"] != other["acme-1"]
    assert found["a"] == other["a"]


def test_the_digest_of_the_first_card_stays_what_it_is() -> None:
    """Golden: a later version of Guise takes the card that has priced invoices."""
    assert RateCards.load().digests["2025-01"] == DIGEST


DIGEST = "975bd9a18e6805a8408c8ba1bba5273624fcf9fa85595443738d4350ff8d2708"

# What is refused


def test_a_card_may_say_its_currencys_decimals_and_must_be_right(
    tmp_path: Path,
) -> None:
    """ISO 4217 knows; a card that disagrees is refused."""
    for currency, digits in {"JPY": 0, "EUR": 2, "KWD": 3}.items():
        text = HEAD.replace("USD", currency) + f"minor_digits = {digits}\n" + PRICES
        assert cards_of(tmp_path, text).minor_digits == digits
        wrong = text.replace(f"= {digits}\n", f"= {digits + 1}\n")
        with pytest.raises(ValueError, match=f"{currency} has {digits} decimals"):
            cards_of(tmp_path, wrong)


SECOND = HEAD.replace('"a"', '"b"').replace("2025-01-01", "2026-11-15")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2026-11-15", "2024-01-01"),
        ("2026-11-15T00:00:00Z", "2026-11-15T00:00:00"),
        ('"b"', '"a"'),
        ('"b"', '"B b"'),
        ("USD", "EUR"),
        ("USD", "usd"),
        ('"USD"', '"USD"\nminimum = "0.001"'),
        ('"USD"', '"USD"\nminimum = "-1"'),
        ('"USD"', '"USD"\ntax = { name = "VAT", rate = 0.19 }'),
        ('"USD"', '"USD"\ntax = { name = "VAT", rate = "19" }'),
        ('"USD"', '"USD"\ntax = { name = "", rate = "0.19" }'),
        ('"USD"', '"USD"\nsurprise = 1'),
        ('"0.0004"', "0.0004"),
        ('"0.0004"', '"-1"'),
        ('"0.0004"', '"1e-3"'),
        ('"0.0004"', '"0.0000000000001"'),
        ('"request", price = "0.0004"', '"second", price = "0.0004"'),
        ('"request", price = "0.0004"', '"request"'),
        (
            '"request", price = "0.0004"',
            '"request", price = "1", volume = [{ price = "1" }]',
        ),
        (
            '"request", price = "0.0004"',
            '"request", volume = [{ price = "1", upto = "2" }]',
        ),
        (
            '"request", price = "0.0004"',
            '"request", graduated = [{ price = "1" }, { price = "2" }]',
        ),
        (
            '"request", price = "0.0004"',
            (
                '"request", graduated = [{ upto = "2", price = "1" },'
                '{ upto = "2", price = "1" }, { price = "2" }]'
            ),
        ),
        ('"request", price = "0.0004"', '"request", price = "1", included = "-1"'),
        (
            '"request", price = "0.0004"',
            '"request", models = { "L4" = { price = "1" } }',
        ),
        (
            '"second", price = "0.000222"',
            '"second", models = { "L4" = { included = "1" } }',
        ),
        ('"second", price = "0" }', '"second", price = "0.1" }'),
        ('"storage"', '"shoes"'),
        ('"USD"', '"UDS"'),
    ],
)
def test_a_rate_card_that_leaves_a_question_is_refused(
    tmp_path: Path, old: str, new: str
) -> None:
    """Out of order, twice the same, another currency, a float, a minus, two prices."""
    text = SECOND + PRICES
    assert old in text
    cards_of(tmp_path, HEAD + PRICES + text)
    with pytest.raises(ValueError, match=r"rate cards|decimals"):
        cards_of(tmp_path, HEAD + PRICES + text.replace(old, new, 1))


LATER = CONTRACT.replace("acme-1", "acme-2").replace("2026-11-20", "2027-11-20")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("acme-1", "a"),
        ('"acme"', '"Acme!"'),
        ("2026-11-20", "2026-11-10"),
        ('"5.00"', '"5.001"'),
        ("= 2 }", "= 0 }"),
        ("2026-11-10", "2027-01-01"),
    ],
)
def test_a_contract_that_leaves_a_question_is_refused(
    tmp_path: Path, old: str, new: str
) -> None:
    """A version used twice, over before it begins, half a coin, out of order."""
    later = LATER.replace("2026-11-10", "2026-12-10")
    text = HEAD + PRICES + CONTRACT
    cards_of(tmp_path, text + later)
    assert old in CONTRACT
    with pytest.raises(ValueError, match=r"rate cards|decimals"):
        cards_of(tmp_path, HEAD + PRICES + CONTRACT.replace(old, new, 1) + later)


def test_no_rate_card_is_refused() -> None:
    """There is always a price."""
    with pytest.raises(ValueError, match="at least one"):
        RateCards(())


def test_who_an_invoice_is_from_and_to(tmp_path: Path) -> None:
    """As the file says; a tenant that it does not name is called by its id."""
    text = "due_days = 14\n" + HEAD + PRICES
    text += '[issuer]\nname = "Us Ltd"\n[customers.acme]\nname = "Acme, Inc."\n'
    cards = cards_of(tmp_path, text)
    assert (cards.issuer.name, cards.due_days) == ("Us Ltd", 14)
    assert cards.customer("acme").name == "Acme, Inc."
    assert cards.customer("other").name == "other"
    assert FILE.exists()


def test_the_card_in_the_docs_is_one(tmp_path: Path) -> None:
    """What the page on billing shows can be copied."""
    page = Path(__file__).parents[2] / "docs" / "billing.md"
    (text,) = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    cards = cards_of(tmp_path, text)
    assert (cards.currency, len(cards.contracts)) == ("EUR", 1)
    named = {Meter("gpu.exec", "NVIDIA L4"): Decimal(1)}
    assert rate(metered(cards, named))
