"""The names of machines in /etc/hosts."""

from __future__ import annotations

from nestlab.lab.addresses import lease
from nestlab.lab.blueprint import Leases
from nestlab.lab.model import Lab, Link, Machine, Segment
from nestlab.lab.names import hostname_of, hosts_table


def machine(name: str, *segments: str, inside: tuple[Machine, ...] = ()) -> Machine:
    return Machine(name, links=tuple(Link(segment) for segment in segments), machines=inside)


def names(*machines: Machine) -> dict[str, str]:
    """address -> names, of a lab with the segments `wire` (10.1, fd01) and `back` (10.2, fd02)."""
    segments = (Segment("wire", "10.1.0.0/24", "fd01::/64"), Segment("back", "10.2.0.0/24", "fd02::/64"))
    lab = Lab("pair", segments=segments, machines=machines)
    text = hosts_table(lab, lease(lab, Leases(), []).addresses)
    return dict(line.split(" ", 1) for line in text.splitlines())


def test_a_machine_has_its_full_name_and_its_path_in_both_versions_of_ip() -> None:
    table = names(machine("hv1", "wire", inside=(machine("web", "wire"),)))
    assert table["10.1.0.11"] == table["fd01::11"] == "hv1.pair.internal hv1"
    assert table["10.1.0.12"] == table["fd01::12"] == "web.hv1.pair.internal web.hv1 web"


def test_a_short_name_that_two_machines_have_is_not_given() -> None:
    table = names(*(machine(name, "wire", inside=(machine("web", "wire"),)) for name in ("hv1", "hv2")))
    assert table["10.1.0.12"] == "web.hv1.pair.internal web.hv1"
    assert table["10.1.0.14"] == "web.hv2.pair.internal web.hv2"


def test_a_machine_on_the_host_keeps_its_name_when_one_inside_has_it_too() -> None:
    table = names(machine("web", "wire"), machine("hv1", inside=(machine("web", "wire"),)))
    assert table["10.1.0.11"] == "web.pair.internal web"
    assert table["10.1.0.12"] == "web.hv1.pair.internal web.hv1"


def test_further_segments_have_names_of_their_own() -> None:
    table = names(machine("hv1", "wire", "back", inside=(machine("web", "back", "wire"),)))
    assert table["10.1.0.11"] == "hv1.pair.internal hv1"
    assert table["10.2.0.11"] == "hv1-back"
    assert table["10.2.0.12"] == "web.hv1.pair.internal web.hv1 web"
    assert table["fd01::12"] == "web.hv1-wire"


def test_a_name_made_from_a_segment_never_hides_a_machine() -> None:
    table = names(machine("hv1", "wire", "back"), machine("hv1-back", "wire"))
    assert table["10.1.0.12"] == "hv1-back.pair.internal hv1-back"
    assert "10.2.0.11" not in table


def test_localhost_is_the_machine_itself_and_a_machine_on_no_segment_has_no_line() -> None:
    table = names(machine("alone"))
    assert table["127.0.0.1"] == "localhost"
    assert table["::1"].startswith("localhost")
    assert not any("alone" in each for each in table.values())


def test_a_machine_calls_itself_by_the_last_name_of_its_path() -> None:
    assert hostname_of("hv1/web") == "web"
    assert hostname_of("hv1") == "hv1"
