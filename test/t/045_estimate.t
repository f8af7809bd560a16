# When what waits will probably be done: the estimate follows the rate limit, the queue ahead, and how fast the endpoint
# has answered.  Compared with the arithmetic of the limiter, not with how fast this machine is.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

use constant RATE      => 10;
use constant WINDOW    => 1.02;    # seconds that RATE requests take at least (src/sending/limiter.h)
use constant TOLERANCE => 0.2;

my $t = PemsSync::Test->new('estimate', settings => { rate_limit => RATE, max_in_flight => 8, poll_interval => '1h', retry_delay => '100ms' });
$t->add_fake('slow');
$t->add_organization($_) for qw(RIO LIMA);
$t->add_organization('SLOW', fake => 'slow');
my $fake = $t->fake;
my %pfa_ids = map { $_ => [ $t->load_many($_, 'PFA-', 1500) ] } qw(RIO LIMA SLOW);
my %next;

sub commit_many
{
    my ($code, $count) = @_;
    my @ids = $t->edits($code, map { [ $pfa_ids{$code}[ $next{$code}++ ], { monthlyRate => 7 } ] } 1 .. $count);
    return seconds_until(PemsSync::Test::commit_statement($code, \@ids));
}

# How far ahead the estimate of that call is.
sub seconds_until
{
    my ($call) = @_;
    return $t->sql("SELECT extract(epoch FROM (r ->> 'estimatedCompletionTime')::timestamptz - clock_timestamp()) FROM ($call AS r) c");
}

# The call takes what is due already as it is, so nothing changes.
sub estimate { my ($code) = @_; return seconds_until("SELECT pems_write_sync('" . PemsSync::Test::id_of($code) . "')") }

sub about
{
    my ($seconds, $expected, $name) = @_;
    cmp_ok($seconds, '>=', (1 - TOLERANCE) * $expected, "$name: not too early");
    cmp_ok($seconds, '<=', (1 + TOLERANCE) * $expected, "$name: not too late");
    return;
}

# ---- the rate limit ----

$t->wait_worker;
my $mark = $fake->mark;
my $first = commit_many('RIO', 60);
about($first, 60 / RATE * WINDOW, '60 items at 10 per second');
ok($t->quiet, 'they are sent');
my @at = sort { $a <=> $b } map { $_->{monotonicUs} } $fake->requests(since => $mark);
cmp_ok($first, '<=', (1 + TOLERANCE) * (($at[-1] - $at[0]) / 1e6 + WINDOW), 'in no less time than was estimated');

about(commit_many('RIO', 1000), 1000 / RATE * WINDOW, '1,000 items at 10 per second');

# ---- the queue ahead: two organizations at one endpoint take turns ----

about(commit_many('LIMA', 100), 200 / RATE * WINDOW, '100 items beside 1,000 of another organization');
about(estimate('RIO'), 1100 / RATE * WINDOW, '1,000 items beside 100 of another organization');
$t->sql("SELECT pems_pause('org-lima')");
about(estimate('RIO'), 1000 / RATE * WINDOW, 'that one is paused');
$t->sql("SELECT pems_resume('org-lima')");

# a badge says the same
my $eta = $t->sql("SELECT pems_sync_state('org-rio', ARRAY['$pfa_ids{RIO}[1000]']) #>> '{$pfa_ids{RIO}[1000],etaSeconds}'");
about($eta, 1100 / RATE * WINDOW, 'the badge of a record');

# ---- an endpoint that answers slowly: six of eight requests may be under way to one of two ----

$t->fake('slow')->fault({ delayMs => 2000 });
my $before_any_answer = commit_many('SLOW', 200);
about($before_any_answer, 200 / RATE * WINDOW, 'an endpoint that nobody has seen');
ok($t->wait_for("SELECT EXISTS (SELECT FROM _pems_endpoint_states() e WHERE e.latency >= 2)"), 'it has answered, slowly');
my ($seconds, $expected) = split /\|/, $t->sql(<<'SQL');
SELECT extract(epoch FROM (pems_write_sync('org-slow') ->> 'estimatedCompletionTime')::timestamptz - clock_timestamp()),
       (SELECT count(*) FROM pfa_write_queue WHERE organization_id = 'org-slow' AND open) * e.latency / 6 + e.latency
FROM _pems_endpoint_states() e WHERE e.latency >= 2
SQL
about($seconds, $expected, '200 items, six at a time, two seconds each');

# ---- one that asks for patience ----

$t->fake('slow')->clear_faults;
$t->set(rate_limit => 0);
ok($t->quiet, 'all is sent');
$t->fake('slow')->fault({ retryAfter => '4', count => 1 });
commit_many('SLOW', 1);
ok($t->wait_for("SELECT EXISTS (SELECT FROM _pems_endpoint_states() e WHERE e.waits_until IS NOT NULL)"), 'PEMS asks for patience');
is($t->sql(<<'SQL'), 't', 'not before that');
SELECT coalesce(bool_and((pems_write_sync('org-slow') ->> 'estimatedCompletionTime')::timestamptz >= date_trunc('milliseconds', e.waits_until)), true)
FROM _pems_endpoint_states() e WHERE e.waits_until IS NOT NULL
SQL

$t->finish;
