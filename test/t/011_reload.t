# Settings that change while the worker runs: each takes effect soon, and nothing is lost by it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(time);

# A setting is noticed within about a second; the rest is for a noisy machine.
use constant NOTICED => 4;

my $t = PemsSync::Test->new('reloaded',
    settings => { rate_limit => 0, retry_delay => '100ms', request_timeout => '10min', poll_interval => '1h', max_in_flight => 8 });
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "PFA-$_" } 1 .. 60);
my $quick = $t->commit_edit('RIO', 'PFA-1', { monthlyRate => 1 });
ok($t->wait_status($quick, 'synced'), 'all is well at first');

# Wait for turns of the worker: the first may have begun before this did, the others have the settings of now.
sub some_turns
{
    for (1 .. 3)
    {
        my $now = $t->sql('SELECT clock_timestamp()');
        $t->sql('SELECT pg_reload_conf()');
        $t->wait_for("SELECT last_heartbeat > '$now' FROM pems_worker", what => 'a turn of the worker', timeout => NOTICED) or return 0;
    }
    return 1;
}

# Commit an edit that is not to be sent.
sub is_kept
{
    my ($name, $pfa_id) = @_;
    my $mark = $fake->mark;
    my $id   = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 2 });
    ok(some_turns(), "$name: the worker looks");
    is(scalar(my @sent = $fake->requests(since => $mark)), 0, "$name: nothing is sent");
    my $item = $t->item($id);
    is("$item->{status} $item->{attempt} $item->{retry_count}", 'pending 0 0', "$name: the edit waits");
    return $id;
}

# ---- enabled ----

$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled', timeout => NOTICED), 'enabled off: noticed');
my $kept = is_kept('enabled off', 'PFA-2');
$t->is_calm('while it is disabled');
$t->set(enabled => 'on');
ok($t->wait_worker(timeout => NOTICED), 'enabled on: noticed');
ok($t->wait_status($kept, 'synced', timeout => NOTICED), 'enabled on: the edit arrives');

# A request that is under way when the worker is disabled is finished and recorded.
$fake->fault({ pfaId => 'PFA-3', delayMs => 1000, count => 1 });
$kept = $t->commit_edit('RIO', 'PFA-3', { monthlyRate => 2 });
ok($t->wait_until(sub { $fake->stats->{waiting} == 1 }, what => 'a slow request'), 'enabled off: a request is under way');
$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled', timeout => NOTICED), 'enabled off: noticed again');
ok($t->wait_status($kept, 'synced'), 'enabled off: what was under way is recorded');
is($t->attempts($kept), 'PUT 200', 'enabled off: and not sent twice');
$t->set(enabled => 'on');
ok($t->wait_worker(timeout => NOTICED), 'enabled on: noticed again');

# ---- rate_limit ----

my $mark = $fake->mark;
$t->set(rate_limit => 5);
ok(some_turns(), 'rate_limit 5: the worker looks');
my @ids = $t->edits('RIO', map { [ "PFA-$_", { monthlyRate => 3 } ] } 1 .. 60);
$t->commit('RIO', \@ids);
ok($t->wait_until(sub { $fake->requests(since => $mark) >= 12 }, what => 'twelve requests'), 'rate_limit 5: edits trickle out');
my @slow = map { $_->{monotonicUs} } ($fake->requests(since => $mark))[ 0 .. 11 ];
is(scalar(grep { $slow[ $_ + 5 ] - $slow[$_] < 1e6 } 0 .. $#slow - 5), 0, 'rate_limit 5: no second has more than five');
$t->set(rate_limit => 0);
ok($t->wait_for("SELECT count(*) = 60 FROM pfa_modification WHERE delta = '{\"monthlyRate\": 3}' AND sync_status = 'synced'", timeout => NOTICED),
    'rate_limit 0: the rest follows at once');

# ---- request_timeout ----

$fake->fault({ pfaId => 'PFA-4', hang => JSON::PP::true, count => 1 }, { pfaId => 'PFA-5', hang => JSON::PP::true, count => 1 });
my $old = $t->commit_edit('RIO', 'PFA-4', { monthlyRate => 4 });
ok($t->wait_until(sub { $fake->stats->{waiting} == 1 }, what => 'a hanging request'), 'request_timeout: a request hangs');
$t->set(request_timeout => '300ms');
ok(some_turns(), 'request_timeout: the worker looks');
my $new = $t->commit_edit('RIO', 'PFA-5', { monthlyRate => 4 });
ok($t->wait_until(sub { $t->attempts($new) =~ /^PUT TIMEOUT/ }, what => 'a timeout', timeout => NOTICED), 'request_timeout: a later one times out soon');
is($t->item($old)->{status}, 'processing', 'request_timeout: the earlier one keeps its own');
ok($t->wait_status($new, 'synced'), 'request_timeout: after the retry it is synced');
$t->set(request_timeout => '30s');
$t->sql('SELECT pg_terminate_backend(pid) FROM pems_worker');
ok($t->wait_status($old, 'synced'), 'a new worker takes up the earlier one');

# ---- allowed_hosts ----

$t->set(allowed_hosts => '');
ok(some_turns(), 'allowed_hosts empty: the worker looks');
$kept = is_kept('allowed_hosts empty', 'PFA-6');
$t->is_calm('while no host is allowed');
$t->set(allowed_hosts => '127.0.0.1');
ok($t->wait_status($kept, 'synced', timeout => NOTICED), 'allowed_hosts restored: the edit arrives');

# ---- poll_interval ----

$t->set(poll_interval => '200ms');
ok(some_turns(), 'poll_interval shorter: the worker looks');
my $noticed = $t->sql('SELECT clock_timestamp()');
ok($t->wait_for("SELECT last_heartbeat > '$noticed'::timestamptz + interval '1 s' FROM pems_worker", what => 'a poll', timeout => NOTICED),
    'poll_interval shorter: it looks by itself, though the longer one is not over');
$t->set(poll_interval => '1h');
ok(some_turns(), 'poll_interval longer: the worker looks');

# ---- key_file ----

$t->set(key_file => $t->directory . '/nothing');
ok($t->wait_worker(state => 'no_key', timeout => NOTICED), 'key_file missing: noticed');
isnt($t->worker->{last_error} // '', '', 'key_file missing: the view says why');
$kept = is_kept('key_file missing', 'PFA-7');
$t->is_calm('without a key');
$t->set(key_file => $t->key_file);
ok($t->wait_worker(timeout => NOTICED), 'key_file restored: noticed');
ok($t->wait_status($kept, 'synced', timeout => NOTICED), 'key_file restored: the edit arrives');

$t->finish;
