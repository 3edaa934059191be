"""What QEMU, libvirt and the kernel say of real devices given to guests, through an IOMMU or a virtual one."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

VIOMMU = "QEMU: hw/i386/intel_iommu.c; libvirt: Domain XML format, IOMMU devices"
VFIO = "Linux documentation: driver-api/vfio; PVE Administration Guide: PCI(e) Passthrough"

TABLE: tuple[Signature, ...] = (
    Signature(
        "viommu-caching-mode",
        r"set caching-mode=on for intel-iommu|without enabling caching-mode=on|caching-mode(?:=on)?.{0,40}(?:required"
        r"|needed)",
        "This machine has a virtual Intel IOMMU and a passed-through device, and the IOMMU does not tell the host of "
        "new mappings: it needs caching mode.",
        "libvirt: <iommu model='intel'><driver intremap='on' caching_mode='on'/></iommu> and <ioapic driver='qemu'/>; "
        "QEMU: `-device intel-iommu,intremap=on,caching-mode=on`; Proxmox VE: `qm set VMID --machine "
        "q35,viommu=intel`.",
        VIOMMU + "; karmab/kcli#458; lf-edge/eve#1204",
        "qemu-kvm: We need to set caching-mode=on for intel-iommu to enable device assignment with IOMMU protection.",
        Rank.CAUSE,
    ),
    Signature(
        "vfio-locked-memory",
        r"vfio_(?:container_)?dma_map\(.{0,120}= -12\b|VFIO_MAP_DMA.{0,40}(?:-12\b|Cannot allocate memory)"
        r"|vfio.{0,80}memory listener initialization failed.{0,160}Cannot allocate memory"
        r"|cannot limit locked memory of process|locking memory failed|mlockall?.{0,20}: Cannot allocate memory"
        r"|RLIMIT_MEMLOCK.{0,40}(?:exceed|too (?:low|small)|fail)",
        "The limit of locked memory, not memory itself, is used up: passed-through devices pin all of the guest's "
        "memory, and behind a virtual IOMMU once for each device.",
        "libvirt: declare the IOMMU as <iommu>, not by qemu:commandline, or raise <memtune><hard_limit> to memory × "
        "devices + 1 GiB. Else LimitMEMLOCK=infinity for the service, `ulimit -l unlimited` for a shell; see `prlimit "
        "-l -p PID`.",
        "kubevirt/kubevirt#17805, #18915; libvirt: qemuDomainGetMemLockLimitBytes; getrlimit(2) (RLIMIT_MEMLOCK)",
        "vfio 0000:41:00.0: failed to setup container for group 60: memory listener initialization failed: Region "
        "pc.ram: vfio_container_dma_map(0x561f0b8c, 0x0, 0x80000000, 0x7f2a4) = -12 (Cannot allocate memory)",
        Rank.CAUSE,
    ),
    Signature(
        "vfio-group-not-viable",
        r"group \d{1,5} is not viable|Please ensure all devices within the iommu_group are bound",
        "The device shares its IOMMU group with others that the host still uses; a group can be given only whole.",
        "`find /sys/kernel/iommu_groups/ -type l | sort -V` shows who is in it. Bind all of them to vfio-pci, use "
        "another slot, or on a virtual board put the device behind its own pcie-root-port.",
        VFIO,
        "vfio 0000:01:00.0: group 1 is not viable",
        Rank.CAUSE,
    ),
    Signature(
        "vfio-interrupt-remapping",
        r"No interrupt remapping support|allow_unsafe_interrupts"
        r"|failed to set iommu for container: Operation not permitted",
        "The IOMMU cannot remap interrupts, and VFIO refuses devices without that. A virtual IOMMU does it only with "
        "interrupt remapping and a split irqchip.",
        "Below: intremap=on and `-machine q35,kernel-irqchip=split` (libvirt: <driver intremap='on'/>, <ioapic "
        "driver='qemu'/>). In a lab that trusts its guests: `options vfio_iommu_type1 allow_unsafe_interrupts=1`.",
        VFIO + "; " + VIOMMU,
        "vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param "
        '"allow_unsafe_interrupts"',
        Rank.CAUSE,
        below=False,
    ),
    Signature(
        "viommu-irqchip",
        r"Interrupt Remapping cannot work with kernel-irqchip=on|IOMMU interrupt remapping requires split I/O APIC"
        r"|interrupt remapping.{0,60}kernel[-_]irqchip",
        "A virtual IOMMU that remaps interrupts needs the interrupt controller split between QEMU and the kernel.",
        "QEMU: `-machine q35,kernel-irqchip=split`; libvirt: <features><ioapic driver='qemu'/></features>.",
        VIOMMU,
        "qemu-system-x86_64: Intel Interrupt Remapping cannot work with kernel-irqchip=on, please use 'split|off'.",
        Rank.CAUSE,
    ),
    Signature(
        "viommu-address-width",
        r"aw-bits \d{1,3} (?:>|exceeds?) host aw-bits|(?:guest|vIOMMU) aw[-_ ]bits.{0,40}host",
        "The virtual IOMMU has wider addresses than the real one below it.",
        "Set it to the host's: `-device intel-iommu,aw-bits=39`; libvirt: <driver aw_bits='39'/>.",
        VIOMMU,
        "qemu-system-x86_64: -device vfio-pci: aw-bits 48 > host aw-bits 39",
        Rank.CAUSE,
    ),
    Signature(
        "viommu-q35",
        r"intel-iommu.{0,80}(?:requires?|only (?:supported|available)).{0,40}(?:q35|PCIe)"
        r"|IOMMU device.{0,80}(?:requires?|only (?:supported|available)).{0,40}(?:q35|PCIe)"
        r"|vIOMMU is not supported .{0,40}(?:i440fx|machine)",
        "A virtual Intel IOMMU needs the board q35.",
        "Proxmox VE: `qm set VMID --machine q35,viommu=intel`; libvirt: machine='q35'; QEMU: -machine q35.",
        VIOMMU,
        "unsupported configuration: IOMMU device: 'intel' is only supported with q35 machine type",
        Rank.CAUSE,
    ),
    Signature(
        "host-no-passthrough",
        r"host doesn't support (?:passthrough|VFIO PCI passthrough|legacy PCI passthrough)|no IOMMU detected"
        r"|please verify that IOMMU is enabled|DMAR: No ATSR|AMD-Vi: (?:Unable to|failed)|IOMMU: not (?:enabled"
        r"|supported)|VM_REQUIRES_IOMMU",
        "This host has no working IOMMU, so it can give no real device to a guest.",
        "On real hardware switch VT-d or AMD-Vi on in the firmware, on Intel boot with intel_iommu=on. In a virtual "
        "machine the level below must give a virtual IOMMU (QEMU -device intel-iommu, Proxmox VE viommu=intel); "
        "clouds do not.",
        VFIO,
        "error: unsupported configuration: host doesn't support passthrough of host PCI devices",
        Rank.CAUSE,
    ),
    Signature(
        "validate-no-iommu",
        r"device assignment IOMMU support\s{0,40}: WARN|IOMMU is enabled by kernel\s{0,40}: WARN",
        "virt-host-validate found no working IOMMU. That matters only where a real device is to be given to a guest.",
        "Nothing, if none is. Else switch VT-d or AMD-Vi on in the firmware, on Intel boot with intel_iommu=on; a "
        "virtual machine needs a virtual IOMMU from the level below.",
        "virt-host-validate(1); " + VFIO,
        "  QEMU: Checking for device assignment IOMMU support                         : WARN (No ACPI DMAR table "
        "found)",
        Rank.NOTE,
    ),
    Signature(
        "vfio-memory-of-the-console",
        r"BAR \d{1,2}: can't reserve",
        "The kernel's console still uses the memory of this graphics card, so vfio-pci cannot take it for a guest.",
        "Give the host another card or none for its console: on its kernel's command line "
        "initcall_blacklist=sysfb_init (Linux 5.15 and newer; before, video=efifb:off), vfio-pci.ids= of the card, "
        "then "
        "reboot.",
        VFIO + "; PVE wiki: PCI Passthrough",
        "vfio-pci 0000:01:00.0: BAR 1: can't reserve [mem 0xe0000000-0xefffffff 64bit pref]",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "vfio-rmrr",
        r"ineligible for IOMMU domain attach due to platform RMRR",
        "The firmware of this machine keeps memory for that device itself (RMRR), so the kernel gives it to no guest.",
        "Update the firmware, or take the device out of its management (HPE: `conrep`, shared memory features off); "
        "another slot or device is not concerned. It cannot be mended from inside a guest.",
        "Linux documentation: arch/x86/iommu; PVE wiki: PCI Passthrough",
        "vfio-pci 0000:07:00.0: DMAR: Device is ineligible for IOMMU domain attach due to platform RMRR requirement.",
        Rank.CAUSE,
    ),
    Signature(
        "vfio-no-iommu-backend",
        r"No available IOMMU models",
        "The kernel has no way to map a guest's memory for the device: the module vfio_iommu_type1 is not loaded, or "
        "there is no IOMMU.",
        "`sudo modprobe vfio_iommu_type1`, for good in /etc/modules-load.d; if it stays, `sudo dmesg | grep -iE "
        "'dmar|iommu|amd-vi'` must show an IOMMU: see `nestlab doctor`.",
        VFIO,
        "vfio 0000:01:00.0: failed to setup container for group 14: No available IOMMU models",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "iommu-fault",
        r"DMAR: \[DMA (?:Read|Write).{0,120}fault|AMD-Vi: Event logged \[IO_PAGE_FAULT"
        r"|DMAR: DRHD: handling fault status",
        "A device used memory that its IOMMU did not map: a driver's or firmware's fault, or a virtual IOMMU without "
        "caching mode below a passed-through device.",
        "In a virtual machine switch caching-mode on for its IOMMU. On real hardware update the firmware and driver; "
        "`iommu=pt` spares the host's own devices.",
        "Linux documentation: arch/x86/iommu; " + VIOMMU,
        "DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0xdeadb000 [fault reason 0x06] PTE Read access "
        "is not set",
        told=Sure.LIKELY,
    ),
    Signature(
        "vfio-device-stuck",
        r"Unable to power on device, stuck in D3|Unable to change power state from D3cold|not ready \d{3,6}ms after "
        r"|no available reset mechanism",
        "The device did not come back after its reset: it does not support one, or an outer level does not pass it on.",
        "Power the host off and on. Keep the device out of the host's own drivers (vfio-pci.ids=), and see the "
        "vendor's reset quirks; a device passed on twice needs a reset at each level.",
        VFIO,
        "vfio-pci 0000:01:00.0: not ready 65535ms after FLR; giving up",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "vfio-not-bound",
        r"Verify all devices in group \d{1,5} are bound to vfio|vfio.{0,60}failed to open /dev/vfio/\d{1,5}"
        r"|/dev/vfio/vfio.{0,40}(?:No such file|Permission denied)",
        "The device is not bound to vfio-pci, or this user may not open its group under /dev/vfio.",
        "`lspci -nnk -s ADDRESS` shows its driver; bind it (`driverctl set-override ADDRESS vfio-pci`), and give the "
        "group to the user who runs QEMU.",
        VFIO + "; driverctl(8)",
        "vfio 0000:01:00.0: error getting device from group 1: Verify all devices in group 1 are bound to vfio-<bus>",
        Rank.CAUSE,
    ),
)
