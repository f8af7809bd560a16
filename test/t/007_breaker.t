# The breaker: five faults of an endpoint in a row open it; then nothing goes out but a probe, no edit loses a retry,
# other endpoints do not notice, and the first success closes it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(time);

use constant THRESHOLD => 5;
# The first probe goes out after five seconds, the next ten later.
use constant FIRST_PROBE => 5;
use constant PROMPT      => 30;

# More retries than one edit at a time could use up before the breaker opens.
my $t = PemsSync::Test->new('breaker', settings => { rate_limit => 0, retry_delay => '10ms', max_retries => 3, max_in_flight => 8, poll_interval => '1h' });
$t->add_fake('well');
$t->add_organization('RIO');
$t->add_organization('WELL', fake => 'well');
my $fake = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', 100);
$t->load('WELL', 'PFA-1', 'PFA-2');
my $position = $t->log_position;

sub warnings_in_log { return scalar(() = $t->log_since($position) =~ /WARNING:.*PEMS at \S+ does not answer/g) }

# Requests that the endpoint refused with 503.
sub refused { return scalar grep { $_->{status} == 503 } $fake->requests }

# ---- four in a row are not enough ----

my ($four) = $fake->fault({ status => 503, count => THRESHOLD - 1 });
my @few = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @pfa_ids[ 0 .. 3 ]);
$t->commit('RIO', \@few);
ok($t->wait_for("SELECT count(*) = 4 FROM pfa_modification WHERE sync_status = 'synced'"), 'four faults in a row are tried again');
is($fake->fired($four), THRESHOLD - 1, 'there were four');
is(warnings_in_log(), 0, 'the breaker stayed closed');

# ---- five are ----

my ($outage) = $fake->fault({ status => 503 });
my @first = $t->edits('RIO', map { [ $_, { monthlyRate => 2 } ] } @pfa_ids[ 0 .. THRESHOLD - 1 ]);
$t->commit('RIO', \@first);
ok($t->wait_for('SELECT open_breakers = 1 FROM pems_worker', timeout => PROMPT), 'five faults in a row open the breaker');
my $opened  = time;
my $refused = refused();
cmp_ok($refused - (THRESHOLD - 1), '>=', THRESHOLD, 'five requests were refused');
cmp_ok($refused - (THRESHOLD - 1), '<', 8 + THRESHOLD, 'and no more than were under way by then');

my @later = $t->edits('RIO', map { [ $_, { monthlyRate => 3 } ] } @pfa_ids[ 10 .. 99 ]);
$t->commit('RIO', \@later);
my $healthy = $t->commit_edit('WELL', 'PFA-1', { monthlyRate => 3 });
ok($t->wait_status($healthy, 'synced', timeout => PROMPT), 'another endpoint does not notice');
is(refused(), $refused, 'this one gets nothing') if time < $opened + FIRST_PROBE - 1;
my $later = PemsSync::Test::text_array(\@later);
is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE modification_id = ANY ($later) AND status = 'pending' AND attempt = 0 AND retry_count = 0"),
    '90', 'what is committed now waits untried');
is(JSON::PP->new->decode($t->sql('SELECT pems_sync_status()'))->{health}, 'degraded', 'the status says degraded');
$t->is_calm('while the breaker is open');

# ---- a probe that fails ----

ok($t->wait_until(sub { refused() > $refused }, what => 'a probe'), 'a probe goes out');
cmp_ok(time - $opened, '>=', FIRST_PROBE - 0.5, 'after five seconds');
cmp_ok(time - $opened, '<', FIRST_PROBE + PROMPT, 'and not much later');
$t->is_calm('after the probe');
is(refused(), $refused + 1, 'it is a single request');
is($t->worker->{open_breakers}, 1, 'the breaker stays open');
is($t->sql("SELECT coalesce(max(retry_count), 0) FROM pfa_write_queue WHERE modification_id = ANY ($later)"), '0', 'the probe costs no edit a retry');

# ---- the probe that succeeds ----

$fake->clear_faults($outage);
ok($t->wait_for('SELECT open_breakers = 0 FROM pems_worker', timeout => 2 * FIRST_PROBE + PROMPT), 'the first success closes the breaker');
ok($t->wait_for("SELECT count(*) = 99 + 1 FROM pfa_modification WHERE sync_status = 'synced'", timeout => PROMPT), 'and all edits follow');
is($t->sql("SELECT max(retry_count) FROM pfa_write_queue WHERE modification_id = ANY ($later)"), '0', 'without having lost a retry');
is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'failed'"), '0', 'there are no dead letters');
is(warnings_in_log(), 1, 'one warning was logged');
is(scalar(() = $t->log_since($position) =~ /LOG:.*PEMS at \S+ answers again/g), 1, 'and that it is over');

$t->finish;
