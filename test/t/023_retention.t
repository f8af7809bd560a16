# Retention of the audit log: pems_purge() drops whole months that ended longer ago than pems_sync.retention, never one that
# is needed, whatever the caller says; and the worker makes this month's partition and the next.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $json = JSON::PP->new->canonical->allow_nonref;
my $t = PemsSync::Test->new('retention', settings => { rate_limit => 0, poll_interval => '1h', retention => '90d' });
$t->add_organization('RIO');
$t->load('RIO', 'PFA-1', 'PFA-2');
$t->sql('CREATE ROLE keeper LOGIN IN ROLE pems_sync_admin');

# ---------- helpers ----------

# Name of the partition of a month, so many months from now.
sub partition { return 'pems_audit_log_' . $t->sql("SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + $_[0] * interval '1 month', 'YYYY_MM')") }

# The partitions that there are, by name.
sub partitions { return $t->sql("SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass") }

sub names { return join ' ', sort @_ }

# A partition of a past month as the worker would have made it then, with one row.
sub make_partition
{
    my ($months) = @_;
    my $name = partition($months);
    my $first = "date_trunc('month', now() AT TIME ZONE 'UTC') + $months * interval '1 month'";
    $t->sql(<<"SQL");
DO \$\$
BEGIN
    EXECUTE format('CREATE TABLE $name PARTITION OF pems_audit_log FOR VALUES FROM (%L) TO (%L)', ($first) AT TIME ZONE 'UTC', ($first + interval '1 month') AT TIME ZONE 'UTC');
    GRANT SELECT, INSERT ON $name TO pems_sync_worker;
END
\$\$;
INSERT INTO pems_audit_log (at, event_type, error) VALUES (($first + interval '15 days') AT TIME ZONE 'UTC', 'OLD', '$name');
SQL
    return $name;
}

sub purge
{
    my ($arguments, %options) = @_;
    return $json->decode($t->sql(($options{as} ? "SET ROLE $options{as}; " : '') . "SELECT pems_purge($arguments)"));
}

sub set_retention
{
    my ($value) = @_;
    $t->set(retention => $value);
    ok($t->wait_for("SELECT current_setting('pems_sync.retention') = '$value'"), "retention is $value");
    return;
}

# ---------- partitions ahead ----------

my @current = ('pems_audit_log_default', partition(0), partition(1));
ok($t->wait_until(sub { partitions() eq names(@current) }, what => 'partitions'), "the worker makes this month's partition and the next");
my $edit = $t->commit_edit('RIO', 'PFA-1', { monthlyRate => 1 });
ok($t->wait_status($edit, 'synced'), 'an edit');
is($t->sql("SELECT DISTINCT tableoid::regclass FROM pems_audit_log WHERE modification_id = '$edit'"), partition(0), 'its lines are in it');
is($t->sql("SELECT count(*) FROM pg_indexes WHERE tablename = '" . partition(1) . "'"), '2', 'the next has its indexes');
is($t->sql("SELECT has_table_privilege('pems_sync_worker', '" . partition(1) . "', 'INSERT') || ' ' || has_table_privilege('pems_sync_worker', '" . partition(1) . "', 'UPDATE, DELETE, TRUNCATE')"),
    'true false', 'and takes INSERT only');

# ---------- what goes ----------

# Ninety days ago was three months ago at the most: the fifth month from here has ended long before.
my @old    = map { make_partition($_) } -14, -6, -5;
my @recent = map { make_partition($_) } -2, -1;
$t->sql("INSERT INTO pems_audit_log (at, event_type, error) VALUES (now() - interval '5 years', 'OLD', 'in the default partition')");
is($t->sql("SELECT count(*) FROM pems_audit_log_default"), '1', 'a month without a partition goes to the default one');
my $rows = $t->sql('SELECT count(*) FROM pems_audit_log');

# Dropping locks the whole log: it does not wait for a transaction that has written there, with all others behind it.
my $open = $t->node->background_psql('postgres');
$open->query_safe("BEGIN; INSERT INTO pems_audit_log (event_type) VALUES ('OPEN')");
my $start = time;
my $answer = purge('');
is_deeply([ @$answer{qw(auditPartitions more)} ], [ [], JSON::PP::true ], 'while somebody writes the log nothing is dropped, and the answer says that there is more to do');
cmp_ok(time - $start, '<', 5, 'at once');
is(partitions(), names(@current, @recent, @old), 'all months are there');
$open->query_safe('ROLLBACK');
$open->quit;

$answer = purge("purged_by => 'carol'", as => 'keeper');
is($answer->{more}, JSON::PP::false, 'now all is done');
is(names(@{ $answer->{auditPartitions} }), names(@old), 'months that ended before the retention are dropped');
is(partitions(), names(@current, @recent), 'the others stay');
is($t->sql('SELECT count(*) FROM pems_audit_log'), $rows - 3 + 2, 'with all their rows, and a line more for each call');
my $line = $t->row("SELECT actor, request FROM pems_audit_log WHERE event_type = 'PURGED' AND actor = 'carol'");
is($line->{actor}, 'carol', 'which says who');
is(names(@{ $line->{request}{auditPartitions} }), names(@old), 'and what');
is_deeply(purge('')->{auditPartitions}, [], 'there is nothing more to drop');

# Whatever the caller says: how long is a setting of the superuser's.
is_deeply(purge(q{older_than => '0', max_rows => 10000000}, as => 'keeper')->{auditPartitions}, [], 'older_than does not shorten it');
is(partitions(), names(@current, @recent), 'nothing of the last ninety days went');
for my $attempt (q{ALTER SYSTEM SET pems_sync.retention = '1min'}, q{SET pems_sync.retention = '1min'}, 'SELECT _pems_drop_audit_partitions()',
    'DROP TABLE ' . partition(-1), 'ALTER TABLE pems_audit_log DETACH PARTITION ' . partition(-1))
{
    # 42501: not allowed; 55P02: not in a session
    like($t->sql_error("SET ROLE keeper; $attempt"), qr/^(?:42501|55P02)/, 'an administrator may not: ' . $attempt =~ s/\d{4}_\d\d/.../r);
}
is(partitions(), names(@current, @recent), 'and did not');

# Neither this month's nor the next nor the default one, however short it is.
set_retention('1min');
is(names(@{ purge(q{older_than => '0'})->{auditPartitions} }), names(@recent), 'with a retention of a minute the past months go');
is(partitions(), names(@current), "this month's, the next and the default one stay");
cmp_ok($t->sql("SELECT count(*) FROM pems_audit_log WHERE modification_id = '$edit'"), '>', 1, 'with the lines of the edit');
is($t->sql("SELECT count(*) FROM pems_audit_log WHERE error = 'in the default partition'"), '1', 'and the old row in the default one');

# A table that is named like a partition and is none.
make_partition(-7);
$t->sql('ALTER TABLE pems_audit_log DETACH PARTITION ' . partition(-7) . '; CREATE TABLE pems_audit_log_1999_01 (kept text)');
is_deeply(purge('')->{auditPartitions}, [], 'a table that is no partition is not dropped');
$t->sql('DROP TABLE pems_audit_log_1999_01, ' . partition(-7));

# ---------- retention 0 ----------

set_retention('0');
make_partition(-30);
$t->sql(q{UPDATE pfa_write_queue SET completed_at = now() - interval '10 years' WHERE status = 'completed'; UPDATE pems_sync_job SET created_at = now() - interval '10 years';
    UPDATE pems_mirror_version SET recorded_at = now() - interval '10 years'});
my $kept = $t->sql('SELECT (SELECT count(*) FROM pfa_write_queue), (SELECT count(*) FROM pems_sync_job), (SELECT count(*) FROM pems_mirror_version), (SELECT count(*) FROM pems_sync_stats)');
$answer = purge('');
is_deeply([ @$answer{qw(items jobs versions statistics auditPartitions more)} ], [ 0, 0, 0, 0, [], JSON::PP::false ], 'with a retention of 0 nothing goes');
is($t->sql('SELECT (SELECT count(*) FROM pfa_write_queue), (SELECT count(*) FROM pems_sync_job), (SELECT count(*) FROM pems_mirror_version), (SELECT count(*) FROM pems_sync_stats)'), $kept, 'nothing at all');
like(partitions(), qr/\Q@{[ partition(-30) ]}\E/, 'nor an old month');
is(purge(q{older_than => '1 year'})->{auditPartitions}[0], undef, 'the audit log does not go by older_than');
$t->sql('DROP TABLE ' . partition(-30));

# The worker goes on, with the log that is left.
my $after = $t->commit_edit('RIO', 'PFA-2', { monthlyRate => 2 });
ok($t->wait_status($after, 'synced'), 'an edit afterwards');
is($t->attempts($after), 'PUT 200', 'has its line');

ok($t->quiet, 'all is quiet');
# ---------- somebody else's table has the name ----------

$t->sql('DROP TABLE ' . partition(1) . '; CREATE TABLE ' . partition(1) . ' (x integer); SELECT pg_terminate_backend(pid) FROM pems_worker');
ok($t->wait_for("SELECT pems_health() ->> 'problems' ~ 'The worker says: could not make partitions of the audit log: a name that pems_sync needs is taken'"), 'the worker says that a name is taken');
my $sent = $t->commit_edit('RIO', 'PFA-2', { monthlyRate => 4321 });
ok($t->wait_status($sent, 'synced'), 'and sends all the same');
$t->sql('DROP TABLE ' . partition(1) . '; SELECT pems_attach()');
is(partitions(), names(@current), 'there is room again');

$t->node->stop('fast');
done_testing();
