# What must end, ends, though requests hang: DROP DATABASE of another database, a fast stop, DROP EXTENSION, DROP
# DATABASE of the worker's own.  A worker without database or extension waits, quietly, and starts when they come.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(sleep time);

# The contract: two seconds for what must end, "a second or two" for what must begin; the rest is for a noisy machine.
use constant { PROMPT => 20, SOON => 30 };
# How long the log is watched, and what it may hold of one database that is not there; the first tells that it is missing.
use constant { WATCHED => 5, FEW => 3 };

my $begin = time;
my $t     = PemsSync::Test->new('stopped', databases => ['own'],
    settings => { databases => 'own,late', rate_limit => 0, max_in_flight => 8, request_timeout => '10min' });
ok($t->wait_for("SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'pems_sync worker'", db => 'postgres', timeout => SOON), 'two workers');
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "PFA-$_" } 1 .. 40);

my $next = 1;

# Five more edits, whose requests hang.
sub hang_five
{
    my ($name) = @_;
    my $mark   = $fake->mark;
    my $before = $fake->stats->{waiting};
    $fake->fault({ hang => JSON::PP::true });
    $t->commit('RIO', [ $t->edits('RIO', map { [ 'PFA-' . $next++, { monthlyRate => 1 } ] } 1 .. 5) ]);
    return ok($t->wait_until(sub { $fake->stats->{waiting} >= $before + 5 }, what => 'requests that hang'), "$name: five requests hang");
}

# How long something takes, as one test.
sub is_prompt
{
    my ($name, $action, $limit) = @_;
    my $start = time;
    $action->();
    return cmp_ok(time - $start, '<', $limit // PROMPT, $name);
}

# The worker's process, whether its database has the extension or not.
sub worker_pid
{
    my ($database) = @_;
    return $t->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pems_sync worker' AND datname = '$database'", db => 'postgres');
}

# Lines of the log that say that something ended or is not there.
sub fatal_lines
{
    my ($text, $pattern) = @_;
    return scalar grep { /(?:FATAL|PANIC):.*$pattern/ } split /\n/, $text;
}

# ---- another database ----

hang_five('DROP DATABASE');
$t->sql('CREATE DATABASE other', db => 'postgres');
is_prompt('another database is dropped while requests hang', sub { $t->sql('DROP DATABASE other', db => 'postgres') });
is($fake->stats->{waiting}, 5, 'they still do');

# ---- a fast stop ----

is_prompt('a fast stop does not wait for them', sub { $t->node->stop('fast') });
# "late" was missing at the start and all the time since
sleep 0.1 while time < $begin + WATCHED;
my $log = $t->log_since(0);
cmp_ok(fatal_lines($log, 'database "late"'), '<=', 1, 'a database that does not exist is mentioned once');
unlike($log, qr/PANIC|server process .* was terminated|background worker "pems_sync[^"]*" \(PID \d+\) was terminated/, 'nothing crashed');
$fake->clear_faults;
$t->node->start;
ok($t->quiet, 'after the start all goes out');
is($t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = 'synced'"), '5', 'and is synced');
$t->check('the checker is content with five requests that were lost');

# ---- DROP EXTENSION ----

hang_five('DROP EXTENSION');
my $pid      = worker_pid('own');
my $position = $t->log_position;
is_prompt('the extension is dropped while requests hang', sub { $t->sql('DROP EXTENSION pems_sync') });
my $cpu   = $t->worker_cpu($pid);
my $start = time;
ok($t->wait_until(sub { $fake->stats->{waiting} == 0 || time > $start + 3 }, what => 'a moment'), 'the worker looks around');
sleep 0.1 while time < $start + 3;
is(worker_pid('own'), $pid, 'it is the same process');
cmp_ok($t->worker_cpu($pid) - $cpu, '<', 0.6, 'it does not spin');
$log = $t->log_since($position);
cmp_ok(scalar(() = $log =~ /(?:WARNING|ERROR|FATAL):/g), '<=', 1, 'and it does not fill the log') or diag $log;
is($fake->stats->{waiting}, 0, 'it has let go of its requests');

$fake->clear_faults;
$t->sql('CREATE EXTENSION pems_sync; SELECT pems_attach()');
$t->set_credential('RIO', 'token-of-RIO');
my $again = $t->commit_edit('RIO', 'PFA-40', { monthlyRate => 2 });
ok($t->wait_status($again, 'synced', timeout => SOON), 'when it is made again, edits arrive');
is(worker_pid('own'), $pid, 'by the same process');

# ---- DROP DATABASE of the worker's own, and one that comes late ----

hang_five('DROP DATABASE ... WITH (FORCE)');
$position = $t->log_position;
$start    = time;
is_prompt('the own database is dropped while requests hang', sub { $t->sql('DROP DATABASE own WITH (FORCE)', db => 'postgres') });
ok($t->wait_until(sub { !kill 0, $pid }, what => 'its end', timeout => PROMPT), 'its worker ends');

$t->add_fake('late');
$t->make_database('late');
$t->add_organization('LATE', fake => 'late', db => 'late');
$t->load('LATE', 'PFA-1');
my $late = $t->commit_edit('LATE', 'PFA-1', { monthlyRate => 1 });
ok($t->wait_status($late, 'synced', db => 'late', timeout => SOON), 'a database that was missing is served when it is made');

sleep 0.1 while time < $start + WATCHED;
$log = $t->log_since($position);
cmp_ok(fatal_lines($log, ''), '<=', FEW, 'the log is not filled while the own database is missing') or diag $log;
unlike($log, qr/PANIC|was terminated/, 'nothing crashed');

# The audit log of the old database is gone, so its requests would be strangers to the checker: another fake.
$t->fake->stop;
delete $t->{fakes}{main};
delete $t->{organizations}{RIO};
$t->add_fake('new');
$t->make_database('own');
$t->add_organization('NEW', fake => 'new');
$t->load('NEW', 'PFA-1');
my $new = $t->commit_edit('NEW', 'PFA-1', { monthlyRate => 3 });
ok($t->wait_status($new, 'synced', timeout => SOON), 'a database that is made again is served, too');

$t->finish;
