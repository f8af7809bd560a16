# What the database cannot read: an item whose mirror, or whose payload, is damaged cannot be claimed.  It fails alone, and
# costs its own retries; where nothing can be claimed at all, it is nobody's fault.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('damaged', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 2, poll_interval => '1s' });
$t->add_organization('RIO');
$t->add_organization('HOU');
my @pfa_ids = $t->load_many('RIO', 'PFA-', 40);
$t->load('HOU', map { "HOU-$_" } 1 .. 5);
my $position = $t->log_position;
plan skip_all => 'no extension pg_surgery' if $t->sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_surgery'") eq '0';
$t->sql('CREATE EXTENSION pg_surgery');

sub stop_sending  { $t->set(enabled => 'off'); return ok($t->wait_worker(state => 'disabled'), 'nothing is sent for now') }
sub start_sending { $t->set(enabled => 'on'); return }

sub count_of
{
    my ($status, @ids) = @_;
    return $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = '$status' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')');
}

# Edits of records whose mirror has moved on, so that a claim reads it, and of which a part is lost on the disk.
sub damage
{
    my (@damaged) = @_;
    my $list = PemsSync::Test::text_array(\@damaged);
    $t->sql(<<"SQL");
UPDATE pfa_mirror SET version = 2, data = data || jsonb_build_object('description', (SELECT string_agg(md5(n::text || pfa_id), '') FROM generate_series(1, 400) n))
WHERE pfa_id = ANY ($list);
DO \$\$
DECLARE
    toast regclass := (SELECT reltoastrelid FROM pg_class WHERE oid = 'pfa_mirror'::regclass);
    places tid[];
BEGIN
    EXECUTE format('SELECT array_agg(ctid) FROM %s', toast) INTO places;
    PERFORM heap_force_kill(toast, places);
END
\$\$;
SQL
    return;
}

sub heal
{
    my (@damaged) = @_;
    for my $pfa_id (@damaged)
    {
        $t->sql("UPDATE pfa_mirror SET data = '{}' WHERE pfa_id = '$pfa_id'");
        $t->mirror_from_pems('RIO', $pfa_id);
    }
    return;
}

# ---- one of many ----

stop_sending();
my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } @pfa_ids[ 0 .. 9 ]);
my @others = $t->edits('HOU', map { [ "HOU-$_", { monthlyRate => 1 } ] } 1 .. 3);
$t->commit('RIO', \@ids);
$t->commit('HOU', \@others);
damage($pfa_ids[4]);
my $one = $ids[4];
my @same = grep { $_ ne $one } @ids;
start_sending();
ok($t->wait_until(sub { count_of('synced', @same, @others) == 12 }, what => 'the others', timeout => 10), 'all others are synced');
ok($t->wait_status($one, 'failed', timeout => 10), 'the one that cannot be read is a dead letter in the end');
my $item = $t->item($one);
is($item->{error_code}, 'DATABASE_ERROR', 'of the database\'s kind');
is($item->{retry_count}, 2, 'when its retries were used up');
like($item->{last_error}, qr/^The database could not read what the item needs: .*toast/, 'and says why');
is($t->sql("SELECT string_agg(event_type, ' ' ORDER BY at) FROM pems_audit_log WHERE modification_id = '$one'"), 'COMMITTED NOT_SENT NOT_SENT NOT_SENT', 'each time is in the audit log');
heal($pfa_ids[4]);
$t->retry([$one]);
ok($t->wait_until(sub { count_of('synced', $one) + count_of('conflict', $one) }, what => 'its end'), 'when the mirror is whole again it can be retried');

# ---- more in a row than are believed, in the only organization that has something to send ----

stop_sending();
@ids = $t->edits('RIO', map { [ $_, { monthlyRate => 2 } ] } @pfa_ids[ 10 .. 17 ]);
$t->commit('RIO', \@ids);
damage(@pfa_ids[ 10 .. 15 ]);
start_sending();
ok($t->wait_until(sub { count_of('synced', @ids[ 6, 7 ]) == 2 }, what => 'the others', timeout => 15), 'those behind six that cannot be read are synced');
ok($t->wait_until(sub { count_of('failed', @ids[ 0 .. 5 ]) == 6 }, what => 'dead letters', timeout => 30), 'the six are dead letters in the end');
heal(@pfa_ids[ 10 .. 15 ]);
$t->retry([ @ids[ 0 .. 5 ] ]);
ok($t->wait_until(sub { count_of('synced', @ids) + count_of('conflict', @ids) == 8 }, what => 'their end'), 'and can be retried');

# ---- nothing can be claimed ----

stop_sending();
@ids = $t->edits('RIO', map { [ $_, { monthlyRate => 3 } ] } @pfa_ids[ 20 .. 39 ]);
$t->commit('RIO', \@ids);
$t->sql('REVOKE USAGE, UPDATE ON SEQUENCE pems_claim_order FROM pems_sync_worker');
start_sending();
ok($t->wait_for("SELECT last_error LIKE 'could not claim items: permission denied%' FROM pems_worker"), 'when nothing can be claimed the worker says so');
$t->is_calm('while nothing can be claimed');
sleep 2;
cmp_ok($t->sql('SELECT count(*) FROM pfa_write_queue WHERE modification_id = ANY (' . PemsSync::Test::text_array(\@ids) . ') AND retry_count > 0'), '<=', 3, 'no more than three lose a retry');
is(count_of('failed', @ids), '0', 'none fails');
$t->sql('GRANT USAGE, UPDATE ON SEQUENCE pems_claim_order TO pems_sync_worker');
ok($t->wait_until(sub { count_of('synced', @ids) == 20 }, what => 'all'), 'afterwards all are synced');

unlike($t->log_since($position), qr/PANIC|was terminated|exited with exit code/, 'the worker lived through it all');
$t->finish;
