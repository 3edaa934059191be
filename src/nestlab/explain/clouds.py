"""Clouds that rent machines: how each is known, which of its machines nest, and how that is switched on. Data. Pure.

A tenant cannot touch the host that his machine runs on. What he can do is the provider's own switch, another type of
machine, or another provider: `below` says which, for the machine that is there (nothing is launched anew where the
machine can be changed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from nestlab.base.frozen import frozen


class Nests(Enum):
    """What decides in a cloud whether a machine may have guests of its own."""

    SWITCH = "switch"
    """An option of the machine, off by default."""
    TYPE = "type"
    """Its type or size alone: the provider has no option for it."""
    OPERATOR = "operator"
    """Whoever runs the compute hosts: the software can, the tenant cannot."""
    UNPROMISED = "unpromised"
    """Nothing is promised: some machines have vmx or svm, and a tenant can change nothing."""
    NEVER = "never"
    """No virtual machine of this provider nests."""


@frozen
class Way:
    """What to do about a machine: `do`, whole sentences; `commands`, to be typed where the provider's tool runs."""

    do: str
    commands: tuple[str, ...] = ()


@frozen
class Cloud:
    """A provider.

    `dmi`: strings of DMI any of which identifies it (in any field of a machine). `detected`: what systemd-detect-virt
    says in its machines, if nobody else's say the same. `log`: words by which a log shows it, in small letters;
    `kernel`: how versions of kernels made for it end. `nests` says what decides and `types` which machines nest, a
    sentence. `nesting` is a regular expression of types that do, `never` of types that never will; both are empty where
    DMI does not tell the type. `switch`: for the machine that is there, if its type nests; `move`: if its type does
    not (its commands have those of `switch`, too); `launch`: for a new one. `see`: where all this is documented.
    """

    name: str
    nests: Nests
    types: str
    switch: Way
    move: Way
    see: str
    dmi: tuple[str, ...] = ()
    detected: str = ""
    log: tuple[str, ...] = ()
    kernel: str = ""
    nesting: str = ""
    never: str = ""
    launch: tuple[str, ...] = ()

    def type_of(self, product: str) -> str:
        """The type of a machine, from DMI's product_name, where this provider writes it there; else ""."""
        return product if self.nesting and re.fullmatch(r"[a-z0-9-]{2,20}\.[a-z0-9-]{2,24}", product) else ""

    def type_nests(self, machine_type: str) -> bool | None:
        """Whether machines of that type nest, if switched on; None if only the provider knows."""
        if machine_type and self.nesting and re.search(self.nesting, machine_type):
            return True
        return False if machine_type and self.never and re.search(self.never, machine_type) else None

    def below(self, product: str = "") -> Way:
        """What a tenant does about a machine without vmx or svm. `product`: DMI's product_name, if it is known."""
        machine_type = self.type_of(product)
        fits = self.type_nests(machine_type)
        if fits:
            return Way(f"The type {machine_type} nests. {self.switch.do}", self.switch.commands)
        if fits is False:
            return Way(f"The type {machine_type} does not nest. {self.move.do}", self.move.commands)
        if self.switch == self.move:
            return Way(f"{self.types} {self.switch.do}", self.switch.commands)
        return Way(f"{self.types} {self.switch.do} {self.move.do}", self.move.commands)


_EC2_LIST = (
    "aws ec2 describe-instance-types --filters Name=processor-info.supported-features,Values=nested-virtualization"
    " --query 'InstanceTypes[].InstanceType'"
)
_EC2_STOP = "aws ec2 stop-instances --instance-ids ID && aws ec2 wait instance-stopped --instance-ids ID"
_EC2_ON = (
    "aws ec2 modify-instance-cpu-options --instance-id ID --nested-virtualization enabled",
    "aws ec2 start-instances --instance-ids ID",
)
EC2 = Cloud(
    "Amazon EC2",
    Nests.SWITCH,
    "Bare-metal types nest; so do Intel types of the 8th generation (C8i, M8i, R8i and their kin, and whatever else "
    "describe-instance-types lists), with a CPU option that is off by default. AMD and Graviton types do not.",
    Way(
        "Its CPU option for nested virtualization is off: stop the instance, switch it on, start it again; its disks "
        "stay. (Not a spot instance: request that one anew with the option; EKS managed node groups ignore it.)",
        (_EC2_STOP, *_EC2_ON),
    ),
    Way(
        "With its disks kept, stop the instance, change its type to one that nests (m8i.xlarge, or another of the "
        "list), switch the CPU option on and start it.",
        (
            _EC2_LIST,
            _EC2_STOP,
            "aws ec2 modify-instance-attribute --instance-id ID --instance-type Value=m8i.xlarge",
            *_EC2_ON,
        ),
    ),
    "EC2 User Guide: Use nested virtualization; EC2 API: ModifyInstanceCpuOptions, DescribeInstanceTypes; "
    "hashicorp/terraform-provider-aws#46568; aws/containers-roadmap#2784",
    dmi=("Amazon EC2", ".amazon"),
    detected="amazon",
    log=("amazon ec2", ".compute.internal", ".ec2.internal", "@ip-10-", "@ip-172-", " ip-10-", " ip-172-", ".amazon "),
    kernel="aws",
    nesting=r"\A[cmr]8i[a-z]{0,3}(?:-flex)?\.(?!metal)",
    never=r"\A(?:[a-z]{1,4}\d{1,2}[ag][a-z]{0,3}|a1|t[12]|m[1-4]|c[134]|r[34]|i2|x1e?)\.(?!metal)",
    launch=("aws ec2 run-instances --instance-type m8i.xlarge --cpu-options NestedVirtualization=enabled …",),
)

_GCE_ON = (
    "gcloud compute instances export NAME --zone ZONE --destination NAME.yaml",
    "gcloud compute instances update-from-file NAME --zone ZONE --source NAME.yaml"
    " --most-disruptive-allowed-action RESTART",
)
GCE = Cloud(
    "Google Compute Engine",
    Nests.SWITCH,
    "Intel types (N1, N2, C2, C3 and others; Haswell or later) nest when that is switched on; E2, AMD, Arm and "
    "memory-optimized types never do, whatever the switch says.",
    Way(
        "For this machine (it restarts, its disks stay): export it, set advancedMachineFeatures."
        "enableNestedVirtualization: true in that file, update from it; an organization policy "
        "(compute.disableNestedVirtualization) may forbid it. GKE: a node pool with --enable-nested-virtualization.",
        _GCE_ON,
    ),
    Way(
        "If it is an E2, AMD or Arm type, change the type first: stop it, set-machine-type, start it.",
        (
            "gcloud compute instances stop NAME --zone ZONE",
            "gcloud compute instances set-machine-type NAME --zone ZONE --machine-type n2-standard-4",
            "gcloud compute instances start NAME --zone ZONE",
            *_GCE_ON,
        ),
    ),
    "Google Cloud documentation: Compute Engine, Nested virtualization (overview, enabling); pulumi/pulumi-gcp#715",
    dmi=("Google Compute Engine",),
    detected="google",
    log=("google compute engine", "metadata.google.internal", ".c.google.internal", " gke-"),
    kernel="gcp",
    launch=(
        'gcloud compute instances create NAME --enable-nested-virtualization --min-cpu-platform="Intel Haswell"'
        " --machine-type n2-standard-4",
    ),
)

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""The chassis asset tag of every Azure machine (cloud-init, DataSourceAzure.py)."""

AZURE = Cloud(
    "Azure",
    Nests.TYPE,
    "The size decides (Dv3, Ev3, Fsv2, M and later general-purpose sizes nest; A, B, Dv2 and Arm sizes do not), and so "
    "does the security type: Trusted Launch and confidential machines mostly may not nest.",
    Way(
        "Set the security type to Standard (its default is Trusted Launch), then start it again.",
        (
            "az vm show --resource-group GROUP --name NAME --query '[hardwareProfile.vmSize, securityProfile]'",
            "az vm deallocate --resource-group GROUP --name NAME",
            "az vm update --resource-group GROUP --name NAME --security-type Standard",
            "az vm start --resource-group GROUP --name NAME",
        ),
    ),
    Way(
        "If the size does not nest, resize it, too; the disks stay.",
        (
            "az vm show --resource-group GROUP --name NAME --query '[hardwareProfile.vmSize, securityProfile]'",
            "az vm deallocate --resource-group GROUP --name NAME",
            "az vm resize --resource-group GROUP --name NAME --size Standard_D4s_v5",
            "az vm update --resource-group GROUP --name NAME --security-type Standard",
            "az vm start --resource-group GROUP --name NAME",
        ),
    ),
    "Microsoft: Azure virtual machines, sizes; Trusted Launch FAQ; MicrosoftDocs/azure-docs#87947",
    dmi=(AZURE_TAG,),
    log=("cloudapp.azure.com", ".internal.cloudapp.net", AZURE_TAG),
    kernel="azure",
    launch=("az vm create --resource-group GROUP --name NAME --size Standard_D4s_v5 --security-type Standard …",),
)

DIGITALOCEAN = Cloud(
    "DigitalOcean",
    Nests.UNPROMISED,
    "Most droplets have vmx or svm; there is no switch, and nothing is promised.",
    Way("If /proc/cpuinfo has neither, make one of another plan or region (its snapshot moves), or ask the support."),
    Way("If /proc/cpuinfo has neither, make one of another plan or region (its snapshot moves), or ask the support."),
    "weaveworks/ignite#222 (cloud providers with KVM)",
    dmi=("DigitalOcean",),
    log=("digitalocean droplet", "digitalocean, "),
)


def _rents_metal(
    name: str,
    dmi: tuple[str, ...],
    metal: str,
    see: str,
    nests: Nests = Nests.NEVER,
    log: tuple[str, ...] = (),
    kernel: str = "",
) -> Cloud:
    """A provider without a switch, who also rents whole servers."""
    types = (
        f"{name} does not nest: none of its virtual machines has vmx or svm, and nothing in it or in a panel changes "
        "that."
        if nests is Nests.NEVER
        else f"{name} has no switch for nesting that a tenant could use, and promises nothing."
    )
    way = Way(f"Take {metal} instead, another provider, or run guests without KVM (`accel: tcg`, containers).")
    if nests is not Nests.NEVER:
        way = Way(f"Ask its support whether another plan has vmx or svm, or take {metal}.")
    return Cloud(name, nests, types, way, way, see, dmi=dmi, log=log, kernel=kernel)


HETZNER = _rents_metal(
    "Hetzner Cloud",
    ("Hetzner",),
    "a dedicated server (Hetzner Robot)",
    "hetzneronline/community-content#401; Hetzner: Cloud FAQ",
    log=("hetzner vserver",),
)
LINODE = _rents_metal(
    "Akamai (Linode)", ("Linode", "Akamai"), "a bare-metal server", "Akamai: Compute documentation", log=("linode ",)
)
ALIBABA = _rents_metal(
    "Alibaba Cloud ECS",
    ("Alibaba Cloud",),
    "an ECS Bare Metal type (ecs.ebm*)",
    "Alibaba Cloud documentation: ECS Bare Metal Instance",
    log=("alibaba cloud ecs",),
)
TENCENT = _rents_metal(
    "Tencent Cloud",
    ("Tencent Cloud",),
    "a Cloud Physical Machine",
    "Tencent Cloud: CVM FAQ",
    Nests.UNPROMISED,
    ("tencent cloud cvm",),
)
ORACLE = _rents_metal(
    "Oracle Cloud",
    ("OracleCloud.com",),
    "a bare-metal shape (BM.*)",
    "Oracle Cloud documentation: Compute shapes; cloud-init: DataSourceOracle.py",
    Nests.UNPROMISED,
    ("oraclecloud.com", ".oraclevcn.com"),
    "oracle",
)
VULTR = _rents_metal(
    "Vultr", ("Vultr",), "Vultr Bare Metal", "Vultr documentation; cloud-init: DataSourceVultr.py", Nests.UNPROMISED
)
SCALEWAY = _rents_metal(
    "Scaleway", ("Scaleway",), "an Elastic Metal server", "Scaleway documentation", Nests.UNPROMISED
)
EXOSCALE = _rents_metal("Exoscale", ("Exoscale",), "a dedicated hypervisor", "Exoscale documentation", Nests.UNPROMISED)
UPCLOUD = _rents_metal("UpCloud", ("UpCloud",), "a provider's bare-metal server", "UpCloud help", Nests.UNPROMISED)
IBM = _rents_metal(
    "IBM Cloud", ("IBM:Cloud", "ibmcloud"), "a Bare Metal Server for VPC", "IBM Cloud documentation", Nests.UNPROMISED
)
NETCUP = _rents_metal(
    "netcup", ("netcup",), "a server whose vmx or svm flag its support switches on", "netcup help", Nests.UNPROMISED
)

_OPENSTACK = Way(
    "If you are its tenant, ask the operator for a flavor or hosts with cpu_mode host-passthrough: nothing inside the "
    "instance helps. If you run it: set the CPU mode on the compute node, restart nova-compute, then stop and start "
    "the instance.",
    ("crudini --set /etc/nova/nova.conf libvirt cpu_mode host-passthrough", "systemctl restart nova-compute"),
)
OPENSTACK = Cloud(
    "OpenStack",
    Nests.OPERATOR,
    "Whoever runs its compute nodes decides: cpu_mode in nova.conf, and nested of the KVM module there.",
    _OPENSTACK,
    _OPENSTACK,
    "OpenStack Nova documentation: CPU models, Nested guest support",
    dmi=("OpenStack", "OpenTelekomCloud", "HUAWEICLOUD", "SAP CCloud VM", "Samsung Cloud Platform"),
    log=("openstack nova", "openstack compute", ".novalocal", "openstacklocal"),
)
_CLOUDSTACK = Way(
    "If you are its tenant, ask the operator. If you run it: put guest.cpu.mode=host-passthrough into "
    "/etc/cloudstack/agent/agent.properties of the KVM host, restart cloudstack-agent, then stop and start "
    "the machine.",
    ("systemctl restart cloudstack-agent",),
)
CLOUDSTACK = Cloud(
    "CloudStack",
    Nests.OPERATOR,
    "Whoever runs its hosts decides: guest.cpu.mode of the agent on a KVM host.",
    _CLOUDSTACK,
    _CLOUDSTACK,
    "apache/cloudstack#8596; CloudStack documentation: KVM installation",
    dmi=("CloudStack",),
    log=("cloudstack kvm hypervisor",),
)

CLOUDS: tuple[Cloud, ...] = (
    EC2, GCE, AZURE, DIGITALOCEAN, HETZNER, LINODE, ALIBABA, TENCENT, ORACLE, VULTR, SCALEWAY, EXOSCALE, UPCLOUD, IBM,
    NETCUP, OPENSTACK, CLOUDSTACK,
)  # fmt: skip
"""Those that are more specific first: several providers run OpenStack and say so, too."""


def by_dmi(values: Iterable[str], detected: str = "") -> Cloud | None:
    """The cloud that a machine is in, by its DMI strings and systemd-detect-virt; None if it is not known to be one."""
    told = [value for value in values if value]
    for cloud in CLOUDS:
        if any(word in value for word in cloud.dmi for value in told) or (detected and detected == cloud.detected):
            return cloud
    return None


def by_log(lowered: bytes) -> Cloud | None:
    """The cloud that a log was written in, if it shows that; the log in small letters."""
    for cloud in CLOUDS:
        if any(word.encode() in lowered for word in cloud.log):
            return cloud
    told = " \n".join(found[1].decode(errors="replace") for found in _DMI.finditer(lowered))
    for cloud in CLOUDS:
        if any(word.lower() in told for word in cloud.dmi):
            return cloud
    kernel = _KERNEL.search(lowered)
    return next((cloud for cloud in CLOUDS if kernel and cloud.kernel == kernel[1].decode()), None)


_DMI = re.compile(
    rb"(?:sys_vendor|(?:bios|board|chassis)_(?:vendor|version|asset_tag)|product_name|\bdmi:|dmidecode -s [\w-]{3,40}"
    rb"|(?:manufacturer|product name|hardware (?:vendor|model)|asset tag):)[ \t\r]{0,20}\n?([^\n]{1,160})"
)
"""Where a report shows strings of DMI: the line of the kernel, dmidecode, hostnamectl, lshw, /sys/class/dmi/id."""

_KERNEL = re.compile(rb"\d\.\d{1,3}\.\d{1,3}-\d{1,5}-(aws|gcp|azure|oracle)\b")
