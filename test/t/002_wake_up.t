# A commit wakes the worker.  The poll is an hour away in all of this: what arrives, arrives because
# the worker was woken.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

# Far from the next poll, which is an hour away.
use constant AT_ONCE => 20;

my $t = PemsSync::Test->new('wake_up', databases => [ 'postgres', 'second' ],
    settings => { rate_limit => 0, poll_interval => '1h', max_in_flight => 4, batch_size => 10 });
$t->add_organization('RIO');
$t->add_organization('SECOND', db => 'second');
my $fake = $t->fake;

# Seconds from the commit of an edit to its arrival in PEMS.
sub time_to_arrival
{
    my ($code, $pfa_id, $rate) = @_;
    my $db = $t->db_of($code);
    my $id = $t->edit($code, $pfa_id, { monthlyRate => $rate });
    my $time = $t->sql('BEGIN; ' . PemsSync::Test::commit_statement($code, [$id])
          . "\\g /dev/null\nSELECT extract(epoch FROM clock_timestamp()); COMMIT;", db => $db);
    return undef if !$t->wait_status($id, 'synced', db => $db);
    my $item = $t->item($id, db => $db);
    my ($request) = $fake->requests(requestId => "$item->{id}:1");
    return $t->sql("SELECT extract(epoch FROM '$request->{at}'::timestamptz) - $time");
}

# ---- at rest, and again ----

my @pfa_ids = $t->load_many('RIO', 'PFA-', 400);
$t->load('SECOND', 'PFA-1');
ok($t->wait_worker(db => $_), "a worker runs in $_") for 'postgres', 'second';
isnt($t->worker->{pid}, $t->worker(db => 'second')->{pid}, 'each database has its own');
for my $round (1 .. 5)
{
    my $seconds = time_to_arrival('RIO', $pfa_ids[$round], 1000 + $round);
    cmp_ok($seconds, '<', AT_ONCE, "commit $round arrives at once") or diag("after $seconds s");
}
cmp_ok(time_to_arrival('SECOND', 'PFA-1', 1), '<', AT_ONCE, 'so does one in the other database');
$t->is_calm('at rest');

# ---- while the worker is busy ----

# Requests take their time, so that there is always something under way and something waiting.
my ($slow) = $fake->fault({ delayMs => 30 });
my @first = $t->edits('RIO', map { [ $_, { monthlyRate => 2000 } ] } @pfa_ids[ 100 .. 179 ]);
$t->commit('RIO', \@first);
my @late = map { $t->commit_edit('RIO', $pfa_ids[$_], { monthlyRate => 2001 }) } 180 .. 189;
ok($t->wait_for("SELECT count(*) = 90 FROM pfa_write_queue WHERE status = 'completed' AND payload->>'monthlyRate' IN ('2000', '2001')"),
    'what is committed while the worker is busy arrives, too');
$fake->clear_faults;

# ---- steady commits from several sessions ----

$t->edits('RIO', map { [ $_, { monthlyRate => 3000 } ] } @pfa_ids[ 200 .. 399 ]);
append_to_file($t->directory . '/commit.pgbench', <<'SQL');
SELECT pems_commit('org-rio', ARRAY[(SELECT id FROM pfa_modification WHERE sync_status = 'draft' AND organization_id = 'org-rio'
                                     ORDER BY id LIMIT 1 OFFSET :client_id)]);
SQL
my @pgbench = ('pgbench', '-n', '-f', $t->directory . '/commit.pgbench', '-h', $t->node->host, '-p', $t->node->port, 'postgres');
# A little apart from each other, so that each commit finds the worker in another state.
PostgreSQL::Test::Utils::system_log(@pgbench, '-c', '4', '-j', '2', '-t', '40', '-R', '100');
my $left = "SELECT count(*) FROM pfa_modification WHERE sync_status = 'draft'";
cmp_ok($t->sql($left), '<', 100, 'most drafts were committed');
$t->commit('RIO', undef);
is($t->sql($left), '0', 'all drafts are committed');
ok($t->wait_for("SELECT count(*) = 200 FROM pfa_write_queue WHERE status = 'completed' AND payload->>'monthlyRate' = '3000'"),
    'all of them arrive');

# ---- the worker is replaced ----

my $pid = $t->worker->{pid};
my $id = $t->edit('RIO', 'PFA-0001', { monthlyRate => 4000 });
$t->sql("SELECT pg_terminate_backend($pid, 5000)");
$t->commit('RIO', [$id]);
ok($t->wait_status($id, 'synced', timeout => 10), 'what is committed while there is no worker is sent by the next');
isnt($t->worker->{pid}, $pid, 'which is another process');
unlike($t->log_since(0), qr/terminating any other active server processes/, 'and the server did not restart for it');

# ---- a clock that somebody else sets off ----

my ($fault) = $fake->fault({ pfaId => 'PFA-0002', status => 500, count => 1 });
my $retried = $t->edit('RIO', 'PFA-0002', { monthlyRate => 5000 });
$t->commit('RIO', [$retried]);
ok($t->wait_for("SELECT waits_for = 'time' FROM pfa_write_queue WHERE modification_id = '$retried'"), 'an edit waits for its retry');
is(decode_json($t->sql("SELECT pems_write_sync('org-rio')"))->{queuedCount}, 1, 'pems_write_sync makes it due');
ok($t->wait_status($retried, 'synced', timeout => 4), 'and wakes the worker');

$t->finish;
