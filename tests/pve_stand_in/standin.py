"""What the stand-ins for Proxmox VE's programs share: corosync.conf, certificates, changes of the cluster. The order of
things, the words and the refusals are Proxmox's (PVE/Corosync.pm, PVE/Cluster/Setup.pm, PVE/API2/ClusterConfig.pm)."""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import time

BASE, AUTH = "/etc/pve", "/etc/corosync/authkey"
CONF, HOST_CONF = "/etc/pve/corosync.conf", "/etc/corosync/corosync.conf"
NODE = os.uname().nodename.partition(".")[0]


class Died(Exception):
    """What Perl's `die` is: the words, and the status of the program."""

    def __init__(self, text, status=255):
        super().__init__(text)
        self.text, self.status = text, status


def run(*words, check=True, **more):
    return subprocess.run(words, check=check, text=True, capture_output=True, **more)


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text, mode=0o600):
    descriptor = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.rename(path + ".tmp", path)


def own_address():
    rows = run("getent", "ahosts", NODE, check=False).stdout.splitlines()
    return next((row.split()[0] for row in rows if not re.match(r"127\.|::1 ", row)), "")


def quorate():
    try:
        return bool(os.lstat(f"{BASE}/local").st_mode & 0o200)
    except OSError:
        return False


def check_quorum():
    if not quorate():
        raise Died("cluster not ready - no quorum?\n")


@contextlib.contextmanager
def locked(name="/var/lock/pvecm.lock"):
    with open(name, "w") as file:
        for _ in range(100):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise Died(f"can't lock file '{name}' - got timeout\n")
        yield


def parse(text):
    words = re.sub(r"#[^\n]*", "", text).split()
    stack = [{}]
    while words:
        word = words.pop(0)
        if word == "}":
            stack.pop()
        elif words[:1] == ["{"]:
            words.pop(0)
            below = {}
            if word in ("node", "interface"):
                stack[-1].setdefault(word, []).append(below)
            else:
                stack[-1][word] = below
            stack.append(below)
        else:
            stack[-1][word.rstrip(":")] = words.pop(0)
    return stack[0]


def written(section, indent=""):
    out = ""
    for key in sorted(section):
        value = section[key]
        if isinstance(value, dict):
            out += f"{indent}{key} {{\n{written(value, indent + '  ')}{indent}}}\n" + "\n" * (not indent)
        elif isinstance(value, list):
            for each in sorted(value, key=lambda each: each.get("name", "")):
                out += f"{indent}{key} {{\n{written(each, indent + '  ')}{indent}}}\n"
        else:
            out += f"{indent}{key}: {value}\n"
    return out


def activate(conf):
    conf["totem"]["config_version"] = str(int(conf["totem"]["config_version"]) + 1)
    write(CONF + ".new", written(conf))
    os.rename(CONF + ".new", CONF)


def conf_exists():
    if not os.path.isfile(CONF):
        raise Died(f"Error: Corosync config '{CONF}' does not exist - is this node part of a cluster?\n", 2)


# What a node has.


def ssh_merge():
    keys = f"{BASE}/priv/authorized_keys"
    old = read(keys) if os.path.exists(keys) else ""
    own = read("/root/.ssh/id_rsa.pub").strip() if os.path.exists("/root/.ssh/id_rsa.pub") else ""
    write(keys, "".join(f"{line}\n" for line in dict.fromkeys([*old.splitlines(), own]) if line))
    if not os.path.islink("/root/.ssh/authorized_keys"):
        os.makedirs("/root/.ssh", mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("/root/.ssh/authorized_keys")
        os.symlink(keys, "/root/.ssh/authorized_keys")


def node_files(force=False):
    os.makedirs(f"{BASE}/priv", exist_ok=True)
    for folder in ("lxc", "qemu-server", "openvz", "priv"):
        os.makedirs(f"{BASE}/nodes/{NODE}/{folder}", exist_ok=True)
    key, public = f"{BASE}/priv/authkey.key", f"{BASE}/authkey.pub"
    if not os.path.exists(key):
        run("openssl", "genrsa", "-out", key, "2048")
        run("openssl", "rsa", "-in", key, "-pubout", "-out", public)
    authority, secret = f"{BASE}/pve-root-ca.pem", f"{BASE}/priv/pve-root-ca.key"
    if not os.path.exists(secret):
        run("openssl", "genrsa", "-out", secret, "2048")
    if not os.path.exists(authority):
        uuid = read("/proc/sys/kernel/random/uuid").strip()
        subject = f"/CN=Proxmox Virtual Environment/OU={uuid}/O=PVE Cluster Manager CA/"
        run(*f"openssl req -batch -days 3650 -new -x509 -key {secret} -out {authority} -subj".split(), subject)
        force = True
    mine, certificate = f"{BASE}/nodes/{NODE}/pve-ssl.key", f"{BASE}/nodes/{NODE}/pve-ssl.pem"
    if not os.path.exists(mine):
        run("openssl", "genrsa", "-out", mine, "2048")
    if force or not os.path.exists(certificate):
        request = "/run/pvecertreq.tmp"
        names = f"subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost,IP:{own_address()},DNS:{NODE}"
        subject = f"/OU=PVE Cluster Node/O=Proxmox Virtual Environment/CN={NODE}"
        run("openssl", "req", "-batch", "-new", "-key", mine, "-out", request, "-subj", subject, "-addext", names)
        words = f"openssl x509 -req -in {request} -days 730 -CA {authority} -CAkey {secret} -copy_extensions copyall"
        run(*words.split(), "-out", certificate)


def updatecerts(force=False, silent=False):
    def say(text):
        print(text, flush=True) if not silent else None

    if not quorate():
        raise Died("no quorum - unable to update files\n")
    say("(re)generate node files")
    if force:
        say("generate new node certificate")
    node_files(force)
    say("merge authorized SSH keys")
    ssh_merge()
    kind, key = read("/etc/ssh/ssh_host_rsa_key.pub").split()[:2]
    write(f"{BASE}/nodes/{NODE}/ssh_known_hosts", f"{NODE} {kind} {key}")


# Changes of the cluster.


def add_node(name, links, force=False, address=""):
    check_quorum()
    conf = parse(read(CONF))
    nodes = conf["nodelist"]["node"]
    for number, link in links.items():
        for node in nodes:
            for ring, used in node.items():
                if node["name"] != name and re.fullmatch(r"ring\d_addr", ring) and used == link:
                    raise Died(f"corosync: address '{link}' already used on link {ring} by node '{node['name']}'\n")
    there = {int(key[4]): value for key, value in nodes[0].items() if re.fullmatch(r"ring\d_addr", key)}
    if links:
        for number in range(8):
            if number in there and number not in links:
                raise Died(f"corosync: link {number} exists in cluster config but wasn't specified for new node\n")
            if number in links and number not in there:
                raise Died(f"corosync: link {number} specified for new node doesn't exist in cluster config\n")
    elif len(there) == 1 and address:
        links = {next(iter(there)): address}
    else:
        raise Died("no links given but multiple links found on other nodes, fallback only supported on single-link")
    old = next((node for node in nodes if node["name"] == name), None)
    if old is not None and not force:
        raise Died(f"can't add existing node '{name}'\n")
    taken = {int(node["nodeid"]) for node in nodes}
    number = int(old["nodeid"]) if old else next(each for each in range(1, 99) if each not in taken)
    os.makedirs(f"{BASE}/nodes/{name}", exist_ok=True)
    new = {"name": name, "nodeid": str(number), "quorum_votes": "1"}
    new |= {f"ring{each}_addr": link for each, link in links.items()}
    conf["nodelist"]["node"] = [node for node in nodes if node["name"] != name] + [new]
    activate(conf)
    return {"corosync_authkey": open(AUTH, "rb").read().hex(), "corosync_conf": read(CONF), "warnings": []}


def delete_node(name):
    if name == NODE:
        raise Died("Cannot delete myself from cluster!\n")
    conf = parse(read(CONF)) if os.path.exists(CONF) else {"nodelist": {"node": []}}
    nodes = conf["nodelist"]["node"]
    if os.path.exists(CONF):
        check_quorum()
    gone = next((node for node in nodes if name in (node["name"], node.get("ring0_addr"), node.get("ring1_addr"))), None)
    if gone is None:
        raise Died(f"Node/IP: {name} is not a known host of the cluster.\n", 255 if nodes else 2)
    killed = run("corosync-cfgtool", "-k", gone["nodeid"], check=False)
    sys.stderr.write(killed.stderr)
    print(f"Killing node {gone['nodeid']}", flush=True)
    conf["nodelist"]["node"] = [node for node in nodes if node is not gone]
    activate(conf)
