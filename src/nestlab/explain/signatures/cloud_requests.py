"""What clouds answer when a machine is asked to nest, and the tools that ask them."""

from __future__ import annotations

from nestlab.explain.clouds import AZURE, EC2, GCE
from nestlab.explain.signatures.signature import Rank, Signature

TABLE: tuple[Signature, ...] = (
    Signature(
        "ec2-type-does-not-nest",
        r"(?<!enable)NestedVirtuali[sz]ation.{0,80}(?:not supported|is not valid|unsupported)"
        r"|instance type '?[\w.-]{3,30}'? does not support nested"
        r"|nested virtuali[sz]ation (?:CPU )?(?:option )?is(?:n't| not) supported (?:for|on"
        r"|by|with) (?:this |the )?instance type|CPU option.{0,40}nested.{0,40}not supported",
        "That instance type of EC2 does not nest. Intel types of the 8th generation do (C8i, M8i, R8i and their kin), "
        "and bare metal; AMD and Graviton types do not.",
        "List them: `aws ec2 describe-instance-types --filters "
        "Name=processor-info.supported-features,Values=nested-virtualization --query 'InstanceTypes[].InstanceType'`.",
        EC2.see,
        "An error occurred (InvalidParameterCombination): NestedVirtualization is not supported for this instance type",
        Rank.CAUSE,
    ),
    Signature(
        "ec2-instance-not-stopped",
        r"IncorrectInstanceState.{0,120}stopped|instance.{0,60}is not in the 'stopped' state",
        "EC2 changes the CPU options of an instance, nesting among them, only while it is stopped.",
        "`aws ec2 stop-instances --instance-ids ID && aws ec2 wait instance-stopped --instance-ids ID`, then `aws ec2 "
        "modify-instance-cpu-options --instance-id ID --nested-virtualization enabled`, then start it.",
        EC2.see,
        "An error occurred (IncorrectInstanceState): The instance 'i-0abc' is not in the 'stopped' state.",
        Rank.CAUSE,
    ),
    Signature(
        "ec2-tool-too-old",
        r"Unknown options: .{0,80}--nested-virtualization|Unknown parameter in CpuOptions.{0,40}NestedVirtualization"
        r"|argument named \"nested_virtualization\" is not expected",
        "The tool is older than EC2's option for nesting (February 2026).",
        "Update it: AWS CLI 2 of 2026 or newer; Terraform's AWS provider 6.x (5.x has no nested_virtualization).",
        "hashicorp/terraform-provider-aws#46533, #47181; AWS CLI: ec2 modify-instance-cpu-options",
        'Unknown parameter in CpuOptions: "NestedVirtualization", must be one of: CoreCount, ThreadsPerCore, AmdSevSnp',
        Rank.CAUSE,
    ),
    Signature(
        "gce-type-does-not-nest",
        r"enableNestedVirtuali[sz]ation.{0,160}(?:not supported|invalid|not compatible)"
        r"|Nested virtuali[sz]ation is not supported (?:on|for|with) (?:the )?machine (?:type|family|series)"
        r"|machine type '?[\w-]{3,30}'? (?:does not|doesn't|cannot) support nested",
        "That machine type of Compute Engine does not nest: E2, AMD, Arm and memory-optimized types never do.",
        "Take an Intel type: stop it, `gcloud compute instances set-machine-type NAME --machine-type n2-standard-4`, "
        "then switch enableNestedVirtualization on.",
        GCE.see,
        "Nested virtualization is not supported on machine type e2-standard-4",
        Rank.CAUSE,
    ),
    Signature(
        "gce-tool-too-old",
        r"unrecognized arguments: .{0,80}--enable-nested-virtuali[sz]ation",
        "This gcloud is older than its option for nesting.",
        "`gcloud components update` (or the package google-cloud-cli), then again; without it by a file: "
        "`gcloud compute instances export`, advancedMachineFeatures.enableNestedVirtualization: true, `… "
        "update-from-file`.",
        GCE.see,
        "ERROR: (gcloud.compute.instances.create) unrecognized arguments: --enable-nested-virtualization",
        Rank.CAUSE,
    ),
    Signature(
        "gce-policy-forbids-nesting",
        r"compute\.disableNestedVirtualization",
        "A policy of the organization forbids nesting in this Google Cloud project.",
        "Who administers it lifts it: `gcloud resource-manager org-policies disable-enforce "
        "compute.disableNestedVirtualization --project PROJECT`.",
        GCE.see,
        "Constraint constraints/compute.disableNestedVirtualization violated for projects/lab.",
        Rank.CAUSE,
    ),
    Signature(
        "azure-security-type",
        r"securityProfile\.securityType.{0,40}(?:is )?invalid|UseStandardSecurityType",
        "Azure refuses the security type Standard, which nesting needs on many sizes, until the subscription has it "
        "registered.",
        "`az feature register --namespace Microsoft.Compute --name UseStandardSecurityType`, wait until `az feature "
        "show` says Registered, then again.",
        AZURE.see,
        "The value 'Standard' of parameter 'securityProfile.securityType' is invalid.",
        Rank.CAUSE,
    ),
)
