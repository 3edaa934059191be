
card_of() {
  card=
  for path in "/sys/class/net/$2/brif/v${3##*/}n"*; do
    [ ! -e "$path" ] || { card=${path##*/}; return; }
  done
  for file in /proc/"$1"/fdinfo/*; do
    while read -r key value; do
      [ "$key" = iff: ] && [ "/sys/class/net/$value/master" -ef "/sys/class/net/$2" ] && card=$value
    done < "$file"
  done 2>/dev/null
}

PATH=${PATH:+$PATH:}/usr/sbin:/sbin

# aware BRIDGE: it tells VLANs apart, and the cards of this hypervisor on it carry all.
aware() {
  filter=/sys/class/net/$1/bridge/vlan_filtering
  read -r on < "$filter" || return 1
  [ "$on" = 0 ] || return 0
  for path in "/sys/class/net/$1/brif"/*; do
    port=${path##*/}
    [ ! -e "/sys/class/net/$port/device" ] || bridge vlan add dev "$port" vid 2-4094 || return 1
  done
  echo 1 > "$filter"
}

dir=$1; shift
read -r pid < "$dir/pid" || { echo "it does not run" >&2; exit 4; }

# found BRIDGE: waits until the machine has its port there.
found() {
  tries=0
  while card_of "$pid" "$1" "$dir"; [ -z "$card" ]; do
    [ -e "/proc/$pid/stat" ] || exit 0
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { echo "no card of it came to be on $1" >&2; return 1; }
    sleep 0.1
  done
}

while [ $# -ge 3 ]; do
  bridge=$1; kind=$2; mask=$3; shift 3
  [ "$kind" = any ] || aware "$bridge" || exit 5
  found "$bridge" || exit 5
  case $kind in
    any | bare) ;;
    trunk) bridge vlan add dev "$card" vid 2-4094 || exit 5 ;;
    *)
      bridge vlan add dev "$card" vid "$kind" pvid untagged && bridge vlan del dev "$card" vid 1 || exit 5
      ;;
  esac
  [ "$mask" = 0 ] || echo "$mask" > "/sys/class/net/$card/brport/group_fwd_mask" || exit 5
done

