# Runs a program in a directory as if nothing else of the host were there:
# perl -e TEXT ROOT CLEAN KEPT PROGRAM WORD...
#
# Runs as root, or as the root of a user namespace (x86-64). The program has ROOT as its root file system and no way out
# of it: mounts, processes, System V objects, names, network and session keys of its own; of descriptors only stdin
# (/dev/null), stdout, stderr and those in KEPT (numbers with commas between); a few capabilities, none of which acts
# outside, and never more; an environment of four words. CLEAN: a directory in ROOT that shows ROOT without what is
# mounted in it, or "". When it ends, all that it started ends. Exits with its status, 128 and the number of a signal
# that ended it, or 125 where it could not be confined.
use strict;
use warnings;
use POSIX ();

# Numbers of the x86-64 ABI, and of linux/{sched,mount,prctl,keyctl,capability}.h.
my %call = (unshare => 272, mount => 165, umount => 166, pivot => 155, prctl => 157, keyctl => 250);
my ($new_mounts, $new_names, $new_ipc, $new_pids, $new_net) = (1 << 17, 1 << 26, 1 << 27, 1 << 29, 1 << 30);
my ($read_only, $nosuid, $nodev, $noexec, $remount, $bind) = (1, 2, 4, 8, 1 << 5, 1 << 12);
my ($recursive, $private, $detach) = (1 << 14, 1 << 18, 2);
my ($die_with_parent, $drop_capability, $no_new_privileges) = (1, 24, 38);
my $last_capability = 63;
# chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service, sys_chroot, audit_write, setfcap
my %allowed = map { $_ => 1 } 0, 1, 3, 4, 5, 6, 7, 10, 18, 29, 31;

my ($root, $clean, $kept, @program) = @ARGV;
my %kept = map { $_ => 1 } 0, 1, 2, split /,/, $kept;

sub refuse { print STDERR "nestlab: cannot confine: $_[0]: $!\n"; POSIX::_exit(125) }

sub attach {
    my ($what, $where, $kind, $flags, $options) = @_;
    syscall($call{mount}, $what, $where, $kind, $flags + 0, $options) == 0 or refuse("mount on $where");
}

# What a build left may be a link to anywhere.
sub folder {
    my $name = shift;
    mkdir $name, 0755 unless -l $name || -e _;
    -d $name && !-l $name or refuse("$name in the image is no directory");
}

$SIG{TERM} = 'DEFAULT';
syscall($call{unshare}, $new_mounts | $new_names | $new_ipc | $new_pids | $new_net) == 0 or refuse('unshare');
syscall($call{keyctl}, 1, 0);    # a session keyring of its own; where there are none, none is needed
attach('none', '/', '', $recursive | $private, '');
attach($root, $root, '', $bind, '');
chdir $root or refuse($root);

my $child = fork // refuse('fork');
if ($child) {
    waitpid $child, 0;
    POSIX::_exit($? & 127 ? 128 + ($? & 127) : $? >> 8);
}

# The first process of the namespace: all others end with it.
syscall($call{prctl}, $die_with_parent, 9, 0, 0, 0);
if ($clean ne '') { folder($clean); attach($root, $clean, '', $bind, '') }
folder($_) for 'proc', 'sys', 'dev';
attach('proc', 'proc', 'proc', $nosuid | $nodev | $noexec, '');
for my $settings ('proc/sys', 'proc/sysrq-trigger') {
    next unless -e $settings;
    attach($settings, $settings, '', $bind, '');
    attach('none', $settings, '', $bind | $remount | $read_only | $nosuid | $nodev | $noexec, '');
}
attach('none', 'sys', 'tmpfs', $nosuid | $nodev | $noexec, 'mode=755,size=4k');
attach('none', 'dev', 'tmpfs', $nosuid | $noexec, 'mode=755,size=64k');
for my $name ('null', 'zero', 'full', 'random', 'urandom') {
    open my $file, '>', "dev/$name" or refuse("dev/$name");
    attach("/dev/$name", "dev/$name", '', $bind, '');
}
mkdir 'dev/shm', 01777;
symlink '/proc/self/fd', 'dev/fd';
symlink "/proc/self/fd/$_->[0]", "dev/$_->[1]" for [0, 'stdin'], [1, 'stdout'], [2, 'stderr'];

# pivot_root(2): the old root is stacked on the new one, and "." is the way to it.
my $here = '.';
my $there = '.';
syscall($call{pivot}, $here, $there) == 0 or refuse('pivot_root');
syscall($call{umount}, $there, $detach) == 0 or refuse('umount');
chdir '/' or refuse('/');

open STDIN, '<', '/dev/null' or refuse('/dev/null');
opendir my $open, '/proc/self/fd' or refuse('/proc/self/fd');
my @open = grep { /^\d+$/ && !$kept{$_} } readdir $open;
closedir $open;
POSIX::close($_) for @open;
for my $capability (0 .. $last_capability) {
    next if $allowed{$capability};
    # Those that this kernel does not have cannot be dropped.
    syscall($call{prctl}, $drop_capability, $capability, 0, 0, 0) == 0 || $!{EINVAL} or refuse('drop capabilities');
}
syscall($call{prctl}, $no_new_privileges, 1, 0, 0, 0) == 0 or refuse('no_new_privs');
POSIX::setsid();
umask 022;
%ENV = (PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME => '/root', LC_ALL => 'C.UTF-8');
$ENV{DEBIAN_FRONTEND} = 'noninteractive';
exec { $program[0] } @program or refuse("run $program[0]");
