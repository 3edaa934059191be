package PVE::AccessControl;

# Stands in for Proxmox's: tickets are those that the stand-in of pvedaemon has made.
use strict;
use warnings;

sub lines {
    open(my $file, '<', '/run/pve-stand-in/ticket') or die "unable to read the key: $!\n";
    chomp(my @lines = <$file>);
    return @lines;
}

sub assemble_ticket : prototype($;$) { return (lines())[0]; }
sub assemble_csrf_prevention_token { return (lines())[1]; }

1;
