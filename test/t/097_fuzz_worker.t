# A living worker among servers that answer every request with something hostile, thousands of times and in more than
# twenty ways (PemsSync::HostileServer).  Nothing of the server crashes, no edit is lost, memory stays flat, and what has a
# sane PEMS is synced meanwhile.
#
#   FUZZ_RESPONSES=5000   how many answers; `make fuzz-worker` takes 100000
#   SEED=...              to do a run that failed again
#
# The same seed gives the same answers in the same order, but not to the same requests.
#
# The checker is not run: these servers keep no log, and what they say is not true.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::HostileServer;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $responses = $ENV{FUZZ_RESPONSES} || 5000;
my $seed      = int($ENV{SEED} || time ^ $$);
note "FUZZ_RESPONSES=$responses SEED=$seed";

use constant { SERVERS => 2, ENDPOINTS => 16 };
# Edits that are committed at a time, for each organization, and below how many that wait there are new ones.
use constant { EDITS => 60, WAITING => 1200 };
# What the worker may grow by, between the first thousand answers and the end; kB.
use constant MEMORY => 8 * 1024;
use constant WARM_UP => 1000;
# No answer for so long is a failure; seconds.
use constant PATIENCE => 60 * ($ENV{PEMS_PATIENCE} || 1);

my $t = PemsSync::Test->new('fuzz_worker', settings => {
    rate_limit => 0, retry_delay => '1ms', max_retries => 1, request_timeout => '1s', connect_timeout => '1s', max_response_size => '64kB',
    max_in_flight => 64, poll_interval => '1s' });
my $directory = $t->directory;
my $file      = "$directory/answers";
my @servers   = map { PemsSync::HostileServer->new(endpoints => ENDPOINTS, seed => $seed + $_, answers => $file) } 1 .. SERVERS;

my @codes;
for my $url (map { $_->urls } @servers)
{
    push @codes, sprintf 'F%02d', 1 + @codes;
    $t->add_organization($codes[-1], url => $url);
}
$t->add_organization('SANE');
$t->load('SANE', 'PFA-1', 'PFA-2');

# ---------- the users ----------

# New records, and edits of them: of every third one a second edit, and some that delete.
my $template = JSON::PP->new->canonical->encode(PemsSync::Test::record_data('PFA'));
my ($round, $committed, $rejected) = (0, 0, '');
sub commit_more
{
    my $number = ++$round;
    $t->sql(sprintf <<'SQL', $template, EDITS, $number, $number);
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data)
SELECT o.id, p.pfa_id, 1, jsonb_set($json$%s$json$, '{pfaId}', to_jsonb(p.pfa_id))
FROM organization o, generate_series(1, %d) n, LATERAL (SELECT format('PFA-%d-%%s', n) AS pfa_id) p WHERE o.code LIKE 'F%%';
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, operation)
SELECT format('%%s-%%s-%%s', m.organization_id, m.pfa_id, k), m.organization_id, m.pfa_id, 1,
       CASE WHEN d.deletes THEN '{}' ELSE jsonb_build_object('monthlyRate', 1000 * k, 'contract', 'C-' || k) END,
       'user@example.com', CASE WHEN d.deletes THEN 'DELETE' ELSE 'UPDATE' END
FROM pfa_mirror m, generate_series(1, 2) k, LATERAL (SELECT split_part(m.pfa_id, '-', 3)::integer AS n) s,
     LATERAL (SELECT s.n %% 20 = 0 AS deletes) d
WHERE m.pfa_id LIKE 'PFA-%d-%%' AND (k = 1 OR s.n %% 3 = 1 AND NOT d.deletes);
SQL
    my $done = $t->row(<<'SQL');
SELECT sum((c->>'queuedCount')::integer) AS queued, coalesce(string_agg(c->>'rejected', ' ') FILTER (WHERE c->'rejected' <> '[]'), '') AS rejected
FROM (SELECT pems_commit(id) AS c FROM organization WHERE code LIKE 'F%') x
SQL
    $committed += $done->{queued};
    $rejected .= $done->{rejected};
    return;
}

# What would stop the work is put right: pauses, dead letters, conflicts.
sub put_right
{
    $t->sql(<<'SQL');
SELECT pems_resume(organization_id) FROM pems_pause;
SELECT pems_retry() FROM (SELECT FROM pems_dead_letters LIMIT 1) d;
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT id, row_number() OVER () % 2 = 0 AS ours FROM pems_open_conflicts LIMIT 40 LOOP
        BEGIN
            PERFORM pems_resolve_conflict(c.id, CASE WHEN c.ours THEN 'use_local' ELSE 'use_pems' END);
        EXCEPTION WHEN SQLSTATE '55000' OR SQLSTATE '22023' THEN NULL;
        END;
    END LOOP;
END $$;
SQL
    return;
}

# A little of all that; false when the worker is another one.
my $worker;
sub step
{
    my $state = $t->row(<<'SQL');
SELECT (SELECT pid FROM pems_worker) AS pid,
       (SELECT count(*) FROM pfa_write_queue WHERE status = 'pending' AND waits_for IS DISTINCT FROM 'turn') AS waiting
SQL
    return 0 if ($state->{pid} // 0) != $worker;
    commit_more() if $state->{waiting} < WAITING;
    put_right();
    return 1;
}

# ---------- what is looked at ----------

# Resident memory of the worker without shared memory, of which it has more the more pages it has touched; kB.
sub memory
{
    my ($pid) = @_;
    my $status = slurp_file("/proc/$pid/status");
    my %of = $status =~ /^(VmRSS|RssShmem):\s+(\d+) kB/mg;
    return $of{VmRSS} - $of{RssShmem};
}

sub postmaster
{
    my ($pid) = slurp_file($t->node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
    return "$pid, since " . $t->sql('SELECT pg_postmaster_start_time()');
}

ok($t->wait_worker, 'the worker runs');
my $first = $t->commit_edit('SANE', 'PFA-1', { monthlyRate => 4000 });
ok($t->wait_status($first, 'synced'), 'all is well at first');
$worker        = $t->worker->{pid};
my $postmaster = postmaster();
my $has_proc   = -e "/proc/$worker/status";

# ---------- the run ----------

my ($begin, $last, $moved, $memory) = (time, 0, time);
while ((my $count = PemsSync::HostileServer::answers($file)) < $responses)
{
    if ($count > $last) { ($last, $moved) = ($count, time) }
    last if time > $moved + PATIENCE;
    $memory //= memory($worker) if $has_proc && $count >= WARM_UP && -e "/proc/$worker/status";
    last if !eval { step() };
    sleep 0.1;
}
note "the run ended: $@" if $@;
$t->wait_for_server;
my $count = PemsSync::HostileServer::answers($file);
note sprintf '%d answers in %.0f s, %d edits', $count, time - $begin, $t->sql('SELECT count(*) FROM pfa_modification');

# ---------- the end ----------

my %kinds = PemsSync::HostileServer::kinds($file);
note join ', ', map { "$_: " . ($kinds{$_} // 0) } PemsSync::HostileServer::names();
cmp_ok($count, '>=', $responses, 'so many hostile answers were given');
cmp_ok(scalar keys %kinds, '>=', 20, 'of at least twenty kinds');
is($rejected, '', 'every edit could be committed');

my $second = $t->commit_edit('SANE', 'PFA-2', { monthlyRate => 4000 });
ok($t->wait_status($second, 'synced'), 'an edit for a sane PEMS is synced');
$t->mirror_is_pems('SANE', 'PFA-2');
is($t->worker->{pid}, $worker, 'the worker is the same process');
is(postmaster(), $postmaster, 'the postmaster has not restarted');
SKIP:
{
    skip 'no /proc, or too few answers', 1 if !defined $memory || !-e "/proc/$worker/status";
    my $now = memory($worker);
    note "memory: $memory kB, then $now kB";
    cmp_ok($now - $memory, '<=', MEMORY, 'its memory is flat');
}
note 'edits: ' . $t->sql(<<'SQL');
SELECT string_agg(concat_ws(' ', sync_status, number), ', ') FROM (SELECT sync_status, count(*) AS number FROM pfa_modification GROUP BY 1 ORDER BY 1) x
SQL
note 'attempts: ' . $t->sql(<<'SQL');
SELECT string_agg(concat_ws(' ', coalesce(error_code, 'believed'), number), ', ')
FROM (SELECT error_code, count(*) AS number FROM pems_audit_log WHERE http_method IS NOT NULL GROUP BY 1 ORDER BY 1) x
SQL
is($t->sql('SELECT count(*) FROM pfa_modification'), $committed + 2, 'no edit is lost: all that were committed are there');
# what this test gave up itself, with use_pems, is superseded
is($t->sql(<<'SQL'), '', 'no edit is lost: each has one item, in a state that fits');
SELECT coalesce(string_agg(concat_ws(' ', m.id, m.sync_status, coalesce(q.states, 'no item')), ', '), '')
FROM pfa_modification m
LEFT JOIN (SELECT modification_id, string_agg(status, '+') AS states FROM pfa_write_queue GROUP BY 1) q ON q.modification_id = m.id
WHERE NOT CASE m.sync_status
    WHEN 'synced' THEN coalesce(q.states, '') = 'completed'
    WHEN 'conflict' THEN coalesce(q.states, '') = 'conflict'
    WHEN 'failed' THEN coalesce(q.states, '') = 'failed'
    WHEN 'queued' THEN coalesce(q.states, '') IN ('pending', 'processing')
    WHEN 'syncing' THEN coalesce(q.states, '') IN ('pending', 'processing')
    WHEN 'superseded' THEN coalesce(q.states, '') = 'cancelled'
        AND EXISTS (SELECT FROM pfa_sync_conflict c WHERE c.modification_id = m.id AND c.resolution = 'use_pems')
    ELSE false END
SQL
my $log = slurp_file($t->node->logfile);
unlike($log, qr/PANIC|terminated by signal/, 'nothing crashed');
is(join("\n", $log =~ /^(.*(?:ERROR|FATAL): .*)$/mg), '', 'no error in the log');
$t->node->stop('fast');
done_testing();
