# One attempt of a task of the campaign: it says in the ledger that it starts, ten times a second that
# it is alive, and how it ends, each by one write, so that lines of many processes never mix. Perl
# without modules, because an attempt must cost milliseconds; the clock is the one since boot, which
# nobody sets.
#
#   attempt.pl LEDGER MILLISECONDS FAILURES [stubborn] [loud]
#
# MILLISECONDS: how long it works. FAILURES: tries of the retry policy that fail before one succeeds.
# stubborn: it takes SIGKILL to end it. loud: it writes output.
use strict;
use warnings;
use Config;

my ($ledger, $work_ms, $failures, @manners) = @ARGV;
my %manner = map { $_ => 1 } @manners;
# The number of this system call differs from machine to machine.
my $clock_gettime = $Config{archname} =~ /^aarch64/ ? 113 : 228;
my $CLOCK_BOOTTIME = 7;
my $BEAT_MS = 100;

open(my $file, '>>', $ledger) or die "$ledger: $!";

sub note {
    my ($kind, $exit) = @_;
    my $time = "\0" x 16;
    syscall($clock_gettime, $CLOCK_BOOTTIME, $time) == 0 or die "no clock: $!";
    my ($seconds, $nanos) = unpack 'qq', $time;
    my @fields = (@ENV{qw(MAINSPRING_ATTEMPT_ID MAINSPRING_TASK MAINSPRING_RUN)}, $kind, $$);
    my $line = join("\t", @fields, $seconds * 1_000_000_000 + $nanos, $exit) . "\n";
    syswrite($file, $line) == length $line or die "$ledger: $!";
}

$SIG{TERM} = 'IGNORE' if $manner{stubborn};
note('start', '-');
print "attempt $ENV{MAINSPRING_ATTEMPT_ID}\n" if $manner{loud};
while ($work_ms > 0) {
    my $nap_ms = $work_ms < $BEAT_MS ? $work_ms : $BEAT_MS;
    select(undef, undef, undef, $nap_ms / 1000);
    $work_ms -= $nap_ms;
    note('alive', '-') if $work_ms > 0;
}
my $exit = $ENV{MAINSPRING_ATTEMPT_NUMBER} <= $failures ? 3 : 0;
note('end', $exit);
exit $exit;
