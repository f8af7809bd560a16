# CREATE PUBLICATION FOR ALL TABLES, with a subscriber: PostgreSQL refuses to change or remove rows of a published table
# without a replica identity.  So every table has one, and everything goes on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use PostgreSQL::Test::Cluster;
use Test::More;

my $t = PemsSync::Test->new('publisher', init => { allows_streaming => 'logical' },
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1, poll_interval => '1s', retention => '1min' });
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "PFA-$_" } 1 .. 12);
my $position = $t->log_position;

# Ordinary tables of the extension, with the partitions of the audit log, and of the application.
my $tables = <<'SQL';
(SELECT c.oid, c.relname, c.relreplident FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public' WHERE c.relkind = 'r')
SQL
is($t->sql("SELECT string_agg(c.relname, ' ') FROM $tables c WHERE c.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)") // '',
    '', 'every table has a replica identity');
is($t->sql("SELECT relreplident FROM pg_class WHERE oid = 'pems_audit_log'::regclass"), 'f', 'the partitioned one, too');

# ---- a subscriber that has the same tables, and nothing else of the extension ----

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->start;
$subscriber->safe_psql('postgres', $t->sql(<<"SQL"));
SELECT string_agg(format('CREATE TABLE %I (%s%s);', c.relname, columns.list, coalesce(', PRIMARY KEY (' || keys.list || ')', '')), E'\\n')
FROM $tables c
CROSS JOIN LATERAL (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum) AS list
                    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') columns
LEFT JOIN LATERAL (SELECT string_agg(quote_ident(a.attname), ', ') AS list FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                   WHERE i.indrelid = c.oid AND i.indisprimary) keys ON true
SQL
$t->sql('CREATE PUBLICATION everything FOR ALL TABLES');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION everything CONNECTION '" . ($t->node->connstr('postgres') =~ s/'/''/gr) . "' PUBLICATION everything");
$subscriber->wait_for_subscription_sync($t->node, 'everything');
pass('the subscriber has the tables');

# ---- everything that there is to do ----

my @ids = $t->edits('RIO', map { [ "PFA-$_", { monthlyRate => $_ } ] } 1 .. 4);
push @ids, $t->edit('RIO', 'PFA-1', { dor => 'PROJECT' });
$t->commit('RIO', \@ids);
ok($t->wait_until(sub { $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = 'synced'") == 5 }, what => 'edits'), 'edits are synced, also two of one record');
my ($delete) = $t->edits('RIO', [ 'PFA-5', {}, operation => 'DELETE' ]);
$t->commit('RIO', [$delete]);
ok($t->wait_status($delete, 'synced'), 'a delete');

$fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-6', changes => { monthlyRate => 77 } });
my $clash = $t->commit_edit('RIO', 'PFA-6', { monthlyRate => 6 });
ok($t->wait_status($clash, 'conflict'), 'a conflict');
$t->resolve($t->conflict($clash)->{id}, 'use_local');
ok($t->wait_status($clash, 'synced'), 'is resolved');

my ($fault) = $fake->fault({ pfaId => 'PFA-7', status => 422 });
my $rejected = $t->commit_edit('RIO', 'PFA-7', { monthlyRate => 7 });
ok($t->wait_status($rejected, 'failed'), 'a dead letter');
$fake->clear_faults($fault);
$t->retry([$rejected]);
ok($t->wait_status($rejected, 'synced'), 'is retried');

($fault) = $fake->fault({ pfaId => 'PFA-8', status => 422 });
my $discarded = $t->commit_edit('RIO', 'PFA-8', { monthlyRate => 8 });
ok($t->wait_status($discarded, 'failed'), 'another dead letter');
my $behind = $t->commit_edit('RIO', 'PFA-8', { dor => 'PROJECT' });
$fake->clear_faults($fault);
$t->sql("SELECT pems_discard('$discarded')");
ok($t->wait_status($behind, 'synced'), 'is discarded, and the edit behind it goes on');

$t->sql("DELETE FROM pfa_modification WHERE id = '$delete'");
is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE modification_id = '$delete'"), '0', 'a modification is deleted, with its item');
$t->sql('SELECT pems_pause()');
$t->sql('SELECT pems_resume()');
$t->sql("UPDATE pfa_write_queue SET created_at = created_at - interval '1 hour', completed_at = completed_at - interval '1 hour'");
$t->sql("INSERT INTO pems_audit_log (event_type, at) VALUES ('TEST', date_trunc('month', now()))");
like($t->sql("SELECT pems_purge('1 minute') ->> 'items'"), qr/^[1-9]/, 'old items are purged');
ok($t->wait_for('SELECT NOT EXISTS (SELECT FROM pems_sync_stats WHERE NOT folded)', timeout => 90), 'the statistics are folded');
my $month = $t->sql("SELECT 'pems_audit_log_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')");
is($t->sql("SELECT relreplident FROM pg_class WHERE oid = '$month'::regclass"), 'f', 'a partition has an identity, too');
$t->sql("INSERT INTO pems_recheck VALUES ('org-rio', 'PFA-1')");
ok($t->wait_for('SELECT NOT EXISTS (SELECT FROM pems_recheck)'), 'records are settled');
unlike($t->log_since($position), qr/replica identity/, 'no statement was refused');

# ---- the subscriber has all of it ----

ok($t->quiet, 'all is quiet');
$t->node->wait_for_catchup('everything');
my $count = sub { my ($table) = @_; return ($t->sql("SELECT count(*) FROM $table"), $subscriber->safe_psql('postgres', "SELECT count(*) FROM $table")) };
for my $table (split /\n/, $t->sql("SELECT relname FROM $tables c ORDER BY 1"))
{
    my ($here, $there) = (0, 1);
    $t->wait_until(sub { ($here, $there) = $count->($table); return $here == $there }, what => "the same rows of $table", timeout => 15);
    is($there, $here, "the subscriber has the $here rows of $table");
}
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION everything');
$subscriber->stop('fast');
$t->sql('DROP PUBLICATION everything');
$t->node->stop('fast');
done_testing();
