
exec 2>/dev/null
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
read -r mark </proc/sys/kernel/random/uuid || mark=nestlab-$$-$PPID
read -r release </proc/sys/kernel/osrelease
printf 'nestlab facts %s\n' "$mark"
part() { printf '\n%s %s\n' "$mark" "$1"; }
has() { command -v "$1" >/dev/null; }
# For what may hang: another process's memory, a network's file system, rpm's lock, programs.
bound= long=
timeout 9 true && bound='timeout 9' long='timeout 30'

part read
grep -s '' /dev/null /proc/meminfo /proc/sys/kernel/osrelease /etc/os-release /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_name /sys/hypervisor/type /run/systemd/container /run/host/container-manager /sys/devices/system/clocksource/clocksource0/available_clocksource /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_name /sys/class/dmi/id/product_version /sys/class/dmi/id/product_family /sys/class/dmi/id/board_vendor /sys/class/dmi/id/board_name /sys/class/dmi/id/bios_vendor /sys/class/dmi/id/bios_version /sys/class/dmi/id/chassis_asset_tag /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/unified/cgroup.controllers /proc/cgroups /sys/module/kvm*/parameters/* /proc/cmdline /proc/sys/kernel/version /proc/sys/kernel/random/boot_id /sys/kernel/security/lockdown /sys/kernel/mm/ksm/run /sys/kernel/mm/hugepages/hugepages-*/nr_hugepages
part marks
for f in /.dockerenv /run/.containerenv /proc/vz /proc/bc /dev/vhost-net /dev/net/tun; do [ -e "$f" ] && echo "$f"; done
part id
id
part modules
scan=
for m in kvm kvm_intel kvm_amd kvm_pvm kvm_hv kvm_pr msr vboxdrv vmmon mshv mshv_root mshv_vtl acrn xen_privcmd xen_evtchn xen_gntdev; do
  d=/sys/module/$m
  [ -d $d ] || continue
  count=- how=builtin users=
  read -r count <$d/refcnt
  [ -e $d/initstate ] && how=loaded
  for h in $d/holders/*; do [ -e "$h" ] && users="$users ${h##*/}"; done
  echo "$m $how $count$users"
  case $m/$count in kvm/*) ;; kvm_*/0) scan=${scan:-0} ;; kvm_*) scan=1 ;; esac
done
[ -e /dev/kvm ] && scan=${scan:-1}
if [ "$scan" = 1 ]; then
  echo scanned
  if find /dev/null -lname x; then
    found=$(find /proc/[0-9]*/fd -lname anon_inode:kvm-vm -o -lname /dev/kvm)
  else
    found=$(ls -ln /proc/[0-9]*/fd |
      sed -n -E -e '/^\/proc/h' -e '/-> (anon_inode:kvm-vm|\/dev\/kvm)$/{' -e g -e p -e '}')
  fi
  last=
  for f in $found; do
    f=${f#/proc/} f=${f%%/*}
    [ "$f" = "$last" ] && continue
    last=$f command=
    read -r command </proc/$f/comm
    part "holder $f"
    printf '%s\n' "$command"
    $bound cat /proc/$f/cmdline
  done
fi

rest() {
part device
ls -lLd /dev/kvm
part available
[ -d "/lib/modules/$release" ] || echo none
grep -soE '^[^:]*/(kvm|kvm[-_]intel|kvm[-_]amd|kvm[-_]pvm|kvm[-_]hv|kvm[-_]pr|msr|vboxdrv|vmmon|mshv|mshv[-_]root|mshv[-_]vtl|acrn|xen[-_]privcmd|xen[-_]evtchn|xen[-_]gntdev)\.ko' \
  /lib/modules/$release/modules.dep /lib/modules/$release/modules.builtin
part tools
for t in modprobe update-grub grub2-mkconfig grub-mkconfig grubby proxmox-boot-tool kernelstub update-initramfs dracut mkinitcpio systemctl python3 qm virsh sudo; do has $t && echo $t; done
part disk
if [ -d /var/lib ]; then $bound df -Pk / /var/lib; else $bound df -Pk /; fi
part iommu
[ -d /sys/kernel/iommu_groups ] && set -- /sys/kernel/iommu_groups/* && [ -e "$1" -o "$#" = 1 ] && echo $# "$1"
part mounts
grep -sE '^[^ ]+ (/|/etc|/etc/modprobe\.d) ' /proc/self/mounts
d=/etc/modprobe.d
[ -d $d ] || d=/etc
[ -w $d ] && echo writable
part container
[ -r /proc/1/environ ] && tr '\0' '\n' </proc/1/environ | grep '^container='
part messages
if has dmesg; then
  { dmesg 2>&1 || echo 'dmesg: failed'; } | grep -iE '^dmesg: |kvm(_[a-z]+|-pvm| \[[0-9]+\])?:|vmx|svm|[^a-z]sev[^a-z]|tdx|vt-x|by (bios|firmware)|memory encryption|locked down|invalid for parameter|vboxdrv|vmmon' |
    sed -e '1,20b' -e ':a' -e '$q;N;41,$D;ba'
else
  echo 'dmesg: there is no such command'
fi
part msr
m=/dev/cpu/0/msr
if [ ! -e $m ]; then echo 'no module msr'
elif (: <$m); then
  for n in 58 3221291284; do
    echo $n $($bound dd if=$m bs=8 count=1 iflag=skip_bytes skip=$n | od -An -v -tx1)
  done
else echo 'permission denied'
fi
configuration
packages
}

show() { part "file $1"; [ ! -f "$1" ] || cat "$1"; }
configuration() {
  set --
  dirs=
  part denied
  for d in /etc/modprobe.d /run/modprobe.d /usr/local/lib/modprobe.d /usr/lib/modprobe.d /lib/modprobe.d; do
    [ -d $d ] || continue
    case $d in /lib/*) [ -L /lib -o -L $d ] && continue ;; esac
    if [ -r $d -a -x $d ]; then dirs="$dirs $d"; else echo $d; continue; fi
    for f in $d/*.conf; do
      [ -f "$f" ] || continue
      if [ -r "$f" ]; then set -- "$@" "$f"; else echo "$f"; fi
    done
  done
  for f in /etc/default/grub /etc/default/grub.d/*.cfg /etc/kernel/cmdline /etc/kernel/proxmox-boot-uuids /var/lib/nestlab/doctor/record.json; do [ -e "$f" -a ! -r "$f" ] && echo "$f"; done
  for d in /var/lib/nestlab/doctor /etc/kernel /etc/default; do [ -d $d -a ! -x $d ] && echo $d; done
  # A file hides those of its name in later directories, also if it is empty or /dev/null.
  grep -ls kvm /dev/null "$@" | while IFS= read -r f; do
    for d in $dirs; do [ -e "$d/${f##*/}" ] && show "$d/${f##*/}"; done
  done
  for f in /etc/default/grub /etc/default/grub.d/*.cfg /etc/kernel/cmdline /etc/kernel/proxmox-boot-uuids /var/lib/nestlab/doctor/record.json; do [ -r "$f" ] && show "$f"; done
}

# Of a changelog: the package, the CVEs that count, the first other one, and CVE-0-0 if it was read to its end.
cves() {
  grep -oE '^is [^ ]+ [^ ]+$|CVE-[0-9]+-[0-9]+' |
    sed -n -E -e '/^(is .*|CVE-0-0|CVE-2026-53359|CVE-2026-46113|CVE-2026-64561)$/{p;d;}' -e 'x;/./{x;d;};x;h;p'
}
packages() {
  r=$release known=
  part packages
  if has dpkg-query; then
    known=$(dpkg-query -W -f='${db:Status-Status} ${Package} ${Version}\n' \
      linux-image-$r linux-image-unsigned-$r linux-image-uc-$r proxmox-kernel-$r-signed proxmox-kernel-$r \
      pve-kernel-$r pve-manager pve-qemu-kvm qemu-system-x86 \
      libvirt-daemon libvirt-clients)
    printf '%s\n' "$known"
    part changelog
    for p in linux-modules-$r linux-image-unsigned-$r linux-image-$r \
      proxmox-kernel-$r-signed proxmox-kernel-$r pve-kernel-$r; do
      for f in changelog.Debian.gz changelog.gz; do
        f=/usr/share/doc/$p/$f
        [ -r $f ] && { gzip -dc $f && echo CVE-0-0; } | cves && break 2
      done
    done
  elif has rpm; then
    known=$($bound rpm -q --qf 'installed %{NAME} %{VERSION}\n' \
      qemu-kvm-core qemu-system-x86-core qemu-x86 libvirt-daemon libvirt-client | grep '^installed ')
    printf '%s\n' "$known"
    part changelog
    for f in /lib/modules/$r/vmlinuz /boot/vmlinuz-$r; do
      [ -e $f ] || continue
      { $bound rpm -q --qf 'is %{NAME} %{VERSION}-%{RELEASE}\n[%{CHANGELOGTEXT}\n]' -f $f && echo CVE-0-0; } |
        cves && break
    done
  else
    echo none
  fi
  case $known in
  *'installed qemu-'* | *'installed pve-qemu'*) ;;
  *) for q in qemu-system-x86_64 kvm /usr/libexec/qemu-kvm; do
      has $q && { part qemu; $bound $q --version; break; }
    done ;;
  esac
  case $known in
  *'installed libvirt-'*) ;;
  *) for q in libvirtd virsh; do has $q && { part libvirt; $bound $q --version; break; }; done ;;
  esac
}

# The system's own first: one on the PATH may be a version manager's, which takes its time.
python=python3
case :$PATH: in *:/usr/bin:*) [ -x /usr/bin/python3 ] && python=/usr/bin/python3 ;; esac
if has $python; then $long $python -ISE - 2>&1; fi | {
  rest </dev/null
  part probe
  said=$(cat)
  printf '%s\n' "$said"
  case $said in *'{"arch": '*) ;; *)
    part cpu
    sed '/^$/q' /proc/cpuinfo
    part read
    grep -s '' /dev/null /proc/net/route /proc/net/ipv6_route /sys/devices/system/cpu/online
    part arch
    uname -m
    part clock
    date +%s
    part kvm
    if [ -e /dev/kvm ]; then (: <>/dev/kvm) 2>&1 && echo opened; else echo '/dev/kvm: No such file or directory'; fi
  esac
  part end
}
