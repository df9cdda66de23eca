"""What every test of the swap function starts from."""

import pytest

from tests.swap.house import House, picture


@pytest.fixture
def house() -> House:
    """One swap function, with a source of one face and a target of two."""
    made = House()
    made.put("a.png", picture(1))
    made.put("b.png", picture(2))
    return made
