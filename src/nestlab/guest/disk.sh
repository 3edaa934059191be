
drive root || fail "no drive has the serial root"
mount -t ext4 -o noatime "$found" /root || fail "$found holds no ext4 filesystem that can be mounted"
# Programs and their libraries are read cold: fewer, longer requests.
echo 1024 >"/sys/class/block/${found##*/}/queue/read_ahead_kb"
[ -x /root/sbin/init ] || fail "$found has no /sbin/init"

# The identity is applied on every boot, so that a copy of this disk under another identity is another machine.
if [ -e /run/nestlab/ssh_host_ed25519_key ]; then
    cd /run/nestlab
    cp hostname hosts /root/etc/
    [ ! -e resolv.conf ] || cp resolv.conf /root/etc/
    sum=$(sha256sum ssh_host_ed25519_key)
    echo "${sum%"${sum#????????????????????????????????}"}" >/root/etc/machine-id
    cd /
fi

# Blocks of 4 KiB in the filesystem (s_blocks_count of its superblock) against sectors of its drive: a larger drive is
# grown into once the machine is up.
blocks=$(od -An -tu4 -j1028 -N4 "$found")
read -r sectors <"/sys/class/block/${found##*/}/size"
[ "$((blocks * 8))" -ge "$sectors" ] || : >/run/nestlab/grow

# A hypervisor: the vendor's KVM module, for systemd-modules-load (the other one would only fail), and the devices whose
# modules the kernel loads when somebody opens them.
if [ -e /root/etc/nestlab/hypervisor ]; then
    mkdir -p /run/modules-load.d /dev/net
    mknod -m 0666 /dev/net/tun c 10 200
    mknod -m 0660 /dev/vhost-net c 10 238
    while read -r key words; do
        [ "$key" = flags ] || continue
        case " $words " in
        *" svm "*) echo kvm_amd ;;
        *" vmx "*) echo kvm_intel ;;
        esac
        break
    done </proc/cpuinfo >/run/modules-load.d/nestlab-vendor.conf
fi

# Where no card leads to the machine's host, the agent is the way in: it is not left for later.
if [ -e /run/nestlab/agent ]; then
    mkdir -p /run/systemd/system/sysinit.target.wants
    ln -s /etc/systemd/system/qemu-guest-agent.service /run/systemd/system/sysinit.target.wants/
fi

# What udev would do: the name by which qemu-ga knows its port.
for file in /sys/class/virtio-ports/*/name; do
    [ -e "$file" ] || continue
    IFS= read -r name <"$file" && port=${file%/name} && mkdir -p /dev/virtio-ports &&
        ln -s "../${port##*/}" "/dev/virtio-ports/$name"
done

# On a terminal that is not dumb, systemd asks the console for its size and waits for the answer.
export TERM=dumb
for place in dev sys run proc; do
    /bin/busybox mount -o move /$place /root/$place
done
exec /bin/busybox switch_root /root /sbin/init
