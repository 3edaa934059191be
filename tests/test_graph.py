"""A lab drawn for Mermaid and Graphviz: golden files in tests/golden/graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from blueprints import draft, guest, hypervisor, pair
from golden_files import assert_golden
from nestlab.labfile import parse
from nestlab.show import graph
from test_cli import Console, console  # noqa: F401 - the fixture

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize("name", ["pair", "three-levels"])
def test_examples_are_drawn_as_boxes_in_boxes(name: str) -> None:
    drawing = graph.of_lab(parse(EXAMPLES / f"{name}.yaml", environ={}))
    assert_golden(f"graph/{name}.mmd", graph.mermaid(drawing))
    assert_golden(f"graph/{name}.dot", graph.dot(drawing))


def test_a_lab_that_was_made_is_drawn_with_its_addresses() -> None:
    blueprint = pair()
    text = graph.mermaid(graph.of_blueprint(blueprint))
    for spec in blueprint.specs:
        for nic in (nic for nic in spec.nics if nic.addresses):
            assert nic.addresses[0].split("/")[0] in text


def test_every_box_that_is_opened_is_closed_again() -> None:
    lab = draft("deep", hypervisor("a", hypervisor("b", guest("c")), guest("d")), hypervisor("empty"), guest("e"))
    drawing = graph.of_blueprint(lab)
    lines = [line.strip() for line in graph.mermaid(drawing).splitlines()]
    assert sum(line.startswith("subgraph") for line in lines) == lines.count("end") == 2
    text = graph.dot(drawing)
    assert text.count("{") == text.count("}")


def test_what_is_in_a_name_does_nothing_to_the_drawing() -> None:
    box = graph.Box("a", ("a", 'x"];<b>&#`\\'), False, ())
    drawing = graph.Drawing("odd", (box,), {})
    assert 'm0["a<br/>x#34;]#59;#60;b#62;#38;#35;#96;#92;"]' in graph.mermaid(drawing)
    assert 'm0 [label="a\\nx\\"];<b>&#`\\\\"];' in graph.dot(drawing)


def test_graph_takes_a_file_or_a_lab_and_says_what_it_cannot(console: Console) -> None:  # noqa: F811
    assert "flowchart TB" in console.run("graph", "pair.yaml").stdout
    console.run("up", "pair.yaml", "--no-verify")
    assert console.run("graph", "pair", "--format", "dot").stdout.startswith('graph "pair" {')
    assert len(console.json("graph", "pair")["machines"]) == 4
    assert "no format" in console.run("graph", "pair", "-f", "svg", status=2).stderr
