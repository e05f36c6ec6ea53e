import pytest
from weir_step import Context, Event, Reject
from weir_step.testing import host, reset

from app import handle


@pytest.fixture(autouse=True)
def weir():
    reset()
    host.settings = {"tax": 0.2}


def test_an_order_gets_its_total():
    order = {"id": "o-1", "items": [{"quantity": 2, "cents": 500}, {"quantity": 1, "cents": 250}]}
    priced = handle(Context(), [Event(order)])
    assert priced.port == "out"
    assert priced.json() == {**order, "net": 1250, "tax": 250, "total": 1500, "priced": "2026-01-01T00:00:00+00:00"}
    assert host.logs == [("info", "o-1: 2 items, 1250 cents")]


def test_an_order_without_items_is_rejected():
    with pytest.raises(Reject):
        handle(Context(), [Event({"id": "o-2"})])
