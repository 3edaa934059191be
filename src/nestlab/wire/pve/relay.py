"""The script that carries a byte stream through a guest's agent, for a POSIX shell. Pure.

The agent has no streams: what it does can be asked often and is answered at once. So both directions are files in a
directory of root's alone, and everything that is asked may be asked again after a lost answer:

    i.N  what goes to the port: a line with the size of the file in SIZE digits, then the bytes; written by nestlab,
         in order of N, taken away once it is whole
    o.N  what comes from the port: base64, which is added to line by line; "." when it goes on in the next,
         "!STATUS" and what the connector said at the end
    s    how many i.N were taken
    a    "ACK BEAT": nestlab has read all o.N below ACK, and is still there

Not more than WINDOW o.N wait to be read. The relay ends, and its directory with it, on SIGTERM, and when `a` was not
written anew for LONELY seconds.
"""

from __future__ import annotations

SIZE = 8
WINDOW = 8
LONELY = 60
SEGMENT = 24 << 10
"""Bytes after which the next o.N is begun. What is polled is read again from its start, so not too many."""

START = r"""
umask 077
d=$(mktemp -d /run/nestlab-relay.XXXXXX 2>/dev/null || mktemp -d /tmp/nestlab-relay.XXXXXX) || exit
cat >"$d/relay" && mkfifo "$d/up" && : >"$d/o.0" && : >"$d/e" && echo 0 >"$d/s" && echo 0 0 >"$d/a" || exit
run=; command -v setsid >/dev/null && run=setsid
$run sh "$d/relay" "$d" "$1" </dev/null >/dev/null 2>&1 &
echo "$d"
"""
"""Starts a relay, whose text is on stdin, to the port $1 and tells its directory."""

STOP = r"""
n=0; while [ -d "$1" ] && [ ! -s "$1/pid" ] && [ $n -lt 30 ]; do sleep 0.1; n=$((n + 1)); done
[ -d "$1" ] || exit 0
kill "$(cat "$1/pid")"
n=0; while [ -d "$1" ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
[ ! -d "$1" ]
"""
"""Ends the relay of the directory $1 and waits for that."""

RELAY = rf"""
cd "$1" || exit
port=$2
clock() {{ read -r now rest </proc/uptime; now=${{now%.*}}; }}

# It has to end when the port does; OpenBSD's nc waits for both sides to.
connector() {{
    if command -v socat >/dev/null; then exec socat -t 1 - "TCP:127.0.0.1:$port,nodelay"; fi
    if busybox nc --help 2>&1 | grep -q 'Usage: nc'; then exec busybox nc 127.0.0.1 "$port"; fi
    if command -v python3 >/dev/null; then exec python3 -c "$PUMP" "$port"; fi
    if command -v bash >/dev/null; then exec bash -c "$BASH_PUMP" bash "$port"; fi
    echo "there is neither socat, busybox nc, python3 nor bash to reach a port with" >&2
    exit 127
}}
PUMP='
import os, select, socket, sys
there = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
waits = [0, there]
while there in waits:
    for each in select.select(waits, [], [])[0]:
        data = os.read(0, 65536) if each == 0 else there.recv(65536)
        if not data:
            waits.remove(each)
            if each == 0:
                there.shutdown(socket.SHUT_WR)
        elif each == 0:
            there.sendall(data)
        while each != 0 and data:
            data = data[os.write(1, data):]
'
BASH_PUMP='
exec 3<>"/dev/tcp/127.0.0.1/$1" 4<&0 || exit
cat <&3 & from=$!
cat <&4 >&3 & to=$!
trap "kill $from $to" TERM
wait $from
kill $to
'

from_port() {{
    n=0 size=0 ack=0
    while dd bs=65536 count=1 of=piece 2>/dev/null && [ -s piece ]; do
        base64 piece >>o.$n
        size=$((size + $(wc -c <piece)))
        [ $size -ge {SEGMENT} ] || continue
        : >o.$((n + 1))
        echo . >>o.$n
        n=$((n + 1)) size=0
        while :; do
            was=$ack
            read -r got beat <a && [ "$got" -gt "$ack" ] && ack=$got
            while [ $was -lt $ack ]; do rm -f o.$was; was=$((was + 1)); done
            [ $((n - ack)) -ge {WINDOW} ] || break
            [ -e a ] || exit
            sleep 0.05
        done
    done
    read -r status <x
    while read -r line; do said=" $line"; done <e
    echo "!$status$said" >>o.$n
}}

to_port() {{
    exec 9>up
    n=0 idle=0
    while :; do
        if [ -s i.$n ] && read -r size <i.$n && [ "$(wc -c <i.$n)" -eq "$size" ]; then
            mv i.$n in
            [ "$size" != 0000000{SIZE + 1} ] || break
            tail -n +2 in >&9 || break
            n=$((n + 1)) idle=0
            echo $n >s
        else
            idle=$((idle + 1))
            if [ $idle -lt 50 ]; then sleep 0.02; elif [ $idle -lt 150 ]; then sleep 0.1; else sleep 0.3; fi
        fi
    done
}}

{{ connector <up 2>e & echo $! >c; wait $!; echo $? >x; }} | from_port &
from=$!
to_port </dev/null &
to=$!
d=$1
leave() {{
    trap '' TERM
    rm -f a
    kill $to "$(cat c)" 2>/dev/null
    wait $from $to
    rm -rf "$d"
    exit 0
}}
trap leave TERM INT HUP
clock; heard=$now; was=
echo $$ >pid
while [ $((now - heard)) -lt {LONELY} ]; do
    sleep 1 &
    wait $!
    clock
    read -r got <a && [ "$got" != "$was" ] && was=$got heard=$now
done
leave
"""
"""The relay, in the directory $1 to the port $2."""


def framed(data: bytes) -> bytes:
    """The content of an i.N; without data it says that nothing more will come."""
    return f"{len(data) + SIZE + 1:0{SIZE}d}\n".encode() + data
