# What administrators do to a database with the extension, while edits flow: rewrite its tables, lock them, truncate them,
# rename the database, its schema and the application's tables, and drop the application's role.  Nothing is lost, nothing is sent twice,
# and where somebody must act, pems_health() says so.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# The contract for what must begin: a second or two; the rest is for a noisy machine.
use constant SOON => 30;
# How long a table stays locked; LOCK_SECONDS=60 for a minute.
use constant LOCKED => $ENV{LOCK_SECONDS} // 2;
# A health check that meets a locked table waits a second.
use constant ANSWERED => 5;

my $t = PemsSync::Test->new('administered', databases => [ 'own', 'lost' ],
    settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1s', max_in_flight => 8, batch_size => 8 });
$t->add_organization('RIO');
my $fake    = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', 60);
my $rate    = 0;
ok($t->wait_worker(timeout => SOON), 'the worker runs');
my $position = $t->log_position;

sub health { return decode_json($t->sql('SELECT pems_health()', @_)) }

sub problems { return join ' ', @{ health(@_)->{problems} } }

# An edit of each of the first records, committed one by one, as users do.
sub edit_some
{
    my ($count) = @_;
    $rate++;
    return map { $t->commit_edit('RIO', $_, { monthlyRate => $rate }) } @pfa_ids[ 0 .. $count - 1 ];
}

sub count_of
{
    my ($status, @ids) = @_;
    return $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = '$status' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')');
}

sub all_synced
{
    my ($name, @ids) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($t->wait_until(sub { count_of('synced', @ids) == @ids }, what => 'all edits', timeout => 3 * SOON), $name);
}

sub sent_once
{
    my ($name, @ids) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(join(', ', grep { $_ ne 'PUT 200' } map { $t->attempts($_) } @ids), '', $name);
}

# ---- tables are rewritten ----

subtest 'VACUUM FULL, CLUSTER, REINDEX, SET TABLESPACE and ANALYZE of every table while edits flow' => sub {
    my $space = $t->directory . '/space';
    mkdir $space or die "$space: $!";
    $t->sql("CREATE TABLESPACE other LOCATION '$space'", db => 'postgres');
    # every answer takes its time, so that each statement finds requests under way
    my ($fault) = $fake->fault({ delayMs => 20 });
    my @tables = map { $_->{name} } $t->rows(<<'SQL');
SELECT c.oid::regclass AS name FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname
SQL
    cmp_ok(scalar(@tables), '>=', 14, scalar(@tables) . ' tables, partitions and those of the application among them');
    my @ids;
    for my $table (@tables)
    {
        push @ids, edit_some(2);
        my @statements = ("VACUUM FULL $table", "REINDEX TABLE $table", "REINDEX TABLE CONCURRENTLY $table", "ALTER TABLE $table SET TABLESPACE other", "ANALYZE $table");
        for my $index (map { $_->{name} } $t->rows("SELECT i.indexrelid::regclass AS name FROM pg_index i WHERE i.indrelid = '$table'::regclass AND i.indpred IS NULL"))
        {
            push @statements, "CLUSTER $table USING $index", "ALTER INDEX $index SET TABLESPACE other";
        }
        $t->sql(join ";\n", @statements);
    }
    $t->sql('VACUUM FULL ANALYZE');
    all_synced('all edits are synced', @ids, edit_some(5));
    sent_once('each was sent once', @ids);
    $fake->clear_faults($fault);
    is_deeply([ @{ health() }{qw(status problems)} ], [ 'ok', [] ], 'pems_health() has nothing to say');
};

# ---- tables are locked ----

# A session that has locked a table, and its process.
sub lock_table
{
    my ($table) = @_;
    my $session = $t->node->background_psql('own');
    $session->query_safe('BEGIN');
    $session->query_safe("LOCK TABLE $table IN ACCESS EXCLUSIVE MODE");
    my ($out) = $session->query('SELECT pg_backend_pid()');
    my ($pid) = $out =~ /(\d+)/;
    return ($session, $pid);
}

for my $table (qw(pfa_write_queue pems_audit_log pfa_mirror pems_sync_stats))
{
    subtest "a session has locked $table" => sub {
        my $worker = $t->worker->{pid};
        my $began  = time;
        # answers come while the table is locked
        my ($fault) = $fake->fault({ delayMs => 3000 });
        my @ids = edit_some(5);
        my $next = $t->edit('RIO', $pfa_ids[6], { monthlyRate => $rate });
        my ($session, $pid) = lock_table($table);
        ok($t->wait_until(sub { $fake->stats->{waiting} > 0 }, what => 'requests'), 'edits are under way');

        my $commit = PemsSync::Test::commit_statement('RIO', [$next]);
        like($t->sql_error("SET lock_timeout = '300ms'; $commit"), qr/^55P03:/, 'a commit waits, and its own lock_timeout ends it');
        my $waiting = $t->node->background_psql('own');
        $waiting->query_until(qr/begun/, "\\echo begun\n$commit;\n");

        my $asked = time;
        my $health = health();
        cmp_ok(time - $asked, '<', ANSWERED, 'pems_health() does not wait for the lock');
        isnt($health->{status}, 'ok', 'all is not well');
        like(join(' ', @{ $health->{problems} }), qr/Session $pid has locked \Q$table\E\b.*: edits wait meanwhile\./, 'it names the session and the table');
        ok($t->wait_until(sub { problems() =~ /The worker says: .*canceling statement due to lock timeout/ }, what => 'what the worker says', timeout => SOON), 'and what the worker says');
        $t->is_calm('while the table is locked', db => 'own') if $table ne 'pfa_mirror';
        sleep 0.1 while time < $began + LOCKED;
        is($t->worker->{pid}, $worker, 'the worker lives');

        $session->query_safe('COMMIT');
        $session->quit;
        $waiting->query('SELECT 1');
        $waiting->quit;
        all_synced('when the lock is gone all edits are synced, and the commit that waited', @ids, $next);
        sent_once('each was sent once', @ids, $next);
        ok($t->wait_until(sub { health()->{status} eq 'ok' }, what => 'health', timeout => SOON), 'all is well again') or diag problems();
        $fake->clear_faults($fault);
    };
}

# ---- tables are truncated ----

subtest 'TRUNCATE' => sub {
    $t->sql('CREATE ROLE app LOGIN; GRANT pems_sync_user TO app; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON organization, pfa_mirror, pfa_modification TO app');
    $t->sql("SELECT pems_pause('org-rio')");
    my @ids = edit_some(3);
    for my $table (qw(pfa_write_queue pems_claim pems_recheck pfa_sync_conflict pems_mirror_version pems_audit_log pems_sync_stats pems_sync_job pems_credential pems_pause pems_control pems_field))
    {
        like($t->sql_error("SET ROLE app; TRUNCATE $table"), qr/^42501:/, "the application's role may not truncate $table");
    }
    for my $table ('pfa_mirror', 'pfa_modification CASCADE', 'organization CASCADE', 'pfa_write_queue', 'pems_claim', 'pems_recheck', 'pfa_sync_conflict')
    {
        like($t->sql_error("TRUNCATE $table"), qr/^55000: .*cannot truncate/, "nor does a superuser truncate $table while edits wait");
    }
    $t->sql("SELECT pems_resume('org-rio')");
    all_synced('they are still there, and synced', @ids);

    ok($t->quiet, 'nothing waits');
    $t->sql('BEGIN; TRUNCATE pfa_write_queue, pems_claim, pems_recheck, pfa_sync_conflict; '
          . "SELECT pems_commit('org-rio', ARRAY['" . $t->edit('RIO', $pfa_ids[0], { monthlyRate => 900 }) . "']); ROLLBACK");
    is($t->sql('SELECT count(*) > 0 FROM pfa_write_queue'), 't', 'when nothing waits it may; a rollback brings all back');

};

# In a database of its own, because the checker misses what is lost there.
subtest 'TRUNCATE of the queue by a superuser who switches the trigger off' => sub {
    my @own = (db => 'lost');
    $t->add_fake('lost');
    $t->add_organization('LOST', fake => 'lost', @own);
    $t->load('LOST', 'PFA-1', 'PFA-2');
    $t->sql("SELECT pems_pause('org-lost')", @own);
    my $lost = $t->commit_edit('LOST', 'PFA-1', { monthlyRate => 1 });
    $t->sql('ALTER TABLE pfa_write_queue DISABLE TRIGGER pems_refuse_truncate; TRUNCATE pfa_write_queue; '
          . 'ALTER TABLE pfa_write_queue ENABLE ALWAYS TRIGGER pems_refuse_truncate', @own);
    $t->sql("SELECT pems_resume('org-lost')", @own);
    my $later = $t->commit_edit('LOST', 'PFA-2', { monthlyRate => 2 });
    ok($t->wait_status($later, 'synced', timeout => SOON, @own), 'later edits go on');
    is($t->modification($lost, @own)->{sync_status}, 'queued', 'what was lost is queued in name');
    is(health(@own)->{queue}{pending}, 1, 'and in the statistics');
    # as docs/SCHEMA.md says
    $t->sql(<<'SQL', @own);
BEGIN;
LOCK TABLE pfa_write_queue IN SHARE ROW EXCLUSIVE MODE;
UPDATE pfa_modification m SET sync_status = 'draft'
WHERE m.sync_status IN ('queued', 'syncing') AND NOT EXISTS (SELECT FROM pfa_write_queue q WHERE q.modification_id = m.id AND q.unfinished);
SELECT _pems_recount();
COMMIT;
SQL
    is(health(@own)->{queue}{pending}, 0, 'counted again, the statistics are right');
    $t->commit('LOST', [$lost]);
    ok($t->wait_status($lost, 'synced', timeout => SOON, @own), 'a draft again, it is committed and synced');
    is(scalar(my @changes = $t->fake('lost')->changes(by => 'client')), 2, 'each edit once');
    is(health(@own)->{status}, 'ok', 'all is well') or diag problems(@own);
    delete $t->{organizations}{LOST};
    $t->fake('lost')->stop;
    delete $t->{fakes}{lost};
};

# ---- the application's tables change ----

subtest 'ALTER TABLE of the application\'s tables' => sub {
    $t->sql('ALTER TABLE pfa_modification ADD COLUMN ticket text; ALTER TABLE pfa_mirror ADD COLUMN note text DEFAULT \'x\'; ALTER TABLE organization ADD COLUMN town text');
    all_synced('columns of their own are welcome', edit_some(3));

    my %changes = (
        'a column' => [ 'ALTER TABLE pfa_mirror RENAME COLUMN data TO record', 'ALTER TABLE pfa_mirror RENAME COLUMN record TO data', qr/column pfa_mirror\.data \(jsonb\) is missing/ ],
        'a table'  => [ 'ALTER TABLE pfa_modification RENAME TO edits',        'ALTER TABLE edits RENAME TO pfa_modification',        qr/table pfa_modification is missing/ ]);
    for my $what (sort keys %changes)
    {
        my ($away, $back, $problem) = @{ $changes{$what} };
        $t->set(enabled => 'off');
        ok($t->wait_worker(state => 'disabled'), "$what: nothing is sent for now");
        my @ids = edit_some(4);
        my $draft = $t->edit('RIO', $pfa_ids[10], { monthlyRate => $rate });
        $t->sql($away);
        $t->set(enabled => 'on');
        ok($t->wait_worker(state => 'not_attached', timeout => SOON), "$what renamed: the worker is not attached");
        my $health = health();
        is_deeply([ @$health{qw(status attached)} ], [ 'down', JSON::PP::false ], "$what renamed: pems_health() says down, and not attached");
        like(join(' ', @{ $health->{problems} }), qr/run SELECT pems_attach\(\).*$problem/, "$what renamed: it says what is missing, and what to do");
        like($t->sql_error(PemsSync::Test::commit_statement('RIO', [$draft])), qr/^55000: .*not attached/, "$what renamed: pems_commit() refuses");
        $t->sql($back);
        $t->sql('SELECT pems_attach()');
        all_synced("$what renamed back: after pems_attach() all is synced", @ids);
        is(health()->{status}, 'ok', "$what renamed back: all is well") or diag problems();
    }
};

subtest 'pems_control is emptied' => sub {
    $t->sql('TRUNCATE pems_control');
    my $health = health();
    is($health->{status}, 'down', 'pems_health() says down');
    like(join(' ', @{ $health->{problems} }), qr/not attached to the tables of the application; run SELECT pems_attach\(\)/, 'and what to do');
    $t->sql('SELECT pems_attach()');
    ok($t->wait_until(sub { health()->{status} eq 'ok' }, what => 'health'), 'which helps');
};

# ---- the schema ----

subtest 'the schema of the extension' => sub {
    like($t->sql_error('ALTER EXTENSION pems_sync SET SCHEMA pg_catalog'), qr/^0A000: .*does not support SET SCHEMA/, 'ALTER EXTENSION ... SET SCHEMA is refused');
    like($t->sql_error('ALTER SCHEMA public RENAME TO planning'), qr/^0A000: .*schema public cannot be renamed/, 'ALTER SCHEMA ... RENAME is refused, too');
    is($t->sql_error('CREATE SCHEMA mine; ALTER SCHEMA mine RENAME TO yours; DROP SCHEMA yours'), '', 'of other schemas it is not');
    is($t->sql_error('ALTER SCHEMA public OWNER TO CURRENT_USER'), '', 'nor is another owner');
    all_synced('edits go on', edit_some(2));
};

# ---- the application's role ----

subtest 'the application\'s role owns the tables, and goes' => sub {
    $t->sql('ALTER TABLE organization OWNER TO app; ALTER TABLE pfa_mirror OWNER TO app; ALTER TABLE pfa_modification OWNER TO app; GRANT CREATE ON SCHEMA public TO app');
    all_synced('its tables are written as their owner', edit_some(2));
    like($t->sql_error('DROP ROLE app'), qr/^2BP01:/, 'DROP ROLE is refused while it owns them');
    like($t->sql_error('DROP OWNED BY app'), qr/^2BP01:/, 'so is DROP OWNED: the queue refers to its tables');
    $t->sql('CREATE ROLE heir; REASSIGN OWNED BY app TO heir');
    my @ids = edit_some(2);
    all_synced('after REASSIGN OWNED edits go on', @ids);
    $t->sql('DROP OWNED BY app');
    is($t->sql_error('DROP ROLE app'), '', 'then DROP ROLE succeeds');
    all_synced('and edits go on', edit_some(2));
    is(health()->{status}, 'ok', 'all is well') or diag problems();
};

# ---- the database gets another name ----

subtest 'ALTER DATABASE ... RENAME' => sub {
    my @before = edit_some(3);
    all_synced('edits are synced', @before);
    like($t->sql_error('ALTER DATABASE own RENAME TO renamed', db => 'postgres'), qr/^55006:/, 'the worker holds the database');
    # docs/SCHEMA.md: the new name first, then a restart, then the rename
    $t->node->append_conf('postgresql.conf', "pems_sync.databases = 'renamed,lost'");
    $t->node->restart;
    my $while = $t->edit('RIO', $pfa_ids[0], { monthlyRate => 1000 });
    my ($status, $out, $err) = $t->node->psql('own', PemsSync::Test::commit_statement('RIO', [$while]));
    like($err, qr/WARNING: .*worker of database "own" is not running/, 'edits are queued meanwhile, with a warning');
    my $health = health();
    is($health->{status}, 'down', 'pems_health() says down');
    like($health->{problems}[0], qr/No worker is configured for database "own"/, 'and why');
    is($t->sql_error('ALTER DATABASE own RENAME TO renamed', db => 'postgres'), '', 'now nobody holds it');

    $t->{db} = 'renamed';
    $t->{organizations}{RIO}{db} = 'renamed';
    ok($t->wait_worker(timeout => SOON), 'under the new name its worker starts by itself');
    ok($t->wait_status($while, 'synced', timeout => SOON), 'and sends what was queued: the database is the one that was attached');
    all_synced('edits go on', edit_some(2));
    is(health()->{status}, 'ok', 'all is well') or diag problems();
};

unlike($t->log_since($position), qr/PANIC|was terminated by signal|TRAP/, 'nothing crashed');
$t->finish;
