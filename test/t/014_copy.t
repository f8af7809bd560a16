# A dump with unfinished edits, restored into another database that has a worker: it sends nothing until
# pems_resume(), and then each edit once.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

# "A second or two" until a worker starts; the rest is for a noisy machine.
use constant SOON => 30;

my %databases = (custom => 'restored by pg_restore -j2', plain => 'restored from SQL');
my $t = PemsSync::Test->new('copied', databases => ['postgres'],
    settings => { databases => 'postgres,custom,plain', rate_limit => 0, retry_delay => '100ms', poll_interval => '1h' });
$t->add_organization('RIO');
my $fake = $t->fake;
my $node = $t->node;
$t->load('RIO', map { "PFA-$_" } 1 .. 20);

# ---- an original with edits of every kind ----

my @done = $t->edits('RIO', map { [ "PFA-$_", { monthlyRate => 1 } ] } 1 .. 5);
$t->commit('RIO', \@done);
ok($t->wait_for("SELECT count(*) = 5 FROM pfa_modification WHERE sync_status = 'synced'"), 'five edits are synced');
# under way in the dump: PEMS has not done it, and the original never hears an answer
$fake->fault({ pfaId => 'PFA-6', hang => JSON::PP::true, count => 1 });
my $flying = $t->commit_edit('RIO', 'PFA-6', { monthlyRate => 2 });
ok($t->wait_until(sub { $fake->stats->{waiting} == 1 && $t->item($flying)->{status} eq 'processing' }, what => 'a request'), 'one is under way');
# both dumps are to see the same
ok($t->wait_status($flying, 'syncing'), 'and shown as such');
$t->sql("SELECT pems_pause(reason => 'the copy takes over')");
my @waiting = ($t->edits('RIO', (map { [ "PFA-$_", { monthlyRate => 2 } ] } 7 .. 15), [ 'PFA-15', { dor => 'PROJECT' } ]));
$t->commit('RIO', \@waiting);
my $draft = $t->edit('RIO', 'PFA-16', { monthlyRate => 2 });
is($t->sql("SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM pfa_write_queue GROUP BY status) AS q"),
    'completed 5, pending 10, processing 1', 'ten edits wait');

my $mark = $fake->mark;
my $keys = <<'SQL';
SELECT string_agg(conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid), E'\n' ORDER BY conrelid::regclass::text, conname)
FROM pg_constraint WHERE contype = 'f'
SQL
my $original_keys = $t->sql($keys);
like($original_keys, qr/pfa_modification/, 'the original has foreign keys');

# ---- dump and restore ----

my $directory = $t->directory;
command_ok([ 'pg_dump', '-Fc', '-f', "$directory/dump", '-d', $node->connstr('postgres') ], 'pg_dump -Fc');
command_ok([ 'pg_dump', '-f', "$directory/dump.sql", '-d', $node->connstr('postgres') ], 'pg_dump');
$t->sql("CREATE DATABASE $_ TEMPLATE template0") for sort keys %databases;
command_ok([ 'pg_restore', '-j2', '--exit-on-error', '-d', $node->connstr('custom'), "$directory/dump" ], 'pg_restore -j2 --exit-on-error');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('plain'), '-f', "$directory/dump.sql" ], 'psql with ON_ERROR_STOP');

my $content = <<'SQL';
SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
    SELECT 'q' || q::text FROM pfa_write_queue q UNION ALL SELECT 'm' || m::text FROM pfa_modification m
    UNION ALL SELECT 'r' || r::text FROM pfa_mirror r UNION ALL SELECT 'a' || a::text FROM pems_audit_log a) AS l (line)
SQL
for my $database (sort keys %databases)
{
    my $name = $databases{$database};
    ok($t->wait_worker(db => $database, state => 'copy', timeout => SOON), "$name: the worker says copy");
    is($t->sql($content, db => $database), $t->sql($content), "$name: queue, modifications, mirror and audit log are those of the original");
    is(decode_json($t->sql('SELECT pems_sync_status()', db => $database))->{health}, 'unhealthy', "$name: the status says unhealthy");
    $t->is_calm($name, db => $database);
    # a commit wakes the worker, and still it sends nothing
    my $before = $t->worker(db => $database)->{last_heartbeat};
    is(decode_json($t->sql(PemsSync::Test::commit_statement('RIO', [$draft]), db => $database))->{estimatedCompletionTime}, undef, "$name: a commit does not say when it will be done");
    ok($t->wait_for("SELECT last_heartbeat > '$before'::timestamptz + interval '1 s' FROM pems_worker", db => $database), "$name: the worker looks again");
    is($t->worker(db => $database)->{state}, 'copy', "$name: and is still a copy");
    # nor does an attach, or a resume of one organization, make a sender of it
    like($t->sql('SELECT pems_attach()', db => $database), qr/"COPY"/, "$name: pems_attach() says that it is one");
    like($t->sql_error("SELECT pems_resume('org-rio')", db => $database), qr/^55000/, "$name: pems_resume('org-rio') is an error");
    is($t->sql('SELECT _pems_standing()', db => $database), 'copy', "$name: and it stays a copy");
}
is(scalar(my @sent = $fake->requests(since => $mark)), 0, 'no copy has sent anything');
like($t->log_since(0), qr/WARNING:.*this database is a copy and sends nothing/, 'the log says why');

# ---- a copy takes over ----

# The original gives up: its request that hangs never gets an answer, and its other edits stay where they are.
$t->set(databases => 'custom,plain');
$node->restart;
my $taken = 'custom';
my $name  = $databases{$taken};
ok($t->wait_worker(db => $taken, state => 'copy', timeout => SOON), "$name: a restart changes nothing");
is(scalar(@sent = $fake->requests(since => $mark)), 0, 'still nothing is sent');
is(decode_json($t->sql('SELECT pems_resume()', db => $taken))->{success}, JSON::PP::true, "$name: pems_resume");
is($t->sql($keys, db => $taken), $original_keys, "$name: the foreign keys are back");
ok($t->wait_worker(db => $taken, timeout => SOON), "$name: the worker runs");
ok($t->wait_for("SELECT count(*) = 17 FROM pfa_modification WHERE sync_status = 'synced'", db => $taken), "$name: all edits are synced");
my %times;
$times{ $_->{pfaId} }++ for $fake->changes(since => $mark, by => 'client');
is_deeply(\%times, { (map { ("PFA-$_" => 1) } 6 .. 14, 16), 'PFA-15' => 2 }, "$name: PEMS has each edit once");
my ($first) = $fake->requests(since => $mark, pfaId => 'PFA-6');
is($first->{method}, 'GET', "$name: what was under way is read first");
is($t->sql("SELECT string_agg(http_method, ' ' ORDER BY at) FROM pems_audit_log WHERE http_method IS NOT NULL AND pfa_id = 'PFA-7'", db => $taken),
    'PUT', "$name: what waited is sent once");
is($t->worker(db => 'plain')->{state}, 'copy', 'the other copy is still one');

# The checker looks at the database that took over; the log of PEMS and its audit log go together.
$t->{organizations}{RIO}{db} = $taken;
ok($t->quiet(db => $taken), 'all is quiet');
$t->check('the checker is content with the database that took over');
$node->stop('fast');
done_testing();
