"""modprobe.d and kernel command lines are read as modprobe reads them: which line sets what, and which one wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestlab.doctor.modprobe_options import blocking, effective, files, hurdles, lasting, planned, settings
from nestlab.hosts.facts import Facts, Module


def facts(cmdline: str = "", **contents: str) -> Facts:
    """`etc_a`: /etc/modprobe.d/a.conf; `run_`, `lib_` and `usr_` (/usr/lib) likewise."""
    tops = {"etc": "/etc", "run": "/run", "lib": "/lib", "usr": "/usr/lib"}
    found = {}
    for name, text in contents.items():
        top, _, base = name.partition("_")
        found[f"{tops[top]}/modprobe.d/{base}.conf"] = text
    return Facts(files=found, cmdline=cmdline)


def value(given: Facts, module: str = "kvm_intel", parameter: str = "nested") -> str | None:
    setting = effective(given, module, parameter)
    return setting.value if setting else None


def test_the_last_file_by_name_wins_wherever_it_lies() -> None:
    given = facts(
        etc_b="options kvm_intel nested=0", lib_c="options kvm_intel nested=1", run_a="options kvm_intel nested=Y"
    )
    assert [each.value for each in settings(given)] == ["Y", "0", "1"]
    assert value(given) == "1"


def test_a_file_hides_those_of_its_name_in_later_directories() -> None:
    given = facts(lib_kvm="options kvm_intel nested=1", etc_kvm="# nothing", usr_kvm="options kvm_intel nested=1")
    assert files(given) == ("/etc/modprobe.d/kvm.conf",)
    assert settings(given) == ()


def test_names_sort_as_bytes_so_capitals_come_first() -> None:
    assert files(facts(etc_a="", etc_Z="")) == ("/etc/modprobe.d/Z.conf", "/etc/modprobe.d/a.conf")


def test_only_conf_files_of_the_directories_themselves_count() -> None:
    odd = ["/etc/modprobe.d/kvm.conf.bak", "/etc/modprobe.d/sub/kvm.conf", "/etc/modprobe.d/.kvm.conf", "/etc/kvm.conf"]
    assert settings(Facts(files=dict.fromkeys(odd, "options kvm_intel nested=1"))) == ()


def test_dashes_and_underscores_are_equal_in_names() -> None:
    assert value(facts(etc_a="options kvm-intel nested=1")) == "1"
    assert effective(facts(etc_a="options kvm ignore-msrs=1"), "kvm", "ignore_msrs") is not None
    assert value(facts("kvm-intel.nested=0")) == "0"


def test_lines_are_counted_from_where_a_continued_one_starts() -> None:
    text = "# a comment \\\n options kvm_intel nested=0\n\n"
    text += "options kvm_intel \\\n  ept=1 \\\n  nested=1\noptions kvm ignore_msrs=1"
    found = settings(facts(etc_a=text))
    assert [(each.module, each.parameter, each.line) for each in found] == [
        ("kvm_intel", "ept", 4),
        ("kvm_intel", "nested", 4),
        ("kvm", "ignore_msrs", 7),
    ]
    assert found[0].where == "/etc/modprobe.d/a.conf line 4"


def test_the_kernel_command_line_wins_over_every_file() -> None:
    given = facts("quiet kvm_intel.nested=0 kvm_intel.nested=1 nokvm.nested=3", etc_zz="options kvm_intel nested=N")
    setting = effective(given, "kvm_intel", "nested")
    assert setting is not None
    assert (setting.value, setting.where) == ("1", "/proc/cmdline")


def test_a_built_in_module_hears_only_the_command_line() -> None:
    given = facts("", etc_a="options kvm_intel nested=1")
    built = Facts(files=given.files, kernel_modules={"kvm_intel": Module(builtin=True)})
    assert value(given) == "1"
    assert value(built) is None


def test_the_next_boot_s_command_line_wins_after_a_reboot() -> None:
    grub = (
        "GRUB_CMDLINE_LINUX='kvm_amd.nested=0'\n#GRUB_CMDLINE_LINUX=kvm_amd.nested=5\n"
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
        'export GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT kvm_amd.nested=1"\n'
    )
    given = Facts(files={"/etc/default/grub": grub}, cmdline="kvm_amd.nested=0")
    assert value(given, "kvm_amd") == "0"
    after = lasting(given, "kvm_amd", "nested")
    assert after is not None
    assert (after.value, after.where) == ("1", "/etc/default/grub line 4")


def test_a_later_assignment_of_grub_s_replaces_an_earlier_one() -> None:
    given = {
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="kvm.ignore_msrs=1"\n',
        "/etc/default/grub.d/lab.cfg": 'GRUB_CMDLINE_LINUX="quiet"\nGRUB_CMDLINE_LINUX+=" kvm.halt_poll_ns=0"\n',
    }
    assert [each.parameter for each in planned(Facts(files=given))] == ["halt_poll_ns"]


def test_what_keeps_a_module_from_loading_is_found() -> None:
    given = facts(
        "modprobe.blacklist=nouveau,kvm-amd",
        etc_a="blacklist kvm_intel\ninstall kvm_amd /bin/false\ninstall kvm /sbin/modprobe --ignore-install kvm",
    )
    assert [(each.how, each.module, each.value) for each in hurdles(given)] == [
        ("blacklist", "kvm_intel", ""),
        ("install", "kvm_amd", "/bin/false"),
        ("install", "kvm", "/sbin/modprobe --ignore-install kvm"),
        ("blacklist", "kvm_amd", ""),
    ]
    assert blocking(given, "kvm_intel") is None, "a blacklisted module still loads by name"
    assert blocking(given, "kvm") is None, "that command loads it"
    hurdle = blocking(given, "kvm_amd")
    assert hurdle is not None
    assert hurdle.where == "/etc/modprobe.d/a.conf line 2"
    assert blocking(facts("module_blacklist=kvm_intel"), "kvm_intel") is not None


@pytest.mark.parametrize("line", ["options", "options kvm_intel", "optionskvm_intel nested=1", "alias kvm_intel off"])
def test_lines_that_set_nothing_are_passed_over(line: str) -> None:
    assert settings(facts(etc_a=line)) == ()


@given(st.text(), st.text())
def test_any_text_can_be_read(text: str, cmdline: str) -> None:
    given = Facts(files={"/etc/modprobe.d/a.conf": text, "/etc/default/grub": text}, cmdline=cmdline)
    assert all(each.line >= 0 for each in (*settings(given), *planned(given)))
    assert all(each.where for each in hurdles(given))
