# The rate limit: no window of a second, wherever it starts, sees more requests than allowed; what
# is not used is there at once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('rate_limit', settings => { rate_limit => 10, poll_interval => '1h', retry_delay => '100ms' });
$t->add_organization($_) for qw(RIO LIMA);
my $fake = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', 400);
$t->load_many('LIMA', 'PFA-', 20);

# The most requests in any second among those behind that entry of the log.
sub fullest_second
{
    my ($mark) = @_;
    my @at = sort { $a <=> $b } map { $_->{monotonicUs} } $fake->requests(since => $mark);
    my ($most, $first) = (0, 0);
    for my $last (0 .. $#at)
    {
        $first++ while $at[$last] - $at[$first] >= 1_000_000;
        $most = $last - $first + 1 if $last - $first + 1 > $most;
    }
    return $most;
}

sub duration
{
    my ($mark) = @_;
    my @at = sort { $a <=> $b } map { $_->{monotonicUs} } $fake->requests(since => $mark);
    return ($at[-1] - $at[0]) / 1e6;
}

my $next = 0;
sub commit_many
{
    my ($count) = @_;
    my @ids = $t->edits('RIO', map { [ $pfa_ids[ $next++ ], { monthlyRate => 7 } ] } 1 .. $count);
    $t->commit('RIO', \@ids);
    return;
}

# ---- 60 items at 10 per second ----

my $mark = $fake->mark;
# Some answers are late, some need a read and a second write: all of it is requests.
$fake->fault({ pfaId => $pfa_ids[$_], delayMs => 300 }) for 3, 7, 20, 21, 22;
$fake->edit(map { { organizationCode => 'RIO', pfaId => $pfa_ids[$_], changes => { description => 'other' } } } 5, 15, 25);
commit_many(50);
$t->commit('LIMA', [ $t->edits('LIMA', map { [ sprintf('PFA-%04d', $_), { monthlyRate => 7 } ] } 1 .. 10) ]);
ok($t->quiet, '60 items of two organizations');
is(scalar $fake->requests(since => $mark), 66, 'need 66 requests');
my $fullest = fullest_second($mark);
cmp_ok($fullest, '<=', 10, 'no second sees more than 10');
is($fake->stats->{requests}{maxPerSecond}, $fullest, 'PEMS has measured the same');
cmp_ok(duration($mark), '>=', 6, 'that takes 6 seconds');

# ---- after quiet ----

ok($t->wait_until(sub { my ($last) = ($fake->requests)[-1]; $t->sql("SELECT clock_timestamp() - '$last->{at}' > interval '1.3 s'") eq 't' }),
    'a while without requests');
$mark = $fake->mark;
my $single = $t->commit_edit('RIO', $pfa_ids[ $next++ ], { monthlyRate => 8 });
ok($t->wait_status($single, 'synced'), 'a single edit');
is($fake->stats->{requests}{maxPerSecond} > 10, '', 'does not break the limit');

# ---- a worker that is replaced does not know what the last one sent ----

$mark = $fake->mark;
commit_many(30);
for my $round (1 .. 2)
{
    my $pid = $t->worker->{pid};
    ok($t->wait_until(sub { $fake->requests(since => $mark) >= 5 * $round }, what => 'requests'), "requests before replacement $round");
    $t->sql("SELECT pg_terminate_backend($pid, 5000)");
    $t->wait_worker(not_pid => $pid);
}
ok($t->quiet, '30 items and two new workers');
cmp_ok(fullest_second($mark), '<=', 10, 'no second sees more than 10, either');

# ---- another limit ----

$t->set(rate_limit => 0);
$mark = $fake->mark;
ok($t->wait_until(sub { commit_many(20); $t->quiet; my $fullest = fullest_second($mark); $mark = $fake->mark; $fullest > 15 },
        what => 'more than 15 requests in a second', timeout => 5),
    'with rate_limit = 0 there is no limit');

$t->set(rate_limit => 5);
ok($t->wait_until(sub { $t->sql('SHOW pems_sync.rate_limit') eq '5' }), 'another limit');
# the worker has it within a second
Time::HiRes::sleep(1);
$mark = $fake->mark;
commit_many(16);
ok($t->quiet, '16 items at 5 per second');
is(fullest_second($mark), 5, 'no second sees more than 5');
cmp_ok(duration($mark), '>=', 3, 'that takes three seconds');

$t->finish;
