# The worker knows the columns of what it calls by their names.  In another order they mean the same, and what is missing, or has
# another type, is an error that names it; nothing is sent or recorded as something else.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('column_order', settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1s' });
$t->add_organization('RIO');
my @records = $t->load_many('RIO', 'PFA-', 9);
my $fake = $t->fake;

sub new_worker
{
    my $pid = $t->worker->{pid};
    $t->sql("SELECT pg_terminate_backend($pid)");
    return ok($t->wait_for("SELECT pid <> $pid FROM pems_worker"), 'a new worker');
}

# An edit whose texts all differ; what PEMS was told, and what the audit log says.
sub edit_arrives
{
    my ($pfa_id, $what) = @_;
    my $id = $t->commit_edit('RIO', $pfa_id, { description => "about $pfa_id" }, by => "author of $pfa_id", reason => "reason of $pfa_id");
    ok($t->wait_status($id, 'synced'), "$what: synced");
    my ($put) = grep { $_->{method} eq 'PUT' } $fake->requests(organizationCode => 'RIO', pfaId => $pfa_id);
    is($put->{modifiedBy}, "author of $pfa_id", "$what: the author is the author");
    is($put->{reason}, "reason of $pfa_id", "$what: the reason is the reason");
    is_deeply($put->{changes}, { description => "about $pfa_id" }, "$what: the change is the change");
    my $item = $t->item($id);
    is($t->sql("SELECT concat_ws('|', modification_id, item_id, job_id, pfa_id, organization_id, actor, http_method, http_status) FROM pems_audit_log WHERE item_id = '$item->{id}' AND http_method = 'PUT'"),
        join('|', $id, $item->{id}, $item->{job_id}, $pfa_id, 'org-rio', 'pems_sync', 'PUT', 200), "$what: the audit log says what it was");
    my $mirror = $t->mirror('RIO', $pfa_id);
    is($t->sql("SELECT concat_ws('|', version, changed_by, change_reason) FROM pems_mirror_version WHERE modification_id = '$id'"),
        "$mirror->{version}|author of $pfa_id|reason of $pfa_id", "$what: and so does the history");
    return $id;
}

edit_arrives($records[0], 'as installed');

# ---- _pems_claim() ----

my @columns = map { [ split / /, $_, 2 ] } split /\n/, $t->sql(<<'SQL');
SELECT a.name || ' ' || format_type(a.type, NULL)
FROM pg_proc p, unnest(p.proargnames, p.proallargtypes, p.proargmodes) WITH ORDINALITY a (name, type, mode, n)
WHERE p.proname = '_pems_claim' AND a.mode = 't' ORDER BY a.n
SQL
cmp_ok(scalar @columns, '>=', 29, 'the columns of _pems_claim()');
$t->sql('ALTER FUNCTION _pems_claim RENAME TO original_claim');

# _pems_claim() with these columns, [name, type, expression].
sub replace_claim
{
    my (@list) = @_;
    my $result = join ', ', map { "$_->[0] $_->[1]" } @list;
    my $values = join ', ', map { $_->[2] // "c.$_->[0]" } @list;
    $t->sql(<<"SQL");
DROP FUNCTION IF EXISTS _pems_claim(text[], integer[], timestamptz[], bigint[]);
CREATE FUNCTION _pems_claim(organization_ids text[], slots integer[], after_at timestamptz[] DEFAULT NULL, after_seq bigint[] DEFAULT NULL)
RETURNS TABLE ($result) LANGUAGE sql VOLATILE ROWS 100 AS \$\$SELECT $values FROM public.original_claim(\$1, \$2, \$3, \$4) c\$\$;
GRANT EXECUTE ON FUNCTION _pems_claim(text[], integer[], timestamptz[], bigint[]) TO pems_sync_worker;
SQL
    return;
}

my $swapped = sub {
    my %other = (created_by => 'change_reason', change_reason => 'created_by', item_id => 'pfa_id', pfa_id => 'item_id', payload => 'mirror_data', mirror_data => 'payload');
    return map { [ $other{ $_->[0] } // $_->[0], $_->[1] ] } @columns;
};
replace_claim($swapped->());
new_worker();
edit_arrives($records[1], 'text columns in the place of each other');
replace_claim(reverse @columns);
# the same worker: its plan is made anew, and the columns are looked up again
edit_arrives($records[2], 'all columns from behind');
replace_claim([ 'one_more', 'text', "'?'::text" ], @columns);
edit_arrives($records[3], 'one that nobody reads, before all others');

# What keeps the worker from claiming, in its own words; then, with the columns as they were, the edit goes.
sub refused
{
    my ($pfa_id, $pattern, @list) = @_;
    replace_claim(@list);
    my $id = $t->commit_edit('RIO', $pfa_id, { description => 'refused' });
    ok($t->wait_until(sub { ($t->worker->{last_error} // '') =~ $pattern }, what => "the worker's error"), "refused: $pattern");
    is(scalar(grep { $_->{method} eq 'PUT' } $fake->requests(organizationCode => 'RIO', pfaId => $pfa_id)), 0, 'nothing was sent');
    replace_claim(@columns);
    return ok($t->wait_until(sub { $t->modification($id)->{sync_status} eq 'synced' || $t->modification($id)->{sync_status} eq 'failed' }, what => 'its end'), 'then it goes on');
}

refused($records[4], qr/column "change_reason" of _pems_claim\(\) does not exist/, map { $_->[0] eq 'change_reason' ? [ 'reason', 'text', 'c.change_reason' ] : $_ } @columns);
refused($records[5], qr/column "attempt" of _pems_claim\(\) has type text, not integer/, map { $_->[0] eq 'attempt' ? [ 'attempt', 'text', 'c.attempt::text' ] : $_ } @columns);
$t->sql('DROP FUNCTION _pems_claim(text[], integer[], timestamptz[], bigint[]); ALTER FUNCTION original_claim RENAME TO _pems_claim');

# ---- _pems_report ----

# dropped and added again, it is the last one
$t->sql("ALTER TYPE _pems_report DROP ATTRIBUTE $_ CASCADE, ADD ATTRIBUTE $_ text CASCADE") for qw(created_by item_id path);
new_worker();
edit_arrives($records[6], 'attributes of the report in another order');

$t->sql('ALTER TYPE _pems_report RENAME ATTRIBUTE change_reason TO reason');
new_worker();
my $id = $t->commit_edit('RIO', $records[7], { description => 'waits' });
ok($t->wait_until(sub { ($t->worker->{last_error} // '') =~ /column "change_reason" of type _pems_report does not exist/ }, what => "the worker's error"),
    'what cannot be recorded is known before anything is sent');
is(scalar(grep { $_->{method} eq 'PUT' } $fake->requests(organizationCode => 'RIO', pfaId => $records[7])), 0, 'nothing was sent');
$t->sql('ALTER TYPE _pems_report RENAME ATTRIBUTE reason TO change_reason');
ok($t->wait_status($id, 'synced'), 'and it goes when the type is as it was');

$t->sql('ALTER TYPE _pems_report ADD ATTRIBUTE something_new text CASCADE');
new_worker();
ok($t->wait_until(sub { ($t->worker->{last_error} // '') =~ /type _pems_report has an attribute "something_new" that is not known/ }, what => "the worker's error"), 'an attribute that the library does not set');
$t->sql('ALTER TYPE _pems_report DROP ATTRIBUTE something_new CASCADE');
edit_arrives($records[8], 'without it');

unlike($t->log_since(0), qr/WARNING:.*leak/, 'nothing leaks');
$t->finish;
