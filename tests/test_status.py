"""`nestlab status` without a lab: all labs, and what cannot be read keeps none of the others back."""

from __future__ import annotations

from test_cli import Console, console  # noqa: F401 - the fixture


def test_status_without_a_lab_shows_all_labs(console: Console) -> None:  # noqa: F811
    assert "no labs" in console.run("status").stdout
    assert console.json("status") == {"labs": []}
    console.run("up", "pair.yaml", "--no-verify")
    console.run("up", str(console.lab("other")), "--no-verify")
    told = console.run("status").stdout
    assert told.index("other: ") < told.index("pair: ")
    assert [lab["lab"] for lab in console.json("status")["labs"]] == ["other", "pair"]
    assert [each["path"] for each in console.json("status")["labs"][1]["machines"]] == [
        "hv1",
        "hv1/web",
        "hv2",
        "hv2/web",
    ]
    assert "other" not in console.run("status", "pair").stdout


def test_a_lab_that_cannot_be_read_is_told_among_the_others(console: Console) -> None:  # noqa: F811
    console.run("up", "pair.yaml", "--no-verify")
    console.run("up", str(console.lab("other")), "--no-verify")
    console.home.lab("other").blueprint.write_text("{")
    told = console.run("status").stdout
    assert "other: " in told
    assert "cannot be read" in told
    assert "pair: " in told
    assert "error" in console.json("status")["labs"][0]
