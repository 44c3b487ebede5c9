"""The file of the page: self-contained, escaped, and small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from keepfit.job.reports.page import render
from keepfit.job.reports.page.render import embedded_json, live_data_of, live_page_of, page_of
from tests.reports.samples import HOSTILE, MACHINE, attempt, report, sample


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the texts of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self._within: str | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._within = tag if tag in self.inline else None
        if self._within:
            self.inline[tag].append("")

    def handle_endtag(self, tag):
        self._within = None

    def handle_data(self, data):
        if self._within:
            self.inline[self._within][-1] += data


def hostile():
    """The report of a run whose every name is hostile."""
    machine = MACHINE.model_copy(
        update=dict.fromkeys(("instance_type", "zone", "job", "log_group", "log_stream"), HOSTILE)
    )
    one = attempt(1, started=0, first=0, last=900, machine=machine, names=(HOSTILE, "x" + HOSTILE),
                  run=HOSTILE)  # fmt: skip
    assert one.end
    one = one.model_copy(
        update={
            "end": one.end.model_copy(update={"detail": HOSTILE}),
            "versions": {HOSTILE: HOSTILE},
            "notices": tuple(n.model_copy(update={"source": HOSTILE}) for n in one.notices),
        }
    )
    found = report((one,), run=HOSTILE, state=HOSTILE)
    found = replace(found, run=replace(found.run, reason=HOSTILE))
    return replace(found, store=HOSTILE, unreadable={2: HOSTILE}, unlisted=HOSTILE)


def test_hostile_names_stay_texts():
    """No name makes an element, an attribute or the end of a script."""
    page = page_of(hostile()).decode()
    elements = Elements(page)
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object")]
    names = {name for _, attributes in elements.found for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert "<img" not in page
    data = next(text for text in elements.inline["script"] if text.startswith("{"))
    assert json.loads(data)["metrics"][0]["name"] == HOSTILE
    links = [attributes["href"] for tag, attributes in elements.found if tag == "a"]
    assert links
    assert all(
        str(link).startswith("https://eu-central-1.console.aws.amazon.com/") for link in links
    )


def test_hostile_names_stay_texts_of_a_live_page():
    """The sections that a live page puts in are made by the same templates."""
    sections = json.loads(live_data_of(hostile()))["sections"]
    assert sections.keys() == set(render.SECTIONS)
    for section in sections.values():
        assert "<img" not in section


def test_json_in_a_page_ends_no_script():
    """Nor does it begin a comment or an entity."""
    text = embedded_json({"</script>": "<!--&amp;"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"</script>": "<!--&amp;"}


@pytest.mark.parametrize("made", [page_of, live_page_of])
def test_the_page_loads_nothing(made):
    """Addresses are in links for people only, and the policy forbids all others."""
    elements = Elements(made(sample()).decode())
    loaded = [
        (tag, name, value)
        for tag, attributes in elements.found
        for name, value in attributes.items()
        if name in ("src", "srcset", "data", "action", "poster", "background")
        or (name == "href" and tag != "a")
    ]
    icon = [("link", "href", "data:,")]
    assert [one for one in loaded if not str(one[2]).startswith("#m-")] == icon
    styles = "".join(elements.inline["style"])
    assert "url(" not in styles.replace("url(data:", "")
    assert "@import" not in styles


@pytest.mark.parametrize(("made", "network"), [(page_of, None), (live_page_of, "'self'")])
def test_the_policy_allows_the_page_itself(made, network):
    """Its own styles and scripts by digest, and the network only for its own server."""
    elements = Elements(made(sample()).decode())
    (text,) = (a["content"] for _, a in elements.found if "http-equiv" in a)
    policy = dict(part.split(" ", 1) for part in str(text).split("; "))
    assert policy["default-src"] == "'none'"
    assert policy.get("connect-src") == network
    assert "unsafe" not in str(text)
    scripts = [script for script in elements.inline["script"] if not script.startswith("{")]
    for name, texts in (("script-src", scripts), ("style-src", elements.inline["style"])):
        assert policy[name].split() == [
            f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
            for one in texts
        ]
    assert not [a for _, a in elements.found if "style" in a]


def test_the_licence_of_the_charts_is_in_the_page():
    """MIT asks that its text goes with copies."""
    page = page_of(sample()).decode()
    assert "Copyright (c) 2022 Leon Sorokin" in page
    assert "The MIT License" in page


def test_every_part_has_a_colour():
    """A part of the time without a rule in the style sheet would be black."""
    style = render._asset("page.css")
    for part in sample().goodput.parts.seconds():
        assert re.search(rf"\.p-{part}\b", style), part
        assert f"--{part}:" in style, part


def test_a_run_without_journals_has_a_page():
    """It was begun before journals were, and the page says so."""
    page = page_of(report(())).decode()
    assert page.count("no attempt of this run has a readable journal") >= 1


def test_the_page_of_a_small_run_is_small():
    """Most of it is the library that draws the curves."""
    assert len(page_of(sample())) < 150_000


def test_a_page_that_can_not_be_small_is_refused(monkeypatch):
    """Rather than written anyway, or tried for ever."""
    monkeypatch.setattr(render, "MAX_BYTES", 50_000)
    with pytest.raises(ValueError, match="the page of run 'mnist' has"):
        page_of(sample())
