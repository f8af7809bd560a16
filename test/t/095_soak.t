# The soak: users, other users in PEMS, pulls, faults, backups, crashes and a second worker, at random and all at
# once, and at the end a full pull and the checker (PemsSync::Soak).
#
#   SOAK_SECONDS  how long things happen (60); `make soak` runs this file for longer
#   SEED          where the random decisions begin (another one each time)
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Soak;
use Test::More;

my $seconds = $ENV{SOAK_SECONDS} || 60;
my $seed    = $ENV{SEED}         || (time ^ $$) & 0x7fffffff;
note "SEED=$seed";

my $soak = PemsSync::Soak->new(seconds => $seconds, seed => $seed);
$soak->run;
ok($soak->settle, 'when the faults end, everything comes to an end');
is_deeply($soak->{unexpected}, [], 'nobody got an error that has no reason');

my $verdict = $soak->verdict;
is($verdict->{status}, 0, 'the checker is content') or diag($verdict->{text});
is(scalar @{ $verdict->{findings}{ $_->[0] } // [] }, 0, "$_->[1] ($_->[0])")
  for [ I1 => 'nothing lost' ], [ I4 => 'nothing duplicated' ], [ I3 => 'nothing overwritten' ];

my $passing = Test::More->builder->is_passing;
$passing ? note($_) : diag($_) for $soak->summary;
diag("SEED=$seed") if !$passing;
$soak->{t}->node->stop('fast');
done_testing();
