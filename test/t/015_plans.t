# The worker's plans are made while the queue is empty, analyzed, and every index looks like every other; each question must
# still be answered by the index that was made for it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

use constant EDITS => 400;

my $t = PemsSync::Test->new('plans', settings => { rate_limit => 0, max_in_flight => 8, batch_size => 20, poll_interval => '1h' });
$t->add_organization('RIO');
my @records = $t->load_many('RIO', 'PFA-', EDITS);

# how often an index was read, and how many of its entries
my $reads_of = sub { return $t->sql("SELECT idx_scan || ' scans, ' || idx_tup_read || ' entries' FROM pg_stat_user_indexes WHERE indexrelname = '$_[0]'") };

# the statistics of an emptied queue
my $first = $t->commit_edit('RIO', $records[0], { monthlyRate => 1 });
ok($t->wait_status($first, 'synced'), 'an edit has gone through');
$t->sql('VACUUM (ANALYZE) pfa_write_queue');
is($t->sql("SELECT reltuples FROM pg_class WHERE relname = 'pfa_write_queue_record'"), '0', 'the index of unfinished items is known to be empty');
$t->sql("SELECT pg_terminate_backend(pid) FROM pems_worker");
ok($t->wait_for('SELECT pid IS NOT NULL FROM pems_worker'), 'a new worker makes new plans');
$t->sql("SELECT pg_stat_reset_single_table_counters(indexrelid) FROM pg_stat_user_indexes WHERE relname = 'pfa_write_queue'");

$t->commit('RIO', [ $t->edits('RIO', map { [ $_, { monthlyRate => 2 } ] } @records) ]);
ok($t->wait_for("SELECT count(*) = ${\EDITS} FROM pfa_modification WHERE sync_status = 'synced' AND id <> '$first'"), 'all edits are synced');
$t->sql('SELECT pg_stat_force_next_flush()') if $t->sql('SHOW server_version_num') >= 150000;

# one more transaction of the worker, so that it has reported
$t->sql("SELECT pg_terminate_backend(pid) FROM pems_worker");
ok($t->wait_for("SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'pfa_write_queue_record'"), 'the order within a record comes from its own index');
my $read = $t->sql("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'pfa_write_queue_record'");
cmp_ok($read, '<', 20 * EDITS, 'which was not read from end to end');
is($reads_of->('pfa_write_queue_waiting'), '0 scans, 0 entries', 'the index for the status was not read');
$read = $t->sql("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'pfa_write_queue_ready'");
cmp_ok($read, '<', 20 * EDITS, 'nor were the ready items, from the first with each claim');

# Planning takes longer than sending an edit, so a table that grows from nothing to a few pages is no reason to plan anew.
my $plans = PemsSync::Test->new('few_edits', settings => { rate_limit => 0 },
    conf => "shared_preload_libraries = 'pems_sync, pg_stat_statements'\npg_stat_statements.track = top\npg_stat_statements.track_planning = on\n");
$plans->sql('CREATE EXTENSION pg_stat_statements');
$plans->add_organization('RIO');
for my $pfa_id ($plans->load_many('RIO', 'PFA-', 40))
{
    $plans->wait_status($plans->commit_edit('RIO', $pfa_id, { monthlyRate => 1 }), 'synced');
}
my $made = $plans->sql("SELECT sum(plans) FROM pg_stat_statements WHERE query LIKE '%\\_pems\\_claim(%'");
note "$made plans";
cmp_ok($plans->sql("SELECT pg_relation_size('pfa_write_queue') / current_setting('block_size')::integer"), '>', 4, 'forty edits, one by one: the queue has grown from nothing');
cmp_ok($made, '>', 0, 'the claim was planned');
cmp_ok($made, '<=', 2, 'and not again with each page');
$plans->node->stop('fast');

# ---- a session that has planned everything while the queue was empty ----

# Autovacuum would make it plan anew.  The worker sends nothing, so the queue grows with each commit.
$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled'), 'the worker is told to send nothing');
$t->sql('DELETE FROM pfa_write_queue; DELETE FROM pems_sync_stats');
$t->sql("ALTER TABLE $_ SET (autovacuum_enabled = off); VACUUM (ANALYZE) $_") for qw(pfa_write_queue pems_sync_stats);
my @new_drafts = $t->edits('RIO', map { [ $_, { monthlyRate => 5 } ] } @records);
# to be run last in a session, so that what it read is known to the others when it has ended
my $report = $t->sql('SHOW server_version_num') >= 150000 ? 'SELECT pg_stat_force_next_flush();' : '';
my $reads = sub {
    return $t->sql('SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables WHERE relname IN (\'pfa_write_queue\', \'pems_sync_stats\')');
};
my $read_before = $reads->();
$t->sql(join('', map { PemsSync::Test::commit_statement('RIO', [$_]) . ';' } @new_drafts) . $report);
my $rows = $reads->() - $read_before;
note "$rows rows";
cmp_ok($rows, '<', 100 * EDITS, 'each commit reads a few rows, however many it has queued before');
$t->sql("ALTER TABLE $_ RESET (autovacuum_enabled)") for qw(pfa_write_queue pems_sync_stats);
$t->set(enabled => 'on');
ok($t->wait_for("SELECT count(*) = ${\EDITS} FROM pfa_modification WHERE sync_status = 'synced' AND delta = '{\"monthlyRate\": 5}'"), 'and they are all synced');

# The same where there were only a few records; no worker, and no autovacuum, in that database.
{
    my @small = (db => 'small');
    $t->make_database('small');
    $t->sql("INSERT INTO organization VALUES ('o', 'O', 'O'); ALTER TABLE pfa_mirror SET (autovacuum_enabled = off)", @small);
    my $make = sub {
        my ($first, $last) = @_;
        return "INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'o', 'P-' || i, 1, '{}' FROM generate_series($first, $last) i;"
          . "INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) "
          . "SELECT 'm-' || i, 'o', 'P-' || i, 1, '{\"monthlyRate\": 1}', 'u' FROM generate_series($first, $last) i;";
    };
    $t->sql($make->(1, 2) . 'VACUUM (ANALYZE) pfa_mirror', @small);
    $t->sql('SET client_min_messages = error;' . "SELECT pems_commit('o', '{m-1}');" . $make->(3, 1000)
          . join('', map { "SELECT pems_commit('o', '{m-$_}');" } 3 .. 102) . $report, @small);
    ok($t->wait_for("SELECT idx_tup_fetch >= 100 FROM pg_stat_user_tables WHERE relname = 'pfa_mirror'", @small), 'a hundred commits of a session that planned with two records');
    my $fetched = $t->sql("SELECT idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'pfa_mirror'", @small);
    note "$fetched records";
    cmp_ok($fetched, '<', 1000, 'each commit reads its own record, however few there were before');
    is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'pending'", @small), '101', 'and all are queued');
}

# ---- rows that are done with, but cannot be removed ----

my $entries = sub { return $t->sql("SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE relname = 'pfa_write_queue'") };
$t->sql('VACUUM (ANALYZE) pfa_write_queue');
my $holder = $t->node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$holder->query_safe('SELECT count(*) FROM pfa_write_queue');
$t->commit('RIO', [ $t->edits('RIO', map { [ $_, { monthlyRate => 3 } ] } @records) ]);
ok($t->wait_for("SELECT count(*) = 3 * ${\EDITS} FROM pfa_modification WHERE sync_status = 'synced' AND id <> '$first'"), 'with an old snapshot open, all edits are synced');

# the worker is out of the way: now and then it may look from the first item on
$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled'), 'the worker is told to send nothing');
my $before = $entries->();
$t->commit('RIO', [ $t->edits('RIO', [ $_, { monthlyRate => 4 } ]) ]) for @records[ 0 .. 9 ];
my $more = $entries->() - $before;
note "$more entries";
cmp_ok($more, '<', 5 * EDITS, 'a commit does not read those that are done with');

# Back at work, it sweeps about once a second for what it may have passed over.  Only the first time it looks from the start of the
# line, because the setup was read; after that, from where nothing older was ready the last time.
my $line_entries = sub { return $t->sql("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'pfa_write_queue_ready'") };
my $sweep = sub {
    sleep 2;
    my $edit = $t->commit_edit('RIO', $records[ $_[0] ], { monthlyRate => 6 });
    return $t->wait_status($edit, 'synced');
};
$t->set(enabled => 'on');
ok($sweep->(20), 'and more edits, seconds apart');
ok($sweep->(21), 'one by one');
$before = $line_entries->();
ok($sweep->($_), 'another') for 22 .. 25;
sleep 2;
ok($sweep->(26), 'and one so that the worker has reported');
$more = $line_entries->() - $before;
note "$more entries";
cmp_ok($more, '>', 0, 'ready items were looked at');
cmp_ok($more, '<', EDITS / 2, 'without reading those that are done with');
$holder->query_safe('COMMIT');
$holder->quit;

done_testing();
