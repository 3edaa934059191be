"""What Windows, Hyper-V, WSL and the programs on top of them say of nesting: the version decides."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature, Sure

HYPERV = "Microsoft: Run Hyper-V in a virtual machine with nested virtualization"
WSL = "Microsoft: Advanced settings configuration in WSL"

TABLE: tuple[Signature, ...] = (
    Signature(
        "hyperv-platform-does-not-nest",
        r"this platform does not support nested virtuali[sz]ation",
        "Hyper-V on this Windows cannot nest on this CPU: on AMD it can from Windows 11 or Server 2022 on, on Intel "
        "from Windows 10 1607 or Server 2016; and not where this Windows is itself a virtual machine without VT-x or "
        "AMD-V.",
        "Update Windows, or do without: `Set-VMProcessor NAME -ExposeVirtualizationExtensions $false`; in a "
        "Vagrantfile `h.enable_virtualization_extensions = false`; minikube and Multipass need no nesting.",
        "Varying-Vagrant-Vagrants/VVV#2534; MicrosoftDocs/Virtualization-Documentation#1915; " + HYPERV,
        "Failed to start VM: The virtual machine could not be started because this platform does not support nested "
        "virtualization.",
        Rank.CAUSE,
    ),
    Signature(
        "wsl-does-not-nest",
        r"wsl: Nested virtuali[sz]ation is not supported",
        "WSL 2 nests on Windows 11 only (by default), on a CPU with VT-x and EPT or AMD-V; on Windows 10 it does not, "
        "whatever .wslconfig says; and nothing inside of WSL changes it.",
        "`winver`. On Windows 10: Windows 11, or a Hyper-V machine instead of WSL. On Windows 11 virtualization is "
        "off in the firmware, or this Windows is a virtual machine whose host does not give it. For quiet: "
        "nestedVirtualization=false.",
        "microsoft/WSL#9400, #10106, #40735; " + WSL,
        "wsl: Nested virtualization is not supported on this machine.",
        Rank.CAUSE,
    ),
    Signature(
        "wsl-nested-policy",
        r"nestedVirtuali[sz]ation'? is disabled by the computer policy",
        "The administrator of this Windows forbids nesting in WSL by policy.",
        "Ask for the policy `Allow nested virtualization` of WSL, or use a Hyper-V machine.",
        "Microsoft: Enterprise set-up of WSL; microsoft/WSL: intune",
        "wsl: The .wslconfig setting 'wsl2.nestedVirtualization' is disabled by the computer policy.",
        Rank.CAUSE,
    ),
    Signature(
        "wsl-nested-unknown-key",
        r"unknown key '(?:wsl2|experimental)\.nestedVirtuali[sz]ation'",
        "This WSL is too old to nest, or the key stands in the wrong section: it belongs under [wsl2].",
        "`wsl --update`, then write nestedVirtualization=true under [wsl2] in %UserProfile%\\.wslconfig, and `wsl "
        "--shutdown`. Windows 11 only.",
        WSL,
        "wsl: Unknown key 'wsl2.nestedVirtualization' in C:\\Users\\kai\\.wslconfig:2",
        Rank.CAUSE,
    ),
    Signature(
        "hyperv-role-no-virtualization",
        r"Hyper-V cannot be installed because virtuali[sz]ation support is not enabled in the BIOS"
        r"|Hyper-V cannot be installed: Virtuali[sz]ation support is (?:not enabled|disabled) in the (?:BIOS|firmware)",
        "Windows sees no VT-x or AMD-V. A virtual machine has no BIOS to look in: its outer host must give it; on "
        "Azure the size must nest and the security type be Standard, not Trusted Launch.",
        "On real hardware switch it on in the firmware. In Hyper-V, with the machine off: `Set-VMProcessor NAME "
        "-ExposeVirtualizationExtensions $true`. On Azure: `az vm update --security-type Standard` while it is "
        "deallocated.",
        "MicrosoftDocs/azure-docs#87947; " + HYPERV,
        "1. Hyper-V cannot be installed because virtualization support is not enabled in the BIOS.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "hyperv-no-slat",
        r"second level address translation(?: \(SLAT\))?(?: capabilit(?:y|ies))?(?: (?:is|are))? (?:not|missing)"
        r"|does not have second[- ]level address translation|Second Level Address Translation:\s{1,40}No",
        "The CPU that Windows sees has no SLAT (EPT or NPT), which Hyper-V needs: it is too old, or the outer "
        "hypervisor does not pass nested paging on.",
        "In a virtual machine give it the host's CPU, and switch ept or npt on below (`cat "
        "/sys/module/kvm_*/parameters/*pt`; VirtualBox and VMware: nested paging).",
        "Microsoft: Hyper-V system requirements",
        "Hyper-V cannot be installed: The processor does not have second level address translation (SLAT) "
        "capabilities.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "hyperv-not-running",
        r"because the hypervisor is not running|hypervisorlaunchtype\s{1,40}Off|No hypervisor was found",
        "The Hyper-V role is there, but Windows did not start its hypervisor: it is switched off at boot, or the CPU "
        "has no VT-x or AMD-V for it.",
        "In an elevated prompt: `bcdedit /set hypervisorlaunchtype auto`, then restart. If it stays, read "
        "`systeminfo` (last lines): firmware, or the host of this virtual machine.",
        "Microsoft: Hyper-V troubleshooting; bcdedit",
        "'hv1' could not be started because the hypervisor is not running.",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "hyperv-launch-failed",
        r"Hypervisor launch failed",
        "Windows could not start its hypervisor on this CPU; the line says what it misses (VMX, SLAT, NX, or a "
        "feature of a newer CPU). In a nest the outer CPU model lacks it.",
        "Give the machine the host's own CPU (KVM: host with the hv- enlightenments, on Intel hv-evmcs), switch "
        "nesting on below, and stop and start it.",
        "Microsoft: Hyper-V events (Hyper-V-Hypervisor 32, 41, 80); QEMU documentation: system/i386/hyperv",
        "Hypervisor launch failed; Either VMX not present or not enabled in BIOS.",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "hyperv-state",
        r"cannot be performed while the (?:object|virtual machine) is in its current state"
        r"|cannot change (?:the )?processor.{0,60}while the virtual machine is running",
        "Hyper-V changes the processor, and so nesting, only of a machine that is off (not paused or saved).",
        "`Stop-VM NAME` (`Remove-VMSavedState NAME` if it is saved), `Set-VMProcessor NAME "
        "-ExposeVirtualizationExtensions $true`, `Start-VM NAME`.",
        HYPERV,
        "Set-VMProcessor : The operation cannot be performed while the object is in its current state.",
        Rank.CAUSE,
    ),
    Signature(
        "hyperv-too-old-to-nest",
        r"matches parameter name '?ExposeVirtuali[sz]ationExtensions",
        "This Windows is older than nesting: its Hyper-V has no such option. On Intel it came with Windows 10 1607 and "
        "Server 2016, on AMD with Windows 11 and Server 2022.",
        "`winver`, then update Windows. If it is new enough, an older Hyper-V module is loaded: `Get-Module Hyper-V "
        "-ListAvailable`, and `Import-Module Hyper-V -RequiredVersion 2.0.0.0`.",
        HYPERV,
        "Set-VMProcessor : A parameter cannot be found that matches parameter name 'ExposeVirtualizationExtensions'.",
        Rank.CAUSE,
    ),
    Signature(
        "hypervisor-detected",
        r"A hypervisor has been detected\. Features required for Hyper-V will not be displayed",
        "A hypervisor already runs below this Windows: its own Hyper-V, or that of the host whose virtual machine it "
        "is.",
        "Nothing by itself: `(Get-CimInstance Win32_ComputerSystem).Model` says whether it is a virtual machine; then "
        "its host decides whether it nests.",
        "Microsoft: systeminfo",
        "Hyper-V Requirements:      A hypervisor has been detected. Features required for Hyper-V will not be "
        "displayed.",
        Rank.NOTE,
    ),
    Signature(
        "whpx-missing",
        r"WHPX: No accelerator found|VERR_NEM_(?:NOT_AVAILABLE|VM_CREATE_FAILED|MISSING_KERNEL_API)"
        r"|WHvCapabilityCodeHypervisorPresent is FALSE",
        "VT-x or AMD-V is held by Hyper-V or not there, and the way through Windows (Windows Hypervisor Platform) is "
        "not switched on.",
        "In an elevated PowerShell: `Enable-WindowsOptionalFeature -Online -FeatureName HypervisorPlatform`, then "
        "restart; or free the CPU for the program: `bcdedit /set hypervisorlaunchtype off`. In a virtual machine its "
        "host must nest.",
        "QEMU documentation: WHPX; VirtualBox manual: Using Hyper-V with VirtualBox",
        "qemu-system-x86_64.exe: WHPX: No accelerator found, hr=00000000",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "whpx-vp-exit",
        r"WHPX: Unexpected VP exit code",
        "QEMU on the Windows Hypervisor Platform stopped at an exit it does not know: often interrupts in the kernel.",
        "`-accel whpx,kernel-irqchip=off`, a plain CPU model (-cpu qemu64), and no vmx: WHPX does not nest.",
        "QEMU documentation: WHPX",
        "qemu-system-x86_64.exe: WHPX: Unexpected VP exit code 4",
        told=Sure.LIKELY,
    ),
    Signature(
        "android-hypervisor-driver",
        r"Android Emulator hypervisor driver.{0,40}(?:not installed|not running|failed|cannot|not compatible)"
        r"|HAXM (?:is not|is required|failed|cannot).{0,40}|AEHD is not.{0,40}",
        "The Android emulator's driver cannot use VT-x or AMD-V: Hyper-V holds them, or they are off or not given to "
        "this virtual machine.",
        "Use Windows Hypervisor Platform instead of the driver (`emulator -accel-check` names what is used), or "
        "switch Hyper-V off: `bcdedit /set hypervisorlaunchtype off`, and restart.",
        "developer.android.com: Configure hardware acceleration",
        "CPU acceleration status: Android Emulator hypervisor driver is not installed on this machine",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "azure-trusted-launch",
        r"Trusted ?Launch.{0,80}(?:does not|doesn't|not) support nested|nested virtuali[sz]ation.{0,80}Trusted ?Launch",
        "The size may nest, but the machine's security type is Trusted Launch, which mostly may not.",
        "`az vm deallocate --resource-group GROUP --name NAME`, `az vm update --resource-group GROUP --name NAME "
        "--security-type Standard`, `az vm start --resource-group GROUP --name NAME`; a new one: `az vm create … "
        "--security-type Standard`.",
        "Microsoft: Trusted Launch FAQ; MicrosoftDocs/azure-docs#87947",
        "The security type 'TrustedLaunch' does not support nested virtualization",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "azure-size",
        r"(?:VM size|Virtual Machine size|Standard_\w{1,30}).{0,80}(?:does not|doesn't|not) support nested",
        "That Azure size does not nest.",
        "Take a v3 or later general-purpose size with security type Standard: `az vm resize --resource-group GROUP "
        "--name NAME --size Standard_D4s_v5`.",
        "Microsoft: Azure virtual machines, sizes",
        "The VM size Standard_B2s does not support nested virtualization.",
        Rank.CAUSE,
    ),
    Signature(
        "hyperv-hcs",
        r"\b0x80370114\b|\b0x80370109\b|HCS_E_(?:SERVICE_NOT_AVAILABLE|CONNECTION_TIMEOUT)|\b0xc0351000\b",
        "Windows' service for virtual machines could not start one: Virtual Machine Platform or Hyper-V is not whole, "
        "its hypervisor does not run, or the host is too slow (a virtual machine without VT-x emulates).",
        "`Enable-WindowsOptionalFeature -Online -FeatureName VirtualMachinePlatform`, `bcdedit /set "
        "hypervisorlaunchtype auto`, restart; `wsl --update`. In a virtual machine its host must give it vmx or svm.",
        "Microsoft: Troubleshooting WSL",
        "Error code: Wsl/Service/CreateVm/HCS/0x80370114",
        Rank.CAUSE,
        Sure.LIKELY,
        below=True,
    ),
    Signature(
        "hyperv-needs-a-feature",
        r"\b0xc035001e\b|A hypervisor feature is not available to the user|STATUS_HV_FEATURE_UNAVAILABLE",
        "Hyper-V's hypervisor lacks a feature that was asked for: a device to be passed through without an IOMMU or "
        "on a Windows that is no Server, or virtualization that is off in the firmware.",
        "Switch VT-d or AMD-Vi on in the firmware; Discrete Device Assignment needs Windows Server, and does not go "
        "in a machine that may nest. `systeminfo` shows what Hyper-V sees.",
        "Microsoft: Plan for deploying devices by using Discrete Device Assignment",
        "Virtual PCI Express Port: Failed to Power on with Error 'A hypervisor feature is not available to the user.' "
        "(0xC035001E).",
        Rank.CAUSE,
        Sure.LIKELY,
    ),
    Signature(
        "hyperv-memory",
        r"\b0xc035000b\b|STATUS_HV_INSUFFICIENT_MEMORY",
        "Hyper-V's hypervisor had too little memory for the machine.",
        "End other machines or give this one less (`Set-VMMemory NAME -StartupBytes 2GB`); where this Windows is a "
        "virtual machine itself, give it more, and memory that is not dynamic.",
        "Windows: ntstatus.h (STATUS_HV_INSUFFICIENT_MEMORY)",
        "Hypervisor has failed: 0xC035000B (STATUS_HV_INSUFFICIENT_MEMORY)",
        Rank.CAUSE,
    ),
    Signature(
        "hyperv-status",
        r"\b0xc035(?P<code>[0-9a-f]{4})\b|\bSTATUS_HV_[A-Z_]{3,60}\b",
        "Hyper-V's hypervisor refused what Windows asked of it; codes of 0xC035 are its own. Where this Windows is a "
        "virtual machine, the level below mostly gives it a CPU that is not whole.",
        "Update Windows. In a virtual machine: give it the host's CPU with vmx or svm and nested paging, then stop and "
        "start it. See Event Viewer, Hyper-V-Hypervisor and Hyper-V-Worker, for the machine that was refused.",
        "Windows: ntstatus.h (STATUS_HV_...); " + HYPERV,
        "Hypervisor has failed: 0xC0350005 (STATUS_HV_INVALID_PARAMETER)",
        told=Sure.POSSIBLE,
    ),
    Signature(
        "hyperv-nesting-needs",
        r"nested virtuali[sz]ation requires.{0,40}(?:configuration )?version"
        r"|dynamic memory.{0,40}nested virtuali[sz]ation|nested virtuali[sz]ation.{0,60}dynamic memory",
        "Hyper-V nests only in machines of configuration version 8.0 or newer, and with memory that is not dynamic "
        "while guests run in them.",
        "With the machine off: `Update-VMVersion NAME`, `Set-VMMemory NAME -DynamicMemoryEnabled $false`, "
        "`Set-VMProcessor NAME -ExposeVirtualizationExtensions $true`.",
        HYPERV,
        "Nested virtualization requires configuration version 8.0 or greater.",
        Rank.CAUSE,
    ),
    Signature(
        "hyperv-amd-version",
        r"nested virtuali[sz]ation is not supported (?:on|for) AMD"
        r"|AMD processors?.{0,60}nested virtuali[sz]ation.{0,20}not",
        "Hyper-V nests on AMD only from Windows 11 and Server 2022 on, in machines of configuration version 9.3 or "
        "newer.",
        "Update Windows, or leave ExposeVirtualizationExtensions off.",
        "M2Team/NanaBox#17; " + HYPERV,
        "Nested virtualization is not supported on AMD processors on this version of Windows.",
        Rank.CAUSE,
    ),
    Signature(
        "hyperv-already-running",
        r"Hyper-V cannot be installed: A hypervisor is already running",
        "Windows sees that it runs in a virtual machine whose CPU has no vmx or svm.",
        "Give it one at the level below, then stop and start it; no setting of this Windows helps.",
        "Microsoft: Nested Virtualization in Hyper-V",
        "Hyper-V cannot be installed: A hypervisor is already running.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "hyperv-processor",
        r"Hyper-V cannot be installed: The processor does not have required virtualization capabilities",
        "Windows sees no VT-x or AMD-V, or not what Hyper-V needs of it (SLAT).",
        "Give the machine host, or a real vendor's model with nested-virt, and keep ept or npt on below; then stop and "
        "start it.",
        "Microsoft: Hyper-V requirements; PVE wiki: Nested Virtualization",
        "Hyper-V cannot be installed: The processor does not have required virtualization capabilities.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "wsl2-no-virtualization",
        r"ensure virtualization is enabled in the BIOS|WSL2 is not supported with your current machine configuration"
        r"|WSL2 is unable to start because virtualization is not enabled|HCS_E_HYPERV_NOT_INSTALLED|\b0x80370102\b",
        "WSL2 needs a hypervisor of its own, and this Windows has no virtualization to start one.",
        "Switch it on in the firmware, or give this virtual machine vmx or svm (CPU host); then `wsl --install "
        "--no-distribution` and restart.",
        "Microsoft: Troubleshooting WSL",
        "Please enable the Virtual Machine Platform Windows feature and ensure virtualization is enabled in the BIOS.",
        Rank.CAUSE,
        below=True,
    ),
    Signature(
        "windows-msr-stop",
        r"SYSTEM_THREAD_EXCEPTION_NOT_HANDLED|KMODE_EXCEPTION_NOT_HANDLED",
        "Windows 10 1803 and later stop like this on a host CPU when KVM refuses a register that they read.",
        "On the host: `echo 1 | sudo tee /sys/module/kvm/parameters/ignore_msrs`, and `options kvm ignore_msrs=1` in "
        "/etc/modprobe.d.",
        "PVE wiki: Nested Virtualization; quickemu-project/quickemu#88",
        "Stop code: SYSTEM_THREAD_EXCEPTION_NOT_HANDLED",
    ),
    Signature(
        "windows-hypervisor-error",
        r"\bHYPERVISOR_ERROR\b",
        "The Hyper-V inside of this machine stopped: it does not agree with the CPU or the enlightenments it is given.",
        "Intel: `qm set VMID --cpu 'host,flags=+hv-evmcs'`, or `--cpu host,level=30`; AMD: host without hv-evmcs. "
        "Update the host's kernel, and take a snapshot before you enable the role.",
        "QEMU documentation: system/i386/hyperv; microsoft/openvmm#3646",
        "Stop code: HYPERVISOR_ERROR",
    ),
    Signature(
        "windows-vbs",
        r"virtualization-based security\s{1,40}(?:status:\s{1,20})?running",
        "This Windows runs on a hypervisor of its own (VBS), which makes it slow in a virtual machine.",
        "If it need not nest: CPU x86-64-v3, or `bcdedit /set hypervisorlaunchtype off`. Else on Intel hv-evmcs.",
        "QEMU documentation: system/i386/hyperv; qm.conf(5)",
        "Virtualization-based security    Running",
        Rank.NOTE,
    ),
    Signature(
        "windows-clock-watchdog",
        r"CLOCK_WATCHDOG_TIMEOUT|SECURE_KERNEL_ERROR",
        "Windows stopped, because a virtual CPU did not answer in time: the host is overloaded, or Windows' own "
        "hypervisor (VBS, Hyper-V, WSL 2) in it does not get on with the level below.",
        "Give it fewer CPUs than the host has, with the hv- enlightenments (Intel: hv-evmcs); if it need not nest, "
        "`bcdedit /set hypervisorlaunchtype off` and memory integrity off.",
        "QEMU documentation: system/i386/hyperv",
        "Stop code: CLOCK_WATCHDOG_TIMEOUT",
    ),
)
