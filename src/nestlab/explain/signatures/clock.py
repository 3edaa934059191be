"""What guests and hosts say of their clocks: mostly harmless in a nest, and sometimes what breaks TLS and clusters."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

TIME = "Linux documentation: virt/kvm/x86/timekeeping"
PARAMETERS = "Linux documentation: admin-guide/kernel-parameters (tsc=, clocksource=, hpet=)"

TABLE: tuple[Signature, ...] = (
    Signature(
        "clocksource-watchdog-slow",
        r"clocksource: (?:Watchdog )?\S{0,20} ?.{0,30}read(?:[ -]back)? (?:timed out|delay)"
        r"|wd-tsc-wd.{0,40}read-back delay|clocksource-wait|watchdog_print_freq_timeout"
        r"|timekeeping watchdog on CPU\d{1,4}: .{1,40}retried \d",
        "Harmless: in a nest it takes long to read the HPET (or another watchdog clock) through the levels, and the "
        "kernel's watchdog of the TSC complains of that.",
        "Nothing; for quiet boot that guest with tsc=nowatchdog (or tsc=reliable), and give it no HPET and kvm-clock "
        "from below: QEMU `-machine hpet=off`, libvirt <timer name='hpet' present='no'/>.",
        PARAMETERS + "; au-ts/libvmm#389",
        "[    3.568257] clocksource: Watchdog hpet read timed out. Readout sequence took: 57800ns",
        Rank.NOTE,
    ),
    Signature(
        "tsc-unstable",
        r"Marking TSC unstable|tsc: Fast TSC calibration failed|Unable to calibrate against PIT"
        r"|Measured \d{1,20} cycles TSC warp|check_tsc_sync_source failed"
        r"|sched_clock: Marking unstable|clocksource \w{2,12} skewed \d{3,14} ns",
        "The guest does not trust the CPU's time stamp counter: below it is not stable, or the CPUs wait for each "
        "other.",
        "Let it use kvm-clock (`cat /sys/devices/system/clocksource/clocksource0/current_clocksource`); give it no "
        "more CPUs than the host has free. With CPU host and +invtsc from below the TSC stays, but the machine cannot "
        "be moved.",
        TIME + "; " + PARAMETERS,
        "[    0.431102] tsc: Marking TSC unstable due to TSCs unsynchronized",
        Rank.NOTE,
    ),
    Signature(
        "clock-slow-source",
        r"clocksource: Switched to clocksource (?:hpet|acpi_pm|pit|jiffies|refined-jiffies)",
        "The system reads its time from a slow clock: each reading costs a way through all levels in a nest.",
        "kvm-clock in a guest of KVM, tsc on real hardware: see what is offered in "
        "/sys/devices/system/clocksource/clocksource0/available_clocksource; boot with clocksource=tsc or kvm-clock.",
        TIME,
        "[    1.904421] clocksource: Switched to clocksource acpi_pm",
        Rank.NOTE,
    ),
    Signature(
        "kvm-unstable-tsc",
        r"SMP vm created on host with unstable TSC",
        "The host's own TSC is not stable (a virtual machine's mostly is not), so that of its guests is not either.",
        "Nothing for Linux guests, which have kvm-clock. On the host below give this machine invtsc, if it must not "
        "be moved.",
        TIME,
        "[  412.100221] kvm: SMP vm created on host with unstable TSC; guest TSC will not be reliable",
        Rank.NOTE,
    ),
    Signature(
        "lost-ticks",
        r"rtc: lost some interrupts|lost some interrupts at \d{2,5}Hz|hrtimer: interrupt took \d{5,12} ns"
        r"|Lost \d{1,9} timer tick",
        "The machine did not get its timer's interrupts in time: the host is busy, paused it, or emulates it.",
        "Once after a restore: nothing. Else fewer virtual CPUs than the host has (`vmstat 1`, column st), and a "
        "periodic clock less: `-rtc base=utc,driftfix=slew`.",
        TIME,
        "[   88.120311] hrtimer: interrupt took 14480112 ns",
        Rank.NOTE,
    ),
    Signature(
        "clock-jumped",
        r"System clock wrong by -?\d{1,12}\.\d{1,9} seconds|(?:Forward|Backward) time jump detected"
        r"|time has been changed, (?:resynchron|jump)|Time jumped (?:forwards|backwards)|clock (?:has )?(?:jumped"
        r"|went) backwards?",
        "The clock of this machine jumped: it was paused, restored from a snapshot or moved, or its host suspended.",
        "`sudo chronyc makestep` (in a guest of KVM chrony can follow the host: refclock PHC /dev/ptp0 with the module "
        "ptp_kvm). Restore all machines of a cluster together.",
        "chronyc(1); Linux documentation: virt/kvm/x86/timekeeping",
        "chronyd[612]: System clock wrong by 81244.118201 seconds",
        Rank.SYMPTOM,
    ),
    Signature(
        "clock-skew",
        r"clock skew detected on mon|MON_CLOCK_SKEW|clock difference against peer .{0,60}too high|Clock skew too great"
        r"|clock skew (?:is )?(?:too (?:large|great)|detected)|clocks? (?:are|is) (?:not synchroni[sz]ed|out of sync)",
        "The machines of a cluster do not agree on the time: some were paused or restored, or have no common source.",
        "On each: `chronyc tracking`, `sudo chronyc makestep`; let all follow one server (the outermost host), and "
        "pause and restore them together.",
        "chronyc(1); Ceph documentation: MON_CLOCK_SKEW",
        "cluster [WRN] Health check failed: clock skew detected on mon.pve2, mon.pve3 (MON_CLOCK_SKEW)",
        Rank.CAUSE,
    ),
    Signature(
        "no-time-source",
        r"Can't synchroni[sz]e: no selectable sources|no server suitable for synchronization found"
        r"|System clock synchronized: no",
        "The machine follows no time server: none answers, so its clock drifts.",
        "`chronyc sources`; an isolated segment needs a server of its own (`local stratum 10` on one machine, "
        "`server` on the others), or ptp_kvm from the host.",
        "chrony.conf(5)",
        "chronyd[612]: Can't synchronise: no selectable sources",
        Rank.NOTE,
    ),
    Signature(
        "tsc-adjust",
        r"TSC ADJUST differs|TSC_ADJUST|APIC (?:calibration not consistent|frequency too slow|timer disabled due to)"
        r"|NOHZ.{0,20}local_softirq_pending|clocksource: 'tsc' wd_now",
        "Harmless in a virtual machine: its timers were measured while other levels had the CPU, or the host sets the "
        "TSC itself.",
        "Nothing, while the time is right (`chronyc tracking`).",
        TIME,
        "[Firmware Bug]: TSC ADJUST differs within socket(s), fixing all errors",
        Rank.NOTE,
    ),
)
