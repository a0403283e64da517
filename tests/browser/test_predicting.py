"""The form that sends a prediction, with fitted models and names that are attacks."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.browsing import NARROW, browsing
from tests.browser.form_models import HOSTILE, NAMES, write_tables
from tests.browser.form_page import ANSWERED, FormPage, in_a_shell
from tests.end_to_end.processes import ServerProcess, running

MODELS = (
    *("fraud", "flats", "hostile", "wide", "sentiment"),
    *("lstm-predictor", "ensemble-predictor"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """Serve tables, strings, sequences and an ensemble, with the page."""
    root = tmp_path_factory.mktemp("models")
    write_tables(root)
    with running(root, enable_page=True) as started:
        for model in MODELS:
            started.wait_until_ready(model)
        yield started


@pytest.fixture
def page(browser, server: ServerProcess):
    """Open a model's page; the browser must have nothing to complain about afterwards."""
    yield lambda model: FormPage(browser, server.rest, model)
    assert [] == [told for told in browser.complaints() if "status of 400" not in told]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_the_example_is_answered_as_it_stands(page, model, protocol):
    """Whatever a model takes, its form is filled in so that it can be sent at once."""
    form = page(model)
    form.choose("protocol", protocol)

    assert form.send().startswith("200 OK")
    assert 1 == len(form.cells())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_the_line_of_curl_sends_the_same(page, model, protocol):
    """What is shown can be run in a shell, and has the same answer."""
    form = page(model)
    form.choose("protocol", protocol)
    form.send()
    came = form.browser.run("return document.querySelector('.form-answer pre').textContent")

    answer = json.loads(in_a_shell(form.curl))
    assert without_id(json.loads(came)) == without_id(answer)


def without_id(answer: dict[str, object]) -> dict[str, object]:
    """Return an answer without the id that is another for each request."""
    return {key: value for key, value in answer.items() if key != "id"}


def test_fields_are_the_columns_and_what_is_typed_is_sent(page, server):
    """A forest behind a scaler has a field for each column; the answer is the server's."""
    form = page("fraud")
    assert ["amount FP64", "age FP64", "hour FP64"] == form.labels()

    form.fill("0-0-0", "0.75")
    form.fill("0-0-1", "-1e-3")
    form.fill("0-0-2", "2")
    form.send()

    row = {"amount": 0.75, "age": -1e-3, "hour": 2}
    expected = server.predict("fraud", {"instances": [row]}).json()["predictions"]
    assert [["1", str(expected[0])]] == form.cells()
    assert '{"instances": [{"amount": 0.75, "age": -1e-3, "hour": 2}]}' in form.curl


def test_rows_can_be_added_and_removed(page):
    """Another row is a copy of the last one, and is answered in its order."""
    form = page("fraud")
    form.press("Add row")
    form.fill("1-0-0", "5")
    form.send()
    assert 2 == len(form.cells())

    form.press("Remove row")
    form.send()
    assert [["5"], 1] == [[form.value("0-0-0")], len(form.cells())]


def test_methods_of_the_model_can_be_chosen(page, server):
    """Over V2 the outputs may be methods, in the order in which they were chosen."""
    form = page("fraud")
    form.choose("protocol", "v2")
    form.tick("predict_proba")
    form.tick("predict")
    form.send()
    heads = [head.text for head in form.browser.all(".form-result .form-scroll thead th")]

    assert ["row", "predict_proba", "predict"] == heads
    assert '"outputs": [{"name": "predict_proba"}, {"name": "predict"}]' in form.curl


def test_strings_are_suggested_from_the_fitted_categories(page, server):
    """A column of categories offers those that the model knows, and stays a free text."""
    form = page("flats")
    listed = form.browser.run(
        "return [...document.querySelector('[data-place=\"0-0-0\"]').list.options]"
        ".map((option) => option.value)"
    )
    assert ["Graz", "Linz", "Wien"] == sorted(listed)

    form.fill("0-0-0", "Wien")
    form.fill("0-0-1", "35")
    form.fill("0-0-2", "2")
    form.choose("protocol", "v2")
    form.send()
    assert [["1", "large"]] == form.cells()


def test_sequences_are_entered_as_json(page, server):
    """An autoencoder of sequences has one field for a row, which is an array."""
    form = page("lstm-predictor")
    sequence = [[0.5, 0.3, 0.8], [0.1, 0.2, 0.9]]
    form.fill("0-0-0", json.dumps(sequence))
    expected = server.predict("lstm-predictor", {"instances": [sequence]}).json()["predictions"]

    for protocol in ("v1", "v2"):
        form.choose("protocol", protocol)
        form.send()
        assert [["1", str(expected[0])]] == form.cells()
    assert '"shape": [1, 2, 3]' in form.curl


def test_an_ensemble_has_a_field_for_each_vote(page):
    """The votes of several systems are fields of one row, and both outputs are shown."""
    form = page("ensemble-predictor")
    assert 4 == len(form.labels())
    for place in ("0-0-0", "0-1-0", "0-2-0", "0-3-0"):
        form.fill(place, "1")
    form.send()

    heads = [head.text for head in form.browser.all(".form-result .form-scroll thead th")]
    assert ["row", "label", "score"] == heads
    assert "1" == form.cells()[0][1]


def test_hostile_names_are_texts(page, tmp_path):
    """Column names that are markup, a shell's code or marks of direction do nothing."""
    form = page("hostile")
    shown = form.browser.text(".form-rows")

    assert HOSTILE in shown
    assert "\\u202egnp.exe" in shown
    assert "\u202e" not in shown + form.curl
    assert not form.browser.all("#try img")
    assert form.browser.driver.title.startswith("hostile")
    assert form.send().startswith("200")
    assert 3 == len(NAMES) == len(form.labels())
    in_a_shell(form.curl, tmp_path)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abc", "'amount': 'abc' is not a valid value; enter a number such as -1.5 or 2e3"),
        ("1,5", "'amount': '1,5' is not a valid value"),
        ("", "'amount': it is empty; enter a number such as -1.5 or 2e3, or NaN"),
        ("Infinity", "'amount': 'Infinity' is not a valid value"),
    ],
)
def test_what_is_no_number_is_told_at_its_field(page, text, said):
    """Nothing is sent; the field has the focus, and keeps what was typed."""
    form = page("fraud")
    form.fill("0-0-0", text)
    form.browser.find(".form-send").click()

    assert said in form.message()
    assert text == form.value("0-0-0")
    assert "true" == form.field("0-0-0").get_attribute("aria-invalid")
    assert form.browser.driver.switch_to.active_element == form.field("0-0-0")
    assert not form.browser.all(ANSWERED)


@pytest.mark.parametrize("text", ["1e400", "NaN"])
def test_the_servers_own_words_are_shown(page, server, text):
    """What only the server can judge is sent as it stands, and its error is told in full."""
    form = page("fraud")
    form.fill("0-0-0", text)
    sent = {"1e400": "1e400", "NaN": "null"}[text]
    body = '{"instances": [{"amount": ' + sent + ', "age": 0, "hour": 0}]}'
    form.fill("0-0-1", "0")
    form.fill("0-0-2", "0")
    answer = server.post("/v1/models/fraud:predict", content=body)
    line = form.send()

    assert body in form.curl
    assert line.startswith(str(answer.status_code))
    if answer.status_code >= 400:
        assert answer.json()["error"] == form.error()
    assert text == form.value("0-0-0")


def test_no_digit_of_a_large_integer_is_lost(page):
    """An integer of more than 53 bits is sent as it was typed."""
    form = page("ensemble-predictor")
    form.fill("0-0-0", "9007199254740993")

    assert '"isolation_forest": 9007199254740993' in form.curl
    form.choose("protocol", "v2")
    assert "[9007199254740993]" in form.curl


def test_json_is_sent_as_it_is_written_and_kept(page):
    """The body can be written by hand; errors are the server's, and nothing that was typed goes."""
    form = page("fraud")
    form.choose("mode", "json")
    area = form.browser.find(".form-raw")
    assert '{"instances": [{"amount"' in area.get_property("value")

    form.write(area, '{"instances": [[1, 2]]}')
    assert form.send().startswith("400")
    assert "expects" in form.error()
    form.choose("mode", "fields")
    form.choose("mode", "json")
    assert '{"instances": [[1, 2]]}' == form.browser.find(".form-raw").get_property("value")

    form.press("Fill from the fields")
    assert form.send().startswith("200")


def test_json_that_cannot_be_made_of_the_fields_says_why(page):
    """An empty field is told where the body should be; what was typed stays."""
    form = page("fraud")
    form.fill("0-0-1", "")
    form.choose("mode", "json")

    assert "'age': it is empty" in form.message()
    form.choose("mode", "fields")
    assert "" == form.value("0-0-1")


def test_many_columns_are_one_field_of_json(page):
    """More columns than a person fills in are an array."""
    form = page("wide")

    assert ["input-0 FP64, array [60] as JSON"] == form.labels()
    form.fill("0-0-0", "[1, 2")
    form.browser.find(".form-send").click()
    assert "'input-0': this is not valid JSON" in form.message()


def test_enter_sends(page):
    """The keyboard is enough."""
    form = page("fraud")
    form.field("0-0-0").send_keys(Keys.ENTER)

    assert form.browser.text(ANSWERED).startswith("200 OK")
    assert "version v1" in form.browser.text(ANSWERED)


def test_a_refresh_of_the_page_keeps_what_was_typed(page):
    """The page renews its figures; the form and its answer stay."""
    form = page("fraud")
    form.fill("0-0-0", "77")
    form.send()
    form.browser.run(
        "window.renewed = 0;"
        "document.addEventListener('page-refreshed', () => { window.renewed += 1; });"
        "window.bundleserverPage.refresh();"
    )
    form.browser.until(lambda: form.browser.run("return window.renewed"), "the page is renewed")

    assert "77" == form.value("0-0-0")
    assert form.cells()


@pytest.mark.parametrize("model", ["hostile", "ensemble-predictor"])
def test_it_fits_a_narrow_window(page, browser, model):
    """At 400 pixels nothing but tables scrolls sideways."""
    browser.resize(NARROW)
    form = page(model)
    form.send()

    assert 400 >= browser.run("return document.documentElement.scrollWidth")


def test_headers_and_version_are_told(page):
    """The headers of the answer can be opened."""
    form = page("sentiment")
    form.send()
    form.browser.find(".form-answer details:last-of-type summary").click()

    assert "x-model-version: v1" in form.browser.text(".form-answer")


def test_without_javascript_there_is_a_line_of_curl(server):
    """The form's place says what it needs, and how to do without."""
    with browsing(javascript=False) as browser:
        browser.open(f"{server.rest}/page/models/fraud")
        said, line = browser.text("#try"), browser.text("#try pre")

    assert "needs JavaScript" in said
    answer = in_a_shell(line.replace("http://localhost:8080", server.rest))
    assert {"predictions"} == json.loads(answer).keys()
