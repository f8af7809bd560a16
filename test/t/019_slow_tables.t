# The application's tables keep the worker waiting: a lock on a whole table, or a trigger that sleeps.  What concerns one
# edit is that edit's trouble; answers of other organizations are heard in time.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;
use Time::HiRes ();

use constant BATCH => 100;

my $t = PemsSync::Test->new('slow_tables',
    settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1s', max_in_flight => 200, request_timeout => '4s' });
$t->add_organization('RIO');
$t->add_fake('other');
$t->add_organization('HOU', fake => 'other');
my @pfa_ids = $t->load_many('RIO', 'PFA-', BATCH);
my @other_ids = $t->load_many('HOU', 'HOU-', 60);
my $position = $t->log_position;

sub count_of
{
    my ($status, @ids) = @_;
    return $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = '$status' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')');
}

# The longest time, in seconds, that the worker was away from its loop, seen while the given time passes.
sub longest_absence
{
    my ($seconds) = @_;
    my $longest = 0;
    my $end = Time::HiRes::time() + $seconds;
    while (Time::HiRes::time() < $end)
    {
        my $age = $t->sql('SELECT extract(epoch FROM clock_timestamp() - last_heartbeat) FROM pems_worker');
        $longest = $age if $age > $longest;
        Time::HiRes::sleep(0.05);
    }
    return $longest;
}

# ---- a lock on the whole table while a hundred outcomes wait for locked rows ----

my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @pfa_ids);
my $session = $t->node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe("SELECT count(*) FROM (SELECT FROM pfa_mirror WHERE organization_id = 'org-rio' FOR UPDATE) m");
$t->commit('RIO', \@ids);
ok($t->wait_until(sub { $t->fake->changes(by => 'client') == BATCH }, what => 'the requests'), 'all edits are in PEMS, and wait to be recorded');
Time::HiRes::sleep(0.5);

my ($fault) = $t->fake('other')->fault({ delayMs => 2500 });
my @slow = $t->edits('HOU', map { [ $_, { monthlyRate => 2 } ] } @other_ids[ 0 .. 9 ]);
$t->commit('HOU', \@slow);
ok($t->wait_until(sub { $t->worker->{in_flight} == 10 }, what => 'requests under way'), 'the other organization waits for answers');
$session->query_safe('LOCK TABLE pfa_modification');
my $absence = longest_absence(6);
note("away for $absence s");
cmp_ok($absence, '<', 2.5, 'the worker is never away for long while the table is locked');
$session->query_safe('COMMIT');
$session->quit;
ok($t->wait_until(sub { count_of('synced', @ids, @slow) == BATCH + 10 }, what => 'all'), 'when the lock is released all is recorded');
is(scalar(grep { $t->attempts($_) ne 'PUT 200' } @slow), 0, 'no answer of the other organization came too late');
$t->fake('other')->clear_faults($fault);

# ---- a trigger that sleeps for one edit ----

# A sleeping trigger on that table for the row that the condition names.
sub add_sleeping_trigger
{
    my ($table, $condition) = @_;
    $t->sql(<<"SQL");
CREATE OR REPLACE FUNCTION sleep_long() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_sleep(40); RETURN new; END \$\$;
CREATE TRIGGER sleep_long BEFORE UPDATE ON $table FOR EACH ROW WHEN ($condition) EXECUTE FUNCTION sleep_long();
SQL
    return;
}

sub sleeps
{
    my ($name, $rate, $table, $condition, $shown) = @_;
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), "$name: nothing is sent for now");
    my ($one, @same) = $t->edits('RIO', map { [ $_, { monthlyRate => $rate } ] } @pfa_ids[ 0 .. 9 ]);
    my @others = $t->edits('HOU', map { [ $_, { monthlyRate => $rate } ] } @other_ids[ 0 .. 9 ]);
    add_sleeping_trigger($table, $condition->($one));
    $t->commit('RIO', [ $one, @same ]);
    $t->commit('HOU', \@others);
    $t->set(enabled => 'on');

    ok($t->wait_until(sub { count_of('synced', @same, @others) == 19 }, what => 'the others', timeout => 15), "$name: the others are synced");
    ok($t->wait_until(sub { $t->item($one)->{status} eq 'failed' }, what => 'its failure', timeout => 15), "$name: the edit is a dead letter");
    my $item = $t->item($one);
    is($item->{error_code}, 'DATABASE_ERROR', "$name: of the database's kind");
    like($item->{last_error}, qr/took longer than 2 s/, "$name: which says why");
    is($t->attempts($one), 'PUT 200 DATABASE_ERROR', "$name: it was sent once, and the audit log has the answer");
    # where showing it is slow, too, that is given up, after a moment
    ok($t->wait_until(sub { $t->modification($one)->{sync_status} eq $shown }, what => $shown), "$name: the modification says $shown");
    my $later = $t->commit_edit('HOU', $other_ids[ 10 + $rate ], { monthlyRate => $rate });
    ok($t->wait_status($later, 'synced', timeout => 10), "$name: a later edit of another organization arrives");

    $t->sql("DROP TRIGGER sleep_long ON $table");
    $t->retry([$one]);
    ok($t->wait_status($one, 'synced'), "$name: without the trigger it can be retried");
    is($t->attempts($one), 'PUT 200 DATABASE_ERROR, GET 200', "$name: and is found in PEMS");
    return;
}

sleeps('modification', 11, 'pfa_modification', sub { "new.id = '$_[0]' AND new.sync_status = 'synced'" }, 'failed');
sleeps('modification, always', 12, 'pfa_modification', sub { "new.id = '$_[0]' AND new.sync_status <> 'queued'" }, 'queued');
sleeps('mirror', 13, 'pfa_mirror', sub { "new.pfa_id = '$pfa_ids[0]' AND new.organization_id = 'org-rio'" }, 'failed');

# ---- a trigger that raises the error of a canceled statement itself ----

my ($one) = $t->edits('RIO', [ $pfa_ids[20], { monthlyRate => 20 } ]);
$t->sql(<<"SQL");
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'I am canceled' USING ERRCODE = 'query_canceled'; END \$\$;
CREATE TRIGGER cancel BEFORE UPDATE ON pfa_modification FOR EACH ROW WHEN (new.id = '$one' AND new.sync_status <> 'queued') EXECUTE FUNCTION cancel();
SQL
$t->commit('RIO', [$one]);
ok($t->wait_until(sub { $t->item($one)->{status} eq 'failed' }, what => 'its failure', timeout => 10), 'a trigger that cancels by itself makes a dead letter');
like($t->item($one)->{last_error}, qr/I am canceled/, 'which says why');
$t->sql('DROP TRIGGER cancel ON pfa_modification');
$t->retry([$one]);
ok($t->wait_status($one, 'synced'), 'and can be retried');

unlike($t->log_since($position), qr/PANIC|was terminated|exited with exit code/, 'the worker lived through it all');
$t->finish;
