"""What is missing, true or of many digits stays that in the form, its requests and its answers."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.browsing import browsing
from tests.browser.form_gaps import COLUMNS, LARGE, TINY, save_broad, save_gaps, save_ids
from tests.browser.form_page import ANSWERED, FormPage, in_a_shell
from tests.end_to_end.processes import ServerProcess, running

COUNT_REQUESTS = (
    "window.sent = 0; const asked = window.fetch;"
    "window.fetch = (url, more) => {"
    "  if (more && more.method === 'POST') window.sent += 1;"
    "  return asked(url, more);"
    "};"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """Serve models whose examples have gaps, and answers that JavaScript would round."""
    root = tmp_path_factory.mktemp("exact")
    save_gaps(root)
    save_broad(root)
    save_ids(root)
    with running(root, enable_page=True, version_policy="all") as started:
        for model in ("gaps", "tiny", "mixed"):
            started.wait_until_ready(model)
        for version in ("v1", "v2"):
            started.wait_until_ready("ids", version)
        yield started


@pytest.fixture
def page(browser, server: ServerProcess):
    """Open a model's page; the browser must have nothing to complain about afterwards."""
    yield lambda model, fragment="": FormPage(browser, server.rest, model, fragment)
    assert [] == [told for told in browser.complaints() if "status of 400" not in told]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_missing_value_of_an_example_is_sent_as_missing(page, protocol):
    """A string that the manifest has as null is null, and not an empty text."""
    form = page("gaps")
    form.choose("protocol", protocol)

    assert "" == form.value("0-0-0")
    assert "missing" == form.field("0-0-0").get_attribute("placeholder")
    assert ["NaN", "true"] == [form.value(f"0-0-{at}") for at in (1, 2)]
    assert form.send().startswith("200")
    assert [["1", "missing"]] == form.cells()


def test_a_text_can_be_missing_or_empty(page):
    """A checkbox beside the field tells the two apart; another row is a copy of both."""
    form = page("gaps")
    form.press("Add row")
    form.browser.all('input[aria-label="city is missing"]')[1].click()
    form.press("Add row")
    form.fill("2-0-0", "Graz")
    form.send()

    assert [["1", "missing"], ["2", "empty"], ["3", "there"]] == form.cells()
    rows = ('{"city": null', '{"city": ""', '{"city": "Graz"')
    assert [True] * 3 == [row in form.curl for row in rows]

    form.browser.all('input[aria-label="city is missing"]')[2].click()
    form.send()
    assert ["3", "missing"] == form.cells()[2]


@pytest.mark.parametrize(("protocol", "sent"), [("v1", '"new": true'), ("v2", '"BOOL"')])
def test_a_column_of_numbers_may_have_booleans(page, protocol, sent):
    """What the table has as a boolean is sent as one."""
    form = page("gaps")
    form.choose("protocol", protocol)

    assert sent in form.curl
    form.fill("0-0-2", "1")
    assert sent not in form.curl
    assert form.send().startswith("200")


def test_the_line_without_javascript_has_what_is_missing(server):
    """It sends the manifest's example as it is."""
    with browsing(javascript=False) as browser:
        browser.open(f"{server.rest}/page/models/gaps")
        line = browser.text("#try pre")

    answer = in_a_shell(line.replace("http://localhost:8080", server.rest))
    assert {"predictions": ["missing"]} == json.loads(answer)
    assert '{"city": null, "size": null, "new": true}' in line


def test_tiny_numbers_of_many_columns_keep_their_digits(page):
    """The example of a wide table is what the manifest has."""
    form = page("tiny")

    assert TINY == json.loads(form.value("0-0-0"))[0]
    form.send()
    assert [["1", "1"]] == form.cells()


def test_many_columns_of_several_datatypes_are_sent_over_v2(page):
    """The body that JSON begins with has a tensor for each column, and is answered."""
    form = page("mixed")
    form.choose("protocol", "v2")
    form.choose("mode", "json")
    body = json.loads(form.browser.find(".form-raw").get_property("value"))

    assert ["FP64"] * COLUMNS + ["BYTES"] == [each["datatype"] for each in body["inputs"]]
    assert [TINY] == body["inputs"][0]["data"]
    assert form.send().startswith("200")
    assert [["1", "u"]] == form.cells()

    form.choose("mode", "fields")
    form.fill("0-0-0", "[1, 2]")
    form.browser.find(".form-send").click()
    assert "a row is an array of 2 values; expected an array of 61 values" in form.message()


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_integers_that_differ_in_their_last_bit_differ(page, protocol):
    """No digit of an answer is lost, in a row of several values either."""
    form = page("ids", "#compare=v1&with=v2")
    form.choose("protocol", protocol)
    form.send()
    (line,) = form.compared(1)

    assert [f"[{LARGE + 1},1]", f"[{LARGE},1]", "≠"] == line[2:]
    assert "1 of 1 values differ." == form.browser.text(".form-verdict")


def test_a_difference_has_all_digits(page):
    """Numbers are compared as they are written: 1 and 1.0 are equal, 2^53 and 2^53 + 1 are not."""
    form = page("ids")
    pairs = [[str(LARGE), str(LARGE + 1)], ["1", "1.0"], ["10", "1e1"], ["0.5", "2"], ['"1"', "1"]]
    said = form.browser.run(
        "const form = window.predictionForm;"
        "return arguments[0].map((pair) => pair.map(form.parseJson)).map(([a, b]) =>"
        "  form.isSame(a, b) ? 'equal' : form.isJsonNumber(a) ? form.difference(a, b) : 'other');",
        pairs,
    )

    assert ["+1", "equal", "equal", "+1.5", "other"] == said


@pytest.mark.parametrize("place", ["0-0-0", "0-0-1"])
def test_control_and_enter_send_once(page, place):
    """A field of one line sends by itself; the two are one request."""
    form = page("tiny" if place == "0-0-0" else "gaps")
    form.browser.run(COUNT_REQUESTS)
    form.field(place).send_keys(Keys.CONTROL, Keys.ENTER)

    assert form.browser.text(ANSWERED).startswith("200")
    assert 1 == form.browser.run("return window.sent")


def test_an_answer_goes_when_a_new_input_is_not_valid(page):
    """Nothing stands under a message that looks like its answer."""
    form = page("gaps")
    form.send()
    form.fill("0-0-1", "abc")
    form.browser.find(".form-send").click()

    assert "'abc' is not a valid value" in form.message()
    assert not form.browser.all(ANSWERED)
