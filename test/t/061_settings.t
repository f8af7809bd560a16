# Settings of a database or of all roles (ALTER DATABASE, ALTER ROLE ALL) that would change how statements run, what they may use,
# or what texts look like.  The worker fixes its own; what the functions return in a session does not depend on the session's.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

use constant SOON => 60;

my $t = PemsSync::Test->new('settings', settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1h', max_in_flight => 8 });
my $version = $t->sql("SELECT current_setting('server_version_num')::integer / 10000");

# What a session may have of its own, so that only its texts and plans change ...
my @texts_and_plans = (
    search_path => 'pg_temp', DateStyle => 'Postgres, DMY', IntervalStyle => 'sql_standard', TimeZone => 'Asia/Kolkata', lc_monetary => 'C.UTF-8',
    bytea_output => 'escape', extra_float_digits => '-15', xmloption => 'document', standard_conforming_strings => 'off', backslash_quote => 'off',
    escape_string_warning => 'off', quote_all_identifiers => 'on', array_nulls => 'off', transform_null_equals => 'on', row_security => 'off', synchronous_commit => 'off',
    plan_cache_mode => 'force_custom_plan', join_collapse_limit => 1, from_collapse_limit => 1, geqo_threshold => 2, constraint_exclusion => 'on', jit => 'off', work_mem => '64kB',
    temp_file_limit => '1MB', parallel_setup_cost => 0, parallel_tuple_cost => 0, min_parallel_table_scan_size => 0,
    default_table_access_method => 'another_heap', default_transaction_deferrable => 'on', session_replication_role => 'replica',
    statement_timeout => '1min', lock_timeout => '1min', idle_in_transaction_session_timeout => '1min', idle_session_timeout => '1min',
    (map { ("enable_$_" => 'off') } qw(seqscan indexscan indexonlyscan bitmapscan tidscan nestloop hashjoin mergejoin sort hashagg material memoize
        incremental_sort gathermerge)));
# ... to compile every statement, and give it to another process, which takes its time ...
my @slow = (($version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode') => 'on', jit => 'on', jit_above_cost => 0, jit_inline_above_cost => 0, jit_optimize_above_cost => 0);
# ... and what would keep a worker from its work.
my @for_the_worker = (
    default_transaction_read_only => 'on', default_transaction_isolation => 'serializable', statement_timeout => '1ms', lock_timeout => '1ms',
    idle_in_transaction_session_timeout => '1ms', idle_session_timeout => '1ms', temp_file_limit => 0, exit_on_error => 'on',
    ($version >= 17 ? (transaction_timeout => '1ms') : ()));

sub settings
{
    my ($format, @settings) = @_;
    my $text = '';
    while (my ($name, $value) = splice @settings, 0, 2)
    {
        $text .= sprintf "$format;\n", "$name = " . ($name eq 'search_path' || $name =~ /Style/ ? $value : "'$value'");
    }
    return $text;
}

my $in_session = settings('SET %s', @texts_and_plans);
my $slowly     = settings('SET %s', @slow);
my %is_slow    = map { $_ => 1 } qw(pems_sync_status pems_conflict);

$t->sql('CREATE ACCESS METHOD another_heap TYPE TABLE HANDLER heap_tableam_handler');
$t->add_organization($_) for qw(RIO LIMA);
my $fake    = $t->fake;
my @pfa_ids = $t->load_many('RIO', 'PFA-', 40);
$t->load('LIMA', 'PFA-1');

# ---- the functions ----

# Something of everything: synced, a conflict, a dead letter, held, waiting, old, drafts, and a credential that is refused.
sub make_everything
{
    $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_ids[0], changes => { monthlyRate => 1 } });
    $fake->fault({ pfaId => $pfa_ids[1], status => 422 });
    my @ids = map { $t->commit_edit('RIO', $pfa_ids[$_], { monthlyRate => 2.5 }) } 0 .. 3;
    $t->commit_edit('RIO', $pfa_ids[0], { dor => 'PROJECT' });
    ok($t->quiet, 'a conflict, a dead letter, a held edit');
    $t->sql("SELECT pems_pause('org-lima', E'it\\'s \\\\ inventory')");
    my $old = $t->commit_edit('LIMA', 'PFA-1', { monthlyRate => 3 });
    $t->sql("UPDATE pfa_write_queue SET created_at = now() - interval '1234567 seconds' WHERE modification_id = '$old'; "
          . "INSERT INTO pems_sync_stats (organization_id, hour, folded, completed, sync_seconds) VALUES ('*', date_trunc('hour', now(), 'UTC') - interval '30 hours', true, 7, 86.4)");
    return @ids;
}

my ($disputed, $dead) = make_everything();
my $conflict = $t->conflict($disputed)->{id};
my ($draft)  = $t->edits('RIO', [ $pfa_ids[20], { forecastStart => '2025-03-01', description => "a 'quoted' \\ text" } ]);
my $hour     = "date_trunc('hour', now(), 'UTC')";

# What is read twice must be the same.  What counts seconds may go on by a few: its last digits are left out.
my %reads = (
    pems_sync_status      => q{SELECT pems_sync_status() - 'oldestQueuedSeconds' - 'nextSyncAt'},
    'pems_sync_status: a window that begins within an hour' => "SELECT pems_sync_status(start_date => $hour - interval '29 hours 20 minutes') - 'oldestQueuedSeconds' - 'nextSyncAt'",
    'pems_sync_status: seconds' => q{SELECT (pems_sync_status('org-lima') ->> 'oldestQueuedSeconds')::bigint / 1000},
    'pems_sync_status: items'   => q{SELECT pems_sync_status('org-rio', 'failed') -> 'items'},
    pems_sync_state       => "SELECT pems_sync_state('org-rio', ARRAY['$pfa_ids[0]', '$pfa_ids[1]', '$pfa_ids[2]', '$pfa_ids[20]'])",
    pems_conflicts        => q{SELECT pems_conflicts('org-rio')},
    pems_conflict         => "SELECT pems_conflict('$conflict')",
    pems_validate         => q{SELECT pems_validate('{"monthlyRate": -1, "forecastStart": "2025-07-01", "forecastEnd": "2025-06-01T00:00:00+05:30", "dor": "X"}')},
    pems_rollback_preview => "SELECT pems_rollback_preview('org-rio', '$pfa_ids[2]', 1)",
    pems_public_key       => q{SELECT pems_public_key()},
    pems_health           => q{SELECT jsonb_set(pems_health(), '{queue,oldestQueuedSeconds}', to_jsonb((pems_health() #>> '{queue,oldestQueuedSeconds}')::bigint / 1000)) #- '{worker,lastHeartbeat}'
                               #- '{problems}'},
    'pems_health: problems' => q{SELECT regexp_replace(p, '[0-9]{3} seconds', 'seconds') FROM jsonb_array_elements_text(pems_health() -> 'problems') p},
    pems_audit            => q{SELECT event_type, pfa_id, http_method, http_status, error_code, request, response FROM pems_audit(page_size => 100)},
    views                 => q{SELECT pfa_id, held_by IS NOT NULL FROM pems_queue ORDER BY commit_seq},
    pems_dead_letters     => q{SELECT pfa_id, error_code, holding, payload FROM pems_dead_letters},
    pems_endpoints        => q{SELECT organization_code, api_url, endpoint, credential, key_id, paused, breaker FROM pems_endpoints ORDER BY 1},
);
$reads{$_} =~ s/\bpems_(?=\w)/public.pems_/g for keys %reads;

for my $name (sort keys %reads)
{
    my $plain  = $t->sql($reads{$name});
    my $strange = $t->sql($in_session . ($is_slow{$name} ? $slowly : '') . $reads{$name});
    isnt($plain, '', "$name: there is something to see");
    is($strange, $plain, "$name: the same in a session with strange settings");
}

# What changes something: by sessions with strange settings, and then by plain ones.
my %named = (strange => $in_session, plain => '');
my $next  = 21;
for my $session (sort keys %named)
{
    my $run = sub { return decode_json($t->sql("$named{$session}SELECT public.$_[0]")) };
    my @ids = $t->edits('RIO', map { [ $pfa_ids[ $next + $_ ], { monthlyRate => 9.75, description => 'a \\ b' } ] } 0 .. 3);
    my $ids = PemsSync::Test::text_array(\@ids);
    is($run->("pems_commit('org-rio', $ids)")->{queuedCount}, 4, "$session: pems_commit queues");
    ok($t->wait_status($_, 'synced', timeout => SOON), "$session: $_ is synced") for @ids;
    is($fake->record('RIO', $pfa_ids[$next])->{data}{description}, 'a \\ b', "$session: with its text");
    is($run->("pems_rollback('org-rio', '$pfa_ids[$next]', 1, 'a mistake', 'me')")->{success}, JSON::PP::true, "$session: pems_rollback");
    ok($t->wait_for("SELECT bool_and(sync_status = 'synced') FROM pfa_modification WHERE pfa_id = '$pfa_ids[$next]'"), "$session: is done");
    is($fake->record('RIO', $pfa_ids[$next])->{data}{monthlyRate}, 5500, "$session: and restores");
    is($run->("pems_pause('org-rio')")->{success}, JSON::PP::true, "$session: pems_pause");
    my ($gone, $sent) = map { $t->commit_edit('RIO', $pfa_ids[$next], { monthlyRate => $_ }) } 11, 12;
    is($run->("pems_discard('$gone')")->{outcome}, 'cancelled', "$session: pems_discard");
    is($run->("pems_write_sync('org-rio', ARRAY['$sent'], 'high')")->{queuedCount}, 1, "$session: pems_write_sync");
    is($run->("pems_resume('org-rio')")->{success}, JSON::PP::true, "$session: pems_resume");
    ok($t->wait_status($sent, 'synced', timeout => SOON), "$session: what waited is sent");
    is($run->("pems_attach()")->{success}, JSON::PP::true, "$session: pems_attach");
    is($run->("pems_health_check('org-rio')")->{healthy}, JSON::PP::true, "$session: pems_health_check");
    $next += 4;
}
$t->sql("${in_session}INSERT INTO public.pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('new', 'org-rio', 'NEW-1', 7, '{}')");
is($t->sql("SELECT version FROM pems_mirror_version WHERE pfa_id = 'NEW-1'"), '7', 'the history is complete, though session_replication_role is replica');
$t->sql("DELETE FROM pfa_mirror WHERE id = 'new'; DELETE FROM pems_mirror_version WHERE pfa_id = 'NEW-1'");
is($t->sql("SELECT count(*) FROM pems_sync_stats WHERE hour > '-infinity' AND extract(minute FROM hour AT TIME ZONE 'UTC') <> 0"), '0', 'what is counted, is counted by full hours of UTC');

# pems-credential has the settings of its role, too.
{
    local $ENV{PGOPTIONS} = '-c bytea_output=escape -c DateStyle=SQL -c standard_conforming_strings=off';
    $t->set_credential('RIO', 'token-of-RIO');
    my $id = $t->commit_edit('RIO', $pfa_ids[5], { monthlyRate => 13 });
    ok($t->wait_status($id, 'synced', timeout => SOON), 'a credential that was set by a session with strange settings opens');
}

# A table of the application with policies that its owner need not obey, in a session that refuses to be shown less than all.
{
    $t->sql('CREATE ROLE app; ALTER TABLE pfa_modification OWNER TO app; GRANT CREATE, USAGE ON SCHEMA public TO app; ALTER TABLE pfa_modification ENABLE ROW LEVEL SECURITY; '
          . 'CREATE POLICY no_rows ON pfa_modification USING (false)');
    my $id = $t->edit('RIO', $pfa_ids[6], { monthlyRate => 14 });
    is($t->sql_error('SET row_security = off; ' . PemsSync::Test::commit_statement('RIO', [$id])), '', 'row_security off: a policy for others lets pems_commit() write');
    ok($t->wait_status($id, 'synced', timeout => SOON), 'and the worker');
    $t->sql('ALTER TABLE pfa_modification DISABLE ROW LEVEL SECURITY; ALTER TABLE pfa_modification OWNER TO CURRENT_USER');
}

# ---- the worker ----

{
    # The sessions of this test keep what they need.
    my $names = join ' ', map { my ($name) = @$_; "-c $name=" . $t->sql("SHOW $name") =~ s/([\\ ])/\\$1/gr }
      grep { $_->[0] !~ /search_path/ } map { [ $_ ] } sort keys %{ { @texts_and_plans, @slow, @for_the_worker } };
    $t->sql(settings('ALTER DATABASE postgres SET %s', @texts_and_plans, @slow) . settings('ALTER ROLE ALL SET %s', @for_the_worker) . settings('ALTER DATABASE postgres SET %s', @for_the_worker));
    local $ENV{PGOPTIONS} = "$names -c search_path=public";
    is($t->sql('SHOW default_transaction_read_only'), 'off', 'the test itself goes on as before');

    my $pid = $t->worker->{pid};
    my $position = $t->log_position;
    # in a month without partitions: they are made from dates that become texts
    $t->sql('DO $$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = \'pems_audit_log\'::regclass AND inhrelid::regclass::text ~ \'_[0-9]{4}_[0-9]{2}$\' LOOP '
          . 'EXECUTE format(\'CREATE TABLE kept_%s AS TABLE %s; DROP TABLE %s\', p, p, p); END LOOP; END $$');
    $t->sql("SELECT pg_terminate_backend($pid)");
    ok($t->wait_worker(not_pid => $pid, timeout => SOON), 'another worker, in a database with all of these settings');
    ok($t->wait_for("SELECT count(*) = 2 FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass AND inhrelid::regclass::text ~ '_[0-9]{4}_[0-9]{2}\$'", timeout => SOON),
        'it makes the partitions of the audit log');
    is($t->sql("SELECT count(*) FROM pg_class c WHERE c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass) "
              . "AND pg_get_expr(c.relpartbound, c.oid) ~ '-01 00:00:00\\+00.*-01 00:00:00\\+00'"), '2', 'from the first of a month to the first of the next, UTC');
    $t->sql('DO $$ DECLARE k regclass; BEGIN FOR k IN SELECT c.oid FROM pg_class c WHERE c.relname LIKE \'kept_%\' LOOP '
          . 'EXECUTE format(\'INSERT INTO pems_audit_log SELECT * FROM %s; DROP TABLE %s\', k, k); END LOOP; END $$');

    my @records = $t->load_many('RIO', 'MANY-', 120);
    my @ids     = $t->edits('RIO', map { [ $_, { monthlyRate => 20.25, description => 'x' x 400 } ] } @records);
    $t->commit('RIO', \@ids);
    ok($t->wait_for("SELECT count(*) = 120 FROM pfa_modification WHERE pfa_id LIKE 'MANY-%' AND sync_status = 'synced'"), 'it sends 120 edits');
    is($t->sql("SELECT string_agg(DISTINCT http_method || http_status, ' ') FROM pems_audit_log WHERE pfa_id LIKE 'MANY-%' AND http_method IS NOT NULL"), 'PUT200', 'each at once');
    $fake->edit({ organizationCode => 'RIO', pfaId => $records[0], changes => { monthlyRate => 1.5 } });
    my $clash = $t->commit_edit('RIO', $records[0], { monthlyRate => 2 });
    ok($t->wait_status($clash, 'conflict', timeout => SOON), 'it finds a conflict');
    $t->sql("SELECT pems_discard('$clash')");
    $fake->fault({ pfaId => $records[1], status => 500, count => 1 });
    my $retried = $t->commit_edit('RIO', $records[1], { monthlyRate => 3 });
    ok($t->wait_status($retried, 'synced', timeout => SOON), 'it retries');
    unlike($t->log_since($position), qr/(?:ERROR|FATAL|PANIC|WARNING):  (?!terminating).*/, 'and nothing goes wrong');
    $t->sql("SELECT pems_resume('org-lima')");
    $t->finish;
}
