"""Addresses: what is stated holds, what was leased stays, and nothing overlaps."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestlab.base.errors import LabError
from nestlab.lab.addresses import lease, leases_from_json, leases_to_json
from nestlab.lab.blueprint import Leases, Subnet
from nestlab.lab.model import Image, Lab, Link, Machine, Segment

NOTHING = Leases()


def machine(name: str, *links: Link | str, inside: Iterable[Machine] = ()) -> Machine:
    made = tuple(Link(link) if isinstance(link, str) else link for link in links)
    return Machine(name, links=made, machines=tuple(inside), image=Image(base="tiny"))


def lab(*machines: Machine, segments: Iterable[Segment] = (Segment("wire"),)) -> Lab:
    return Lab("x", segments=tuple(segments), machines=machines)


def networks(leases: Leases) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    four = [*leases.management.values(), *(subnet.cidr for subnet in leases.subnets.values())]
    return [ipaddress.ip_network(text) for text in [*four, *(subnet.cidr6 for subnet in leases.subnets.values())]]


def test_what_is_stated_holds() -> None:
    stated = Segment("wire", "10.77.0.0/24", "fd77::/64")
    leases = lease(lab(machine("m", Link("wire", "10.77.0.9", "fd77::5")), segments=[stated]), NOTHING, [])
    assert leases.subnets == {"wire": Subnet("10.77.0.0/24", "fd77::/64")}
    assert leases.addresses == {"m@wire": ("10.77.0.9", "fd77::5")}


def test_leased_addresses_begin_with_11_and_look_alike_in_both_versions() -> None:
    stated = Segment("wire", "10.77.0.0/24", "fd77::/64")
    web = machine("web", "wire")
    leases = lease(lab(machine("a", "wire", inside=[web]), machine("b", "wire"), segments=[stated]), NOTHING, [])
    assert leases.addresses == {
        "a@wire": ("10.77.0.11", "fd77::11"),
        "a/web@wire": ("10.77.0.12", "fd77::12"),
        "b@wire": ("10.77.0.13", "fd77::13"),
    }
    assert set(leases.management) == {1, 2}


def test_a_stated_address_is_leased_to_nobody_else() -> None:
    stated = Segment("wire", "10.77.0.0/24", "fd77::/64")
    machines = (
        machine("a", "wire"),
        machine("b", Link("wire", "10.77.0.11")),
        machine("c", Link("wire", None, "fd77::12")),
    )
    leases = lease(lab(*machines, segments=[stated]), NOTHING, [])
    assert leases.addresses["b@wire"] == ("10.77.0.11", "fd77::11")
    assert leases.addresses["a@wire"][0] == "10.77.0.12"
    assert len({six for _, six in leases.addresses.values()}) == 3


def test_a_small_network_is_used_to_its_last_address_and_the_first_is_kept_free() -> None:
    segments = [Segment("wire", "10.77.0.0/28")]
    full = lab(*(machine(f"m{n}", "wire") for n in range(13)), segments=segments)
    leases = lease(full, NOTHING, [])
    assert {int(four.split(".")[3]) for four, _ in leases.addresses.values()} == set(range(2, 15))
    with pytest.raises(LabError, match=r"wire \(10.77.0.0/28\) has room for 13 machines, and 14 are on it"):
        lease(replace(full, machines=(*full.machines, machine("n", "wire"))), leases, [])


def test_a_leased_network_has_room_for_all_machines() -> None:
    leases = lease(lab(*(machine(f"m{n}", "wire") for n in range(1000))), NOTHING, [])
    assert ipaddress.ip_network(leases.subnets["wire"].cidr).prefixlen == 22
    assert len(set(leases.addresses.values())) == 1000


def test_a_network_that_has_become_too_small_is_leased_anew() -> None:
    few = lease(lab(machine("a", "wire")), NOTHING, [])
    many = lease(lab(*(machine(f"m{n}", "wire") for n in range(300))), few, [])
    assert ipaddress.ip_network(few.subnets["wire"].cidr).prefixlen == 24
    assert ipaddress.ip_network(many.subnets["wire"].cidr).prefixlen == 23
    assert many.subnets["wire"].cidr6 == few.subnets["wire"].cidr6


def test_leases_keep_away_from_the_routes_of_the_host() -> None:
    free = lease(lab(machine("a", "wire")), NOTHING, [])
    routes = [*map(str, networks(free)), "0.0.0.0/0", "::/0", "garbage"]
    moved = lease(lab(machine("a", "wire")), NOTHING, routes)
    assert not set(map(str, networks(moved))) & set(routes)


def test_a_host_with_routes_to_all_of_10_still_has_room() -> None:
    leases = lease(lab(machine("a", "wire")), NOTHING, ["10.0.0.0/8"])
    assert all(network.subnet_of(ipaddress.ip_network("172.16.0.0/12")) for network in networks(leases)[:2])  # type: ignore[arg-type]


def test_what_was_leased_stays_when_the_host_gets_a_route_there() -> None:
    before = lease(lab(machine("a", "wire")), NOTHING, [])
    assert lease(lab(machine("a", "wire")), before, list(map(str, networks(before)))) == before


def test_a_stated_network_moves_a_leased_one_out_of_its_way() -> None:
    before = lease(lab(machine("a", "wire")), NOTHING, [])
    cidr = before.subnets["wire"].cidr
    segments = [Segment("wire"), Segment("other", cidr), Segment("level", before.management[1])]
    after = lease(lab(machine("a", "wire"), segments=segments), before, [])
    assert after.subnets["other"].cidr == cidr
    assert after.subnets["wire"].cidr != cidr
    assert after.management[1] != before.management[1]


def test_a_stated_network_that_collides_with_a_route_is_an_error() -> None:
    with pytest.raises(
        LabError, match=r"10\.77\.0\.0/24 of the segment wire collides .* route to 10\.77\.0\.0/16"
    ) as caught:
        lease(lab(machine("a"), segments=[Segment("wire", "10.77.0.0/24")]), NOTHING, ["10.77.0.0/16"])
    assert "Choose another network for wire" in caught.value.hint
    with pytest.raises(LabError, match="fd77::/64"):
        lease(lab(machine("a"), segments=[Segment("wire", cidr6="fd77::/64")]), NOTHING, ["fd77::/48"])


def test_no_free_network_is_an_error() -> None:
    with pytest.raises(LabError, match="No IPv4 network with a /24 is free for wire of the lab x"):
        lease(lab(machine("a")), NOTHING, ["0.0.0.0/1", "128.0.0.0/1"])
    with pytest.raises(LabError, match="No IPv6 network"):
        lease(lab(machine("a")), NOTHING, ["fd00::/8"])


def test_leases_survive_json() -> None:
    leases = lease(lab(machine("a", "wire", inside=[machine("b", "wire")])), NOTHING, [])
    assert leases_from_json(leases_to_json(leases)) == leases


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"subnets": {"w": ["x", "y"]}, "addresses": {}, "management": {}}'])
def test_damaged_leases_are_an_error(text: str) -> None:
    with pytest.raises(LabError, match="damaged"):
        leases_from_json(text)


NAMES = [f"m{n}" for n in range(6)]


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    """Labs whose stated addresses are right, as a lab file's are."""
    segments = []
    for number, name in enumerate(draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True))):
        cidr = draw(st.sampled_from([None, f"10.{64 + number}.0.0/24", f"10.0.{number * 16}.0/27"]))
        segments.append(Segment(name, cidr, draw(st.sampled_from([None, f"fd0{number}::/64"]))))
    stated: set[tuple[str, int]] = set()

    def made(name: str, depth: int) -> Machine:
        links = []
        for segment in segments:
            if draw(st.booleans()):
                host = draw(st.sampled_from([None, 1, 2, 11, 12, 30]))
                fresh = host is not None and (segment.name, host) not in stated
                if fresh and host is not None:
                    stated.add((segment.name, host))
                four = str(ipaddress.ip_network(segment.cidr)[host]) if segment.cidr and fresh and host else None
                six = str(ipaddress.ip_network(segment.cidr6)[host]) if segment.cidr6 and fresh and host else None
                links.append(Link(segment.name, four, six))
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3)) if depth else []
        return Machine(name, links=tuple(links), machines=tuple(made(each, depth - 1) for each in names))

    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return Lab("x", segments=tuple(segments), machines=tuple(made(name, 2) for name in names))


ROUTES = st.lists(st.sampled_from(["10.65.0.0/16", "172.17.0.0/16", "10.96.0.0/11", "fd12::/16", "192.168.1.0/24"]))


def fits(lab: Lab, leases: Leases) -> None:
    """Everything that a lab has is leased once, inside its network, and no network overlaps another."""
    found = networks(leases)
    for at, one in enumerate(found):
        for other in found[:at]:
            assert one.version != other.version or not one.overlaps(other)
    keys = {f"{placed.path}@{link.segment}": link for placed in lab.walk() for link in placed.machine.links}
    assert set(leases.addresses) == set(keys)
    for key, link in keys.items():
        subnet = leases.subnets[link.segment]
        for address, cidr, stated in zip(
            leases.addresses[key], (subnet.cidr, subnet.cidr6), (link.address, link.address6), strict=True
        ):
            network = ipaddress.ip_network(cidr)
            assert ipaddress.ip_address(address) in network
            assert address not in (str(network[0]), str(network[-1]))
            assert stated in (None, address)
            first = (link.address or "").endswith(".1")
            assert stated is not None or first or address != str(network[1])
    for segment in lab.segments:
        pairs = [pair for key, pair in leases.addresses.items() if key.endswith(f"@{segment.name}")]
        assert len({four for four, _ in pairs}) == len({six for _, six in pairs}) == len(pairs)
    assert set(leases.management) == {placed.level for placed in lab.walk()}


def settled(lab: Lab, previous: Leases, routes: list[str]) -> Leases | None:
    try:
        return lease(lab, previous, routes)
    except LabError:
        return None


@settings(max_examples=150, deadline=None)
@given(labs(), labs(), ROUTES)
def test_leases_fit_whatever_was_leased_before_and_doing_it_again_changes_nothing(
    before: Lab, lab: Lab, routes: list[str]
) -> None:
    previous = settled(before, NOTHING, []) or NOTHING
    leases = settled(lab, previous, routes)
    if leases is not None:
        fits(lab, leases)
        assert lease(lab, leases, routes) == leases


@settings(max_examples=100, deadline=None)
@given(labs(), st.data())
def test_removing_and_adding_a_machine_moves_no_other(lab: Lab, data: st.DataObject) -> None:
    leases = settled(lab, NOTHING, [])
    if leases is None:
        return
    gone = data.draw(st.sampled_from(lab.machines))
    rest = replace(lab, machines=tuple(each for each in lab.machines if each is not gone))
    fewer = lease(rest, leases, [])
    assert fewer.subnets == leases.subnets
    assert fewer.addresses.items() <= leases.addresses.items()
    assert fewer.management.items() <= leases.management.items()
    new = replace(gone, name="new", links=tuple(Link(link.segment) for link in gone.links), machines=())
    more = settled(replace(rest, machines=(new, *rest.machines)), fewer, [])
    if more is not None:
        assert fewer.addresses.items() <= more.addresses.items()
        assert fewer.subnets == more.subnets
