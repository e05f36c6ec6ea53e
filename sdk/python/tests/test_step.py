import pytest
from weir_step import Context, Event, Fatal, Output, Reject, Retry, http, log, secrets, settings, step
from weir_step._step import call
from weir_step.build import uses
from weir_step.testing import host, reset


@pytest.fixture(autouse=True)
def weir():
    reset()


def test_an_event_is_read_as_json_text_and_bytes():
    assert Event({"a": "é"}).json() == {"a": "é"}
    event = Event("hé", edge="a.b", key="k", headers={"X-Trace": "t1"})
    assert (event.text(), event.data, event.key) == ("hé", "hé".encode(), b"k")
    assert event.header("x-trace") == "t1"
    assert event.header("other") is None


@pytest.mark.parametrize("data, read, why", [("{x", "json", "JSON"), (b"\xff", "text", "UTF-8"), (b"\xff", "json", "UTF-8")])
def test_what_cannot_be_read_is_rejected_with_the_edge(data, read, why):
    with pytest.raises(Reject, match=f'the event on "a.b" is not {why}: '):
        getattr(Event(data, edge="a.b"), read)()


def test_outputs_say_only_what_differs_from_the_input():
    json = Output({"a": "é"})
    assert (json.port, json.key, json.content_type, json.headers) == ("out", None, "application/json", [])
    assert json.data == '{"a":"é"}'.encode()
    raw = Output(b"\1", port="b", key="k", headers={"h": "v"})
    assert (raw.port, raw.key, raw.content_type, raw.headers) == ("b", b"k", None, [("h", b"v")])


def test_a_step_returns_one_output_several_or_none():
    def ran(returned):
        step(lambda ctx, events: returned)
        return call(Context(), [Event({})])

    one, two = Output(1), Output(2)
    assert ran(one) == [one]
    assert ran(iter([one, two])) == [one, two]
    assert ran(None) == []
    for wrong in (5, [5], {"port": "out"}):
        with pytest.raises(TypeError, match="a step returns an Output"):
            ran(wrong)


def test_failures_keep_their_reason():
    assert [Reject("bad").reason, Retry("busy", after=1.5).after, Fatal(ValueError("x")).reason] == ["bad", 1.5, "x"]


def test_the_contexts_time():
    assert Context(time_us=1_767_225_600_123_456).time.isoformat() == "2026-01-01T00:00:00.123456+00:00"


def test_settings_secrets_log_and_http():
    host.settings = {"rate": {"de": [19]}}
    host.secrets = {"TOKEN": "t"}
    host.http = lambda request: http.Response(200, [("X-A", b"1")], request.body.upper())
    assert settings.get()["rate"]["de"] == (19,)
    with pytest.raises(TypeError):
        settings.get()["rate"]["de"] = 7
    assert secrets.get("TOKEN") == "t"
    with pytest.raises(LookupError, match="not granted"):
        secrets.get("OTHER")
    log.warn("careful")
    assert host.logs == [("warn", "careful")]
    response = http.request("POST", "https://example.org/", body="hi")
    assert (response.text(), response.header("x-a")) == ("HI", "1")


@pytest.mark.parametrize(
    "source, expected",
    [
        ("from weir_step import step, log", {"log"}),
        ("import weir_step.secrets", {"secrets"}),
        ("def f():\n    from weir_step.http import request", {"http"}),
        ("from weir_step import Output  # not log", set()),
        ("import helper", {"settings"}),
        ("from package import part", {"secrets"}),
    ],
)
def test_what_a_source_uses(tmp_path, source, expected):
    (tmp_path / "helper.py").write_text("from weir_step import settings")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "part.py").write_text("from weir_step import secrets")
    (tmp_path / "app.py").write_text(source)
    assert uses(tmp_path / "app.py") == expected
