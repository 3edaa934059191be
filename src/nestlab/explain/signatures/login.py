"""What ssh says when nobody gets in."""

from __future__ import annotations

from nestlab.explain.signatures.signature import Rank, Signature

TABLE: tuple[Signature, ...] = (
    Signature(
        "host-key-changed",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Offending \w+ key in (?P<file>[\w./~-]+):\d+",
        "The machine at that address shows another host key than before: it was installed anew, has taken over an "
        "address, or somebody is in between.",
        "If you know that it is a new machine, forget the old key: `ssh-keygen -R HOST`. `nestlab ssh` keeps the keys "
        "of lab machines by itself.",
        "ssh(1) (Verifying host keys), ssh-keygen(1)",
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
        Rank.CAUSE,
    ),
    Signature(
        "host-key-verification",
        r"Host key verification failed|No (?:ED25519|ECDSA|RSA) host key is known for",
        "ssh does not know this machine's host key, or knows another one, and nobody was there to ask.",
        "Compare the key and accept it once: `ssh HOST`. Only in a lab: `ssh-keyscan HOST >> ~/.ssh/known_hosts`.",
        "ssh(1), ssh-keyscan(1)",
        "Host key verification failed.",
    ),
    Signature(
        "key-refused",
        r"Permission denied \(publickey[\w,-]*\)",
        "The machine takes none of the ssh keys it was shown, or not for this user.",
        "Bring it one: `ssh-copy-id USER@HOST`; see which are offered: `ssh -v USER@HOST`. Machines of a lab: "
        "`nestlab ssh MACHINE`.",
        "ssh(1), sshd(8) (AUTHORIZED_KEYS FILE FORMAT)",
        "root@10.0.0.11: Permission denied (publickey,password).",
        Rank.CAUSE,
    ),
    Signature(
        "too-many-keys",
        r"Too many authentication failures",
        "The agent offers more keys than the machine lets try, before the right one.",
        "Name the right one: `ssh -o IdentitiesOnly=yes -i KEY USER@HOST`, or so in ~/.ssh/config.",
        "ssh_config(5) (IdentitiesOnly), sshd_config(5) (MaxAuthTries)",
        "Received disconnect from 10.0.0.11 port 22:2: Too many authentication failures",
        Rank.CAUSE,
    ),
    Signature(
        "key-file-open",
        r"UNPROTECTED PRIVATE KEY FILE|Permissions \d+ for '[^']{1,200}' are too open",
        "ssh does not use a private key that others can read.",
        "`chmod 600 KEY`.",
        "ssh(1) (FILES)",
        "@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @",
        Rank.CAUSE,
    ),
    Signature(
        "key-exchange",
        r"no matching (?P<what>host key type|key exchange method|cipher|MAC) found",
        "The two sides of ssh have no {what} in common: one of them is much older.",
        "Update the older one; for a lab only, allow what it offers: `ssh -o HostKeyAlgorithms=+ssh-rsa HOST`.",
        "ssh_config(5); OpenSSH: Legacy Options",
        "Unable to negotiate with 10.0.0.9 port 22: no matching host key type found. Their offer: ssh-rsa",
        Rank.CAUSE,
    ),
    Signature(
        "ssh-closed",
        r"kex_exchange_identification:|Connection closed by remote host|Connection reset by \S{1,60} port \d",
        "The other side closed the connection before the login: sshd is still starting, overloaded (MaxStartups), or "
        "the port is forwarded to a machine that does not listen yet.",
        "Wait and try again; if it stays so, look at the machine's console and at `journalctl -u ssh` there.",
        "sshd_config(5) (MaxStartups)",
        "kex_exchange_identification: Connection closed by remote host",
        Rank.GENERAL,
    ),
    Signature(
        "forwarding-prohibited",
        r"open failed: administratively prohibited",
        "The jump host does not let ssh forward connections.",
        "Set AllowTcpForwarding yes in its sshd_config, and reload sshd.",
        "sshd_config(5) (AllowTcpForwarding)",
        "channel 0: open failed: administratively prohibited: open failed",
        Rank.CAUSE,
    ),
    Signature(
        "name-not-resolved",
        r"Could not resolve hostname|Name or service not known",
        "A host name is not known here.",
        "Check its spelling and `getent hosts NAME`; the inside of a lab needs its own DNS or /etc/hosts.",
        "getent(1), resolv.conf(5), nsswitch.conf(5)",
        "ssh: Could not resolve hostname pve1: Name or service not known",
        Rank.GENERAL,
    ),
    Signature(
        "connection-refused",
        r"Connection refused",
        "A machine answers, but nothing listens on that port: the service is not running, still starting, or "
        "elsewhere.",
        "See on that machine: `ss -ltnp`, `systemctl status SERVICE`; and that address and port are right.",
        "connect(2) (ECONNREFUSED)",
        "ssh: connect to host 10.0.0.11 port 22: Connection refused",
        Rank.GENERAL,
    ),
    Signature(
        "connection-timeout",
        r"Connection timed out|Operation timed out",
        "Nobody answers at that address: the machine is off or still boots, or a firewall or missing route drops it.",
        "Try each level from the outside in: `ping`, `ip route get ADDRESS`, then the firewall (`nft list ruleset`).",
        "connect(2) (ETIMEDOUT)",
        "ssh: connect to host 10.0.0.12 port 22: Connection timed out",
        Rank.GENERAL,
    ),
    Signature(
        "no-route",
        r"No route to host|Network is unreachable",
        "There is no way to that address from here: no route, or no machine that answers for it in its network.",
        "`ip route get ADDRESS` shows the way taken; `ip neigh` whether the machine answers ARP.",
        "connect(2) (EHOSTUNREACH, ENETUNREACH); ip-route(8)",
        "ssh: connect to host 192.168.50.4 port 22: No route to host",
        Rank.GENERAL,
    ),
)
