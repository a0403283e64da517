"""The forms of models:/…."""

import pytest

from bundleserver.sources.registry.uri import ModelUri, alias_problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models:/fraud@champion", ModelUri("fraud", alias="champion")),
        ("models:/fraud/3", ModelUri("fraud", version="3")),
        ("models:/fraud/007", ModelUri("fraud", version="7")),
        ("models:/fraud/latest", ModelUri("fraud", is_latest=True)),
        ("models:/fraud/Latest", ModelUri("fraud", is_latest=True)),
        ("models:/fraud/production", ModelUri("fraud", stage="Production")),
        ("models:/fraud", ModelUri("fraud")),
        ("models:/main.ml.fraud/1", ModelUri("main.ml.fraud", version="1")),
        ("models:/two%20words@a", ModelUri("two words", alias="a")),
        ("models:/two words@a", ModelUri("two words", alias="a")),
        ("models:/café/2", ModelUri("café", version="2")),
        ("models:/caf%C3%A9/2", ModelUri("café", version="2")),
        ("models:/x+y/2", ModelUri("x+y", version="2")),
        ("models:/50%/2", ModelUri("50%", version="2")),
        ("models:/50%25/2", ModelUri("50%", version="2")),
        ("models:/%42@a", ModelUri("%42", alias="a")),
        ("models:/%2542@a", ModelUri("%42", alias="a")),
        ("models:/me%40home@a", ModelUri("me@home", alias="a")),
        ("models:/what?/2", ModelUri("what?", version="2")),
    ],
)
def test_a_uri_is_read(text, expected):
    """Every form that MLflow knows for registered models means the same here."""
    assert expected == ModelUri.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fraud",
        "models:fraud",
        "models:/",
        "models:/@champion",
        "models:/..",
        "models:/fraud/",
        "models:/fraud/three",
        "models:/fraud/3/extra",
        "models:/fraud@a/3",
        "models://profile/fraud/3",
        "runs:/abc/model",
        "s3://bucket/fraud",
        "models:/a%2Fb/1",
        "models:/fraud\n/1",
    ],
)
def test_a_text_that_is_no_uri_is_refused_with_every_form(text):
    """Whoever mistypes a URI is shown what would be one."""
    with pytest.raises(ValueError, match="models:/NAME@ALIAS, models:/NAME/VERSION"):
        ModelUri.parse(text)


@pytest.mark.parametrize("alias", ["", "3", "v3", "v3x", "default", "latest", "a b", "a/b", "é"])
def test_an_alias_that_could_not_be_asked_for_is_refused(alias):
    """An alias stands where a version may stand in a URL, so it is none and no reserved word."""
    assert alias_problem(alias)
    with pytest.raises(ValueError, match=r"alias|registered model"):
        ModelUri.parse(f"models:/fraud@{alias}")


@pytest.mark.parametrize(
    "text",
    [
        "models:/fraud@champion",
        "models:/fraud/3",
        "models:/fraud/latest",
        "models:/fraud",
        "models:/two words/1",
        "models:/50%/1",
        "models:/%42/1",
        "models:/a%2520b/1",
        "models:/me%40home@a",
    ],
)
def test_a_uri_is_written_as_it_is_read(text):
    """Messages and metadata show the URI that somebody gave."""
    assert text == str(ModelUri.parse(text))
