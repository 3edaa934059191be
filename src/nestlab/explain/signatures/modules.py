"""What modprobe and the kernel say of loading and unloading modules."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

TABLE: tuple[Signature, ...] = (
    Signature(
        "module-in-use-by",
        r"Module (?P<module>[\w-]+) is in use by: ?(?P<users>[\w-]+)",
        "{module} cannot be unloaded while {users} is loaded, which needs it.",
        "Unload {users} first: `sudo modprobe -r {users}`. ignore_msrs of kvm needs no reload: write it to "
        "/sys/module/kvm/parameters/ignore_msrs.",
        "rmmod(8)",
        "rmmod: ERROR: Module kvm is in use by: kvm_intel",
        Rank.CAUSE,
    ),
    Signature(
        "module-in-use",
        r"Module (?P<module>[\w-]+) is in use",
        "{module} cannot be unloaded, because something uses it; for KVM that is a running guest.",
        "See who: `sudo fuser -v /dev/kvm`. Stop those guests, then `sudo modprobe -r {module}`; or leave the setting "
        "in /etc/modprobe.d and reboot. Do not force it.",
        "modprobe(8), rmmod(8); autotest/tp-qemu#2230",
        "modprobe: FATAL: Module kvm_intel is in use.",
        Rank.CAUSE,
    ),
    Signature(
        "module-builtin",
        r"Module (?P<module>[\w-]+) is builtin",
        "{module} is part of the kernel itself: it cannot be unloaded, and /etc/modprobe.d does not concern it.",
        "Set its parameters on the kernel's command line (`kvm_intel.nested=1`, `kvm_amd.nested=1`) and reboot.",
        "modprobe(8); microsoft/WSL#4193",
        "modprobe: FATAL: Module kvm_intel is builtin.",
        Rank.CAUSE,
    ),
    Signature(
        "invalid-for-parameter",
        r"(?P<module>[\w-]+): [`'](?P<value>[^`']{0,40})' invalid for parameter [`'](?P<parameter>[\w.-]+)'",
        "{module} does not take {value} for {parameter}, and is not loaded. kvm_amd's nested is a number, not Y or N.",
        "Write `options {module} {parameter}=1` in its file in /etc/modprobe.d (see `modprobe -c | grep {module}`), "
        "then `sudo modprobe {module}`.",
        "modprobe.d(5); linux: arch/x86/kvm/svm/svm.c (module_param nested, int)",
        "[   12.004113] kvm_amd: `Y' invalid for parameter `nested'",
        Rank.CAUSE,
    ),
    Signature(
        "unknown-parameter",
        r"(?P<module>[\w-]+): unknown parameter '(?P<parameter>[^']{1,60})' ignored",
        "{module} has no parameter {parameter}: it is misspelled, or belongs to another version.",
        "List those it has: `modinfo -p {module}`. Correct the file: `grep -r {parameter} /etc/modprobe.d`.",
        "modprobe.d(5)",
        "[   11.870215] kvm_intel: unknown parameter 'nestd' ignored",
        Rank.CAUSE,
    ),
    Signature(
        "module-not-supported",
        r"(?:could not insert '|can't load module )(?P<module>kvm_\w+)(?:'| \([^)]{1,120}\)): "
        r"(?:Operation )?not supported",
        "{module} finds no virtualization that it could use: it is off in the firmware, not passed on by the outer "
        "host, or the CPU is of the other vendor.",
        "See why: `sudo dmesg | grep -iE 'kvm|vmx|svm'`. Intel needs kvm_intel, AMD kvm_amd. `nestlab doctor` says "
        "what to change where.",
        "Linux documentation: virt/kvm/x86/running-nested-guests",
        "modprobe: ERROR: could not insert 'kvm_intel': Operation not supported",
        below=True,
    ),
    Signature(
        "module-busy",
        r"could not insert '?(?P<module>kvm_\w+)'?: Device or resource busy",
        "{module} cannot have the CPU's virtualization: another hypervisor (VirtualBox, VMware) holds it.",
        "End its guests and unload its modules (`lsmod | grep -E 'vbox|vmmon'`), then `sudo modprobe {module}`.",
        "linux: virt/kvm/kvm_main.c; arch/x86/kvm/x86.c",
        "modprobe: ERROR: could not insert 'kvm_amd': Device or resource busy",
        told=Sure.LIKELY,
    ),
    Signature(
        "module-invalid-argument",
        r"could not insert '(?P<module>kvm\w{0,9})': (?:Invalid argument|Unknown symbol)",
        "{module} is refused: a parameter has a value that it does not take, or the module is not of this kernel.",
        "See which: `sudo dmesg | tail`. Compare `modprobe -c | grep ^options.kvm` with `modinfo -p {module}`.",
        "modprobe(8), modprobe.d(5)",
        "modprobe: ERROR: could not insert 'kvm_amd': Invalid argument",
    ),
    Signature(
        "module-not-signed",
        r"Key was rejected by service|Required key not available|Loading of unsigned module is rejected",
        "Secure Boot is on, and the module is not signed with a key that this kernel trusts.",
        "Sign it and enrol the key (`sudo mokutil --import KEY.der`, then reboot), or switch Secure Boot off.",
        "Linux documentation: admin-guide/module-signing; mokutil(1)",
        "modprobe: ERROR: could not insert 'vboxdrv': Key was rejected by service",
        Rank.CAUSE,
    ),
    Signature(
        "module-not-found-wsl",
        r"Module (?P<module>kvm\w{0,12}) not found in directory /lib/modules/[\w.+-]{1,60}-microsoft-standard",
        "The kernel of WSL 2 is Microsoft's: where it can run guests, KVM is part of it or of its own modules, and no "
        "package of the distribution has {module}.",
        "`wsl --update` and `wsl --shutdown` in Windows, then `ls -l /dev/kvm`. A kernel of your own (kernel= in "
        ".wslconfig) needs CONFIG_KVM, or its modules by kernelModules=.",
        "Microsoft: Advanced settings configuration in WSL; microsoft/WSL2-Linux-Kernel",
        "modprobe: FATAL: Module kvm_intel not found in directory /lib/modules/5.15.153.1-microsoft-standard-WSL2",
        Rank.SYMPTOM,
        below=True,
    ),
    Signature(
        "module-not-found",
        r"Module (?!kvm\w{0,12} not found in directory \S{0,80}-microsoft-standard)(?P<module>[\w-]+) not found in "
        r"directory (?P<directory>\S{1,120})",
        "There is no module {module} for the running kernel in {directory}: it was removed by an update, the kernel is "
        "a small one without it, or this is a container.",
        "Reboot into the kernel that is installed, or install its modules (`linux-image-amd64` instead of a cloud "
        "kernel, `linux-modules-extra-$(uname -r)` on Ubuntu). In a container load it on the host.",
        "modprobe(8)",
        "modprobe: FATAL: Module kvm_intel not found in directory /lib/modules/6.12.48-cloud-amd64",
        Rank.CAUSE,
    ),
    Signature(
        "module-not-permitted",
        r"could not (?:insert|remove) '(?P<module>[\w-]+)': Operation not permitted",
        "Only root may load or unload {module}, and in a container not even root; kernel lockdown forbids some too.",
        "Use `sudo modprobe {module}`, on the host if this is a container.",
        "modprobe(8); kernel_lockdown(7)",
        "modprobe: ERROR: could not insert 'kvm_intel': Operation not permitted",
    ),
)
