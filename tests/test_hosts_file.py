"""The names of machines in /etc/hosts."""

from __future__ import annotations

from nestlab.lab.addresses import lease
from nestlab.lab.blueprint import Leases
from nestlab.lab.hosts_file import HostsTables, hostname_of
from nestlab.lab.model import Lab, Link, Machine, Segment


def machine(name: str, *segments: str, inside: tuple[Machine, ...] = ()) -> Machine:
    return Machine(name, links=tuple(Link(segment) for segment in segments), machines=inside)


def names(*machines: Machine, reader: str = "") -> dict[str, str]:
    """address -> names, of a lab with the segments `wire` (10.1, fd01) and `back` (10.2, fd02), as `reader` (none: the
    first machine) has them."""
    segments = (Segment("wire", "10.1.0.0/24", "fd01::/64"), Segment("back", "10.2.0.0/24", "fd02::/64"))
    lab = Lab("pair", segments=segments, machines=machines)
    tables = HostsTables(lab, lease(lab, Leases(), []).addresses)
    text = tables.of(next(each.machine for each in lab.walk() if reader in ("", each.path)))
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


def test_each_card_of_a_machine_with_several_has_a_name_of_its_own() -> None:
    table = names(machine("hv1", "wire", "back", inside=(machine("web", "wire", "back"),)))
    assert table["10.1.0.11"] == "hv1.pair.internal hv1 hv1-wire"
    assert table["10.2.0.11"] == "hv1-back"
    assert table["10.1.0.12"] == "web.hv1.pair.internal web.hv1 web web.hv1-wire"
    assert table["fd02::12"] == "web.hv1-back"


def test_a_name_stands_for_the_address_on_a_segment_that_the_reader_is_on_too() -> None:
    lab = machine("gw", "wire", "back"), machine("db", "back"), machine("web", "wire"), machine("far")
    assert names(*lab, reader="db")["10.2.0.11"] == "gw.pair.internal gw gw-back"
    assert names(*lab, reader="db")["10.1.0.11"] == "gw-wire"
    assert names(*lab, reader="web")["10.1.0.11"] == "gw.pair.internal gw gw-wire"
    assert names(*lab, reader="far") == names(*lab, reader="web")


def test_machines_that_reach_the_others_in_the_same_way_share_one_text() -> None:
    plain = [machine(f"m{at}", *on) for at, on in enumerate((("wire",), ("wire",), ("back",), ("back",), ()))]
    lab = Lab("pair", segments=(Segment("wire"), Segment("back")), machines=(machine("gw", "wire", "back"), *plain))
    tables = HostsTables(lab, lease(lab, Leases(), []).addresses)
    one, same, other, again, none = (tables.of(each) for each in plain)
    assert one is same
    assert other is again
    assert len({one, other, none}) == 2


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
