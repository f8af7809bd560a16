# Sessions and triggers of the application that stand in the worker's way: what they lock or refuse waits or fails
# alone, and everything else goes on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

# The others do not wait: a moment, and what a noisy machine adds.
use constant PROMPT => 20;
use constant BATCH  => 20;

my $t = PemsSync::Test->new('in_the_way', settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1s', max_in_flight => 32 });
$t->add_organization('RIO');
my $fake = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', BATCH);
my $position = $t->log_position;

# Edits of all records, committed while nothing is sent, so that they go out as one batch.
sub queue_batch
{
    my ($rate) = @_;
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now');
    my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => $rate } ] } @pfa_ids);
    $t->commit('RIO', \@ids);
    return @ids;
}

# How many of them have that sync_status.
sub count_of
{
    my ($status, @ids) = @_;
    return $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = '$status' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')');
}

sub lock_and_see
{
    my ($name, $rate, $statement, $delay) = @_;
    my @ids   = queue_batch($rate);
    my ($one, @others) = @ids;
    my $fault;
    ($fault) = $fake->fault({ delayMs => $delay }) if $delay;
    my $session = $t->node->background_psql('postgres');
    $session->query_safe('BEGIN');
    $session->query_safe($statement->($one));
    $t->set(enabled => 'on');

    ok($t->wait_until(sub { count_of('synced', @others) == BATCH - 1 }, what => 'the others', timeout => PROMPT), "$name: the others are synced meanwhile");
    ok($t->wait_until(sub { $fake->changes(pfaId => $pfa_ids[0], by => 'client') == $rate }, what => 'its change'), "$name: it is done in PEMS, too");
    isnt($t->modification($one)->{sync_status}, 'synced', "$name: but waits to be recorded");
    $t->is_calm("$name: while a row is locked");
    my $later = $t->commit_edit('RIO', $pfa_ids[-1], { dor => $rate % 2 ? 'PROJECT' : 'BEO' });
    ok($t->wait_status($later, 'synced', timeout => PROMPT), "$name: a later edit arrives");
    is(count_of('synced', $one), '0', "$name: it still waits");

    $session->query_safe('COMMIT');
    $session->quit;
    ok($t->wait_status($one, 'synced', timeout => PROMPT), "$name: when the lock is released it is recorded");
    is($t->attempts($one), 'PUT 200', "$name: and was sent once");
    $fake->clear_faults($fault) if $delay;
    return;
}

# ---- rows that another session has locked ----

lock_and_see('modification', 1, sub { "SELECT FROM pfa_modification WHERE id = '$_[0]' FOR UPDATE" });
lock_and_see('mirror',       2, sub { "SELECT FROM pfa_mirror WHERE pfa_id = '$pfa_ids[0]' FOR UPDATE" });
# slow enough to be shown as syncing, which is one more statement that meets the lock
lock_and_see('modification, slowly', 3, sub { "SELECT FROM pfa_modification WHERE id = '$_[0]' FOR UPDATE" }, 500);

# A worker that is never idle comes back to what was locked, too.
{
    my @busy = $t->load_many('RIO', 'BUSY-', 200);
    my ($held) = $t->edits('RIO', [ $pfa_ids[0], { monthlyRate => 30 } ]);
    my $holder = $t->node->background_psql('postgres');
    $holder->query_safe('BEGIN');
    $holder->query_safe("SELECT FROM pfa_mirror WHERE pfa_id = '$pfa_ids[0]' FOR UPDATE");
    $t->commit('RIO', [$held]);
    ok($t->wait_until(sub { $fake->changes(pfaId => $pfa_ids[0], by => 'client') == 4 }, what => 'its change'), 'busy: the edit is in PEMS');
    my $keep_busy = sub { $t->commit_edit('RIO', shift @busy, { monthlyRate => 31 }) };
    $keep_busy->() for 1 .. 10;
    is(count_of('synced', $held), '0', 'busy: it waits to be recorded');
    $holder->query_safe('COMMIT');
    $holder->quit;
    ok($t->wait_until(sub { $keep_busy->(); count_of('synced', $held) == 1 }, what => 'the held one', timeout => PROMPT),
        'busy: it is recorded though the worker has no quiet second');
}

# ---- a deadlock: the worker gives way, whatever deadlock_timeout is ----

{
    $t->sql("ALTER SYSTEM SET deadlock_timeout = '150ms'");
    $t->sql('SELECT pg_reload_conf()');
    my $worker = $t->worker->{pid};
    my ($fault) = $fake->fault({ delayMs => 1500 });
    my $id   = $t->commit_edit('RIO', $pfa_ids[0], { monthlyRate => 40 });
    my $user = $t->node->background_psql('postgres', on_error_stop => 0);
    $user->query_safe('BEGIN');
    $user->query_safe("SELECT FROM pfa_modification WHERE id = '$id' FOR UPDATE");
    # as soon as the worker waits for that row, the session asks for the mirror, which the worker has
    my ($out, $failed) = $user->query(<<"SQL");
DO \$\$ BEGIN
    FOR i IN 1 .. 10000 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE pid = $worker AND NOT granted);
        PERFORM pg_sleep(0.0005);
    END LOOP;
    UPDATE pfa_mirror SET last_synced_at = last_synced_at WHERE pfa_id = '$pfa_ids[0]' AND organization_id = 'org-rio';
END \$\$;
SQL
    ok(!$failed, 'a session that meets the worker in a deadlock goes on');
    $user->query_safe('COMMIT');
    $user->quit;
    ok($t->wait_status($id, 'synced', timeout => PROMPT), 'and the edit is recorded afterwards');
    is($t->attempts($id), 'PUT 200', 'once');
    unlike($t->log_since($position), qr/deadlock detected/, 'nobody had to detect it');
    $fake->clear_faults($fault);
    $t->sql('ALTER SYSTEM RESET deadlock_timeout');
    $t->sql('SELECT pg_reload_conf()');
}

# ---- pems_write_sync() of a session that does not commit ----

my @ids = queue_batch(4);
my ($one, @others) = @ids;
my $session = $t->node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe("SELECT pems_write_sync('org-rio', ARRAY['$one'], 'high')");
$t->set(enabled => 'on');
ok($t->wait_until(sub { count_of('synced', @others) == BATCH - 1 }, what => 'the others', timeout => PROMPT), 'an open pems_write_sync holds no others');
is(count_of('synced', $one), '0', 'its own item waits');
$t->is_calm('while a session has not committed');
$session->query_safe('COMMIT');
ok($t->wait_status($one, 'synced', timeout => PROMPT), 'until that session commits');

@ids = queue_batch(5);
$session->query_safe('BEGIN');
$session->query_safe("SELECT pems_write_sync('org-rio', NULL, 'high')");
$t->set(enabled => 'on');
$t->load('RIO', 'NEW-1');
my $new = $t->commit_edit('RIO', 'NEW-1', { monthlyRate => 5 });
ok($t->wait_status($new, 'synced', timeout => PROMPT), 'one for the whole queue does not hold what is committed later');
is(count_of('synced', @ids), '0', 'what it holds waits');
# nobody tells the worker of a rollback: it finds them at its next poll
$session->query_safe('ROLLBACK');
$session->quit;
ok($t->wait_until(sub { count_of('synced', @ids) == BATCH }, what => 'all', timeout => PROMPT), 'until it rolls back');

# ---- a trigger of the application that fails ----

@ids = queue_batch(6);
($one, @others) = @ids;
$t->sql(<<"SQL");
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'the trigger says no'; END \$\$;
CREATE TRIGGER refuse BEFORE UPDATE ON pfa_modification FOR EACH ROW
    WHEN (new.id = '$one' AND new.sync_status = 'synced') EXECUTE FUNCTION refuse();
SQL
$t->set(enabled => 'on');
ok($t->wait_until(sub { count_of('synced', @others) == BATCH - 1 }, what => 'the others', timeout => PROMPT), 'a trigger that fails for one harms no others');
ok($t->wait_until(sub { $t->item($one)->{status} eq 'failed' }, what => 'its failure', timeout => PROMPT), 'that one becomes a dead letter');
my $item = $t->item($one);
is($item->{error_code}, 'DATABASE_ERROR', 'of its own kind');
is($t->sql("SELECT count(*) FROM pems_dead_letters WHERE modification_id = '$one'"), '1', 'that administrators see');
like($item->{last_error}, qr/the trigger says no/, 'which says why');
is(scalar(grep { $_->{pfaId} eq $pfa_ids[0] && ($_->{requestId} // '') =~ /^\Q$item->{id}\E:/ } $fake->requests), 1, 'it was sent once');
my $held = $t->commit_edit('RIO', $pfa_ids[0], { dor => 'BEO' });
my $free = $t->commit_edit('RIO', $pfa_ids[1], { dor => 'PROJECT' });
ok($t->wait_status($free, 'synced', timeout => PROMPT), 'other records go on');
is($t->item($held)->{status}, 'pending', 'its own record waits');
$t->sql('DROP TRIGGER refuse ON pfa_modification');
$t->sql("SELECT pems_discard('$one')");
ok($t->wait_for("SELECT sync_status IN ('synced', 'conflict') FROM pfa_modification WHERE id = '$held'"), 'until it is discarded');

# ---- pems_attach(), which locks the tables of the application, and a transaction of the application ----

my ($first, $second) = $t->edits('RIO', map { [ $_, { monthlyRate => 77 } ] } @pfa_ids[ 2, 3 ]);
my $application = $t->node->background_psql('postgres');
$application->query_safe('BEGIN');
$application->query_safe("UPDATE pfa_modification SET delta = delta WHERE id = '$first'");
my $administrator = $t->node->background_psql('postgres', on_error_stop => 0);
$administrator->query_until(qr/begun/, "\\echo begun\nSELECT pems_attach() -> 'success';\n");
$t->wait_for("SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted)", what => 'pems_attach() waits');
# it has the table organization, and waits for this one
is($application->query_safe("SELECT pems_commit('org-rio', ARRAY['$first']) -> 'queuedCount'"), '1', 'a commit does not become the victim of a deadlock with pems_attach()');
$t->commit('RIO', [$second]);
pass('nor do others wait for long');
$application->query_safe('COMMIT');
is($administrator->query('SELECT 7'), "true\n7", 'which goes on when that transaction has ended');
ok($t->wait_until(sub { count_of('synced', $first, $second) == 2 }, what => 'both', timeout => PROMPT), 'both edits arrive');

$application->query_safe('BEGIN');
my $pid = $application->query_safe("SELECT pg_backend_pid() FROM pfa_mirror LIMIT 1");
for my $call ('pems_attach()', 'pems_detach()')
{
    my (undef, undef, $error) = $t->node->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call");
    like($error, qr/55000: other transactions have the tables of the application\n.*process $pid\./s, "$call gives up after ten seconds, and says who has them");
}
$application->query_safe('ROLLBACK');
$_->quit for $application, $administrator;
is($t->sql("SELECT pems_attach() -> 'success'"), 'true', 'later it has them');

unlike($t->log_since($position), qr/PANIC|was terminated|exited with exit code/, 'the worker lived through it all');
# ---- more locked rows than requests may be under way ----

{
    my @many = $t->load_many('RIO', 'MANY-', 60);
    $t->add_organization('OTHER');
    $t->load('OTHER', 'PFA-1');
    my $session = $t->node->background_psql('postgres');
    $session->query_safe('BEGIN');
    # as a program that fills the mirror in one transaction
    $session->query_safe("UPDATE pfa_mirror SET last_synced_at = now() WHERE pfa_id LIKE 'MANY-%'");
    my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @many);
    $t->commit('RIO', \@ids);
    ok($t->wait_until(sub { $fake->changes(by => 'client') >= 32 && $t->sql('SELECT last_error FROM pems_worker') =~ /^outcomes wait for rows that another session has locked: PFA record "MANY-/ },
            what => 'what the worker says'), 'many outcomes wait for rows that a session has locked, and the worker says so');
    my $elsewhere = $t->commit_edit('OTHER', 'PFA-1', { monthlyRate => 1 });
    my $free      = $t->commit_edit('RIO', $pfa_ids[-1], { monthlyRate => 77 });
    ok($t->wait_status($elsewhere, 'synced', timeout => PROMPT), 'an edit of another organization arrives');
    ok($t->wait_status($free, 'synced', timeout => PROMPT), 'so does one of a record that is free');
    is(count_of('synced', @ids), '0', 'the others still wait');
    $session->query_safe('COMMIT');
    $session->quit;
    ok($t->wait_until(sub { count_of('synced', @ids) == @ids }, what => 'all'), 'when the locks are released all are recorded');
    is(scalar(grep { $_->{pfaId} =~ /^MANY-/ } $fake->changes(by => 'client')), scalar @ids, 'each was sent once');
    ok($t->wait_for("SELECT coalesce(last_error, '') = '' FROM pems_worker"), 'and the worker says nothing any more');
}

# ---- a trigger of the application that fails for all edits of an organization ----

{
    my @all = $t->load_many('RIO', 'ALL-', 60);
    $t->sql('CREATE TRIGGER refuse BEFORE UPDATE ON pfa_mirror FOR EACH ROW WHEN (new.pfa_id LIKE \'ALL-%\') EXECUTE FUNCTION refuse()');
    my $requests = sub { scalar(grep { $_->{pfaId} =~ /^ALL-/ } $fake->requests) };
    $t->set(max_in_flight => 4);
    my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => 4 } ] } @all);
    $t->commit('RIO', \@ids);
    ok($t->wait_until(sub { $t->sql('SELECT last_error FROM pems_worker') =~ /for a minute nothing is sent: organization RIO: the trigger says no/ }, what => 'what the worker says'),
        'outcomes of an organization that cannot be recorded, one after the other: the worker says so');
    like($t->sql("SELECT pems_health() ->> 'problems'"), qr/for a minute nothing is sent: organization RIO: the trigger says no/, 'and so does pems_health()');
    my $elsewhere = $t->commit_edit('OTHER', 'PFA-1', { monthlyRate => 8 });
    ok($t->wait_status($elsewhere, 'synced', timeout => PROMPT), 'another organization goes on');
    sleep 3;
    my $sent = $requests->();
    cmp_ok($sent, '<', 20, "only a few were sent: $sent");
    is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE pfa_id LIKE 'ALL-%' AND status = 'pending'"), 60 - $sent, 'the others wait');
    $t->sql('SELECT pems_resume()');
    ok($t->wait_until(sub { $requests->() > $sent }, what => 'a request'), 'after pems_resume() it is tried again');
    sleep 2;
    is($requests->(), $sent + 1, 'with one edit');
    $t->sql('DROP TRIGGER refuse ON pfa_mirror; SELECT pems_resume(); SELECT pems_retry()');
    ok($t->wait_until(sub { count_of('synced', @ids) == @ids }, what => 'all'), 'when the trigger is gone all go on');
    is($t->sql('SELECT coalesce(last_error, $$$$) FROM pems_worker'), '', 'and the problem is over');
}

# ---- a rule of the application in place of what we write ----

for my $table (qw(pfa_mirror pfa_modification))
{
    my $worker = $t->worker->{pid};
    $fake->fault({ delayMs => 2000, count => 1, pfaId => $pfa_ids[4] });
    $fake->fault({ delayMs => 2000, count => 1, pfaId => $pfa_ids[4] });
    my $count = sub { scalar(grep { $_->{pfaId} eq $pfa_ids[4] && $_->{method} eq 'PUT' } $fake->requests) };
    my $before = $count->();
    my $edit = $t->commit_edit('RIO', $pfa_ids[4], { description => "while $table has a rule" });
    ok($t->wait_until(sub { $count->() == $before + 1 }, what => 'its request'), "$table: an edit is under way");
    $t->sql("CREATE RULE nothing AS ON UPDATE TO $table DO INSTEAD NOTHING");
    ok($t->wait_worker(state => 'not_attached'), "$table: a rule that does nothing in place of our UPDATE: the worker stops");
    like($t->sql("SELECT pems_health() ->> 'problems'"), qr/rule nothing of $table does something else in place of what we write: DROP RULE nothing/, "$table: pems_health() says why");
    isnt($t->item($edit)->{status}, 'failed', "$table: no edit fails");
    $t->sql("DROP RULE nothing ON $table");
    ok($t->wait_status($edit, 'synced'), "$table: without the rule it is recorded");
    is($count->(), $before + 1, "$table: it was sent once");
    is($t->worker->{pid}, $worker, "$table: by the same worker");
}

$t->finish;
