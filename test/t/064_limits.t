# Drafts and records of a hundred megabytes: pems_commit() says so and fetches none of it; the server's memory stays small, nothing
# restarts, and other edits go on.  What the limits are, each alone: test/sql/limits.sql.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PemsSync::Test->new('limits', settings => { rate_limit => 0 }, conf => "shared_buffers = '16MB'\n");
$t->add_organization('RIO');
my @records = $t->load_many('RIO', 'PFA-', 30);
ok($t->wait_worker, 'the worker runs');
my $started = $t->sql('SELECT pg_postmaster_start_time()');
my $worker  = $t->worker->{pid};
my $log     = $t->log_position;
# how large the drafts are does not matter while they are made
my $draft = sub {
    my ($id, $record, %columns) = @_;
    my %all = (delta => q('{"monthlyRate": 1}'), created_by => q('user@example.com'), change_reason => 'NULL', %columns);
    $t->sql("INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason) "
          . "VALUES ('$id', 'org-rio', '$record', 1, $all{delta}, $all{created_by}, $all{change_reason})");
};
my $large = q(jsonb_build_object('description', repeat('x', 100000000)));
$draft->('large-1', $records[1], delta => $large);
$draft->("large-$_", $records[$_], delta => q((SELECT delta FROM pfa_modification WHERE id = 'large-1'))) for 2 .. 19;
$draft->('author', $records[20], created_by => q(repeat('x', 200000000)));
$draft->('reason', $records[21], change_reason => q((SELECT created_by FROM pfa_modification WHERE id = 'author')));
$draft->('record', $records[22]);
$t->sql("UPDATE pfa_mirror SET data = jsonb_build_object('description', repeat('x', 190000000)) WHERE pfa_id = '$records[22]'");
my $fine = $t->edit('RIO', $records[23], { monthlyRate => 2 });
is($t->sql("SELECT _pems_size(delta, 0) FROM pfa_modification WHERE id = 'large-1'"), '100000023', 'a draft of a hundred megabytes');

# the most memory that a session has had, in kB
my $session = $t->node->background_psql('postgres');
my $most = sub { return (slurp_file('/proc/' . $session->query_safe('SELECT pg_backend_pid()') . '/status') =~ /^VmHWM:\s+(\d+)/m)[0] };
$session->query_safe('SET client_min_messages = error');
my $answer = decode_json($session->query_safe("SELECT pems_commit('org-rio')"));
my %said = map { $_->{modificationId} => $_ } @{ $answer->{rejected} };
is($answer->{queuedCount}, 1, 'what is not too large is queued');
is(scalar(keys %said), 22, 'and each of the others is named');
is_deeply([ map { "$_->{code} @{ $_->{errors} }" } @said{qw(large-1 large-19 author reason record)} ], [
    ('VALIDATION_FAILED The changes must be at most 256 kB (pems_sync.max_delta_size)') x 2,
    'VALIDATION_FAILED created_by must be at most 1 kB long',
    'VALIDATION_FAILED change_reason must be at most 1 kB long',
    'VALIDATION_FAILED The record must be at most 4096 kB (pems_sync.max_record_size)' ], 'with what is too large, and the limit');
# in other ways that one session can ask for them
$session->query_safe("SELECT pems_commit('org-rio', committed_by => 'user\@example.com')");
$session->query_safe("SELECT pems_commit('org-rio', ARRAY[" . join(', ', map { "'$_'" } sort keys %said) . '])');
$session->query_safe("SELECT pems_sync_state('org-rio', ARRAY[" . join(', ', map { "'$_'" } @records) . '])');
$session->query_safe("SELECT pems_discard('large-19'), pems_discard('author'), pems_discard('reason')");
SKIP:
{
    skip 'no /proc', 1 if !-e '/proc/self/status';
    my $kilobytes = $most->();
    note "$kilobytes kB";
    cmp_ok($kilobytes, '<', 90_000, 'less than one of them was in memory');
}
$session->quit;
is($t->sql("SELECT count(*) FROM pfa_modification WHERE id ~ '^(large|record)' AND sync_status = 'draft'"), '19', 'they stay drafts, but for the one that was taken back');

ok($t->wait_status($fine, 'synced'), 'the other edit goes on');
ok($t->wait_status($t->commit_edit('RIO', $records[24], { monthlyRate => 3 }), 'synced'), 'and so do later ones');
is($t->sql('SELECT pg_postmaster_start_time()'), $started, 'the server has not restarted');
is($t->worker->{pid}, $worker, 'nor the worker');
unlike($t->log_since($log), qr/terminated by signal|exited with exit code|out of memory/, 'and no process has died');

# Larger limits, and smaller ones, are heard of with a reload.
$t->set(max_delta_size => '1kB');
ok($t->wait_for("SELECT current_setting('pems_sync.max_delta_size') = '1kB'"), 'another limit');
my $small = $t->edit('RIO', $records[25], { description => 'x' x 400, model => 'y' x 700 });
like($t->sql(PemsSync::Test::commit_statement('RIO', [$small])), qr/must be at most 1024 bytes/, 'counts from then on');
$t->set(max_delta_size => '256kB');
ok($t->wait_for("SELECT current_setting('pems_sync.max_delta_size') = '256kB'"), 'back again');
$t->commit('RIO', [$small]);
ok($t->wait_status($small, 'synced'), 'and now it fits');

# The record that PEMS does not have like that: the mirror as it was.
$t->sql("UPDATE pfa_mirror SET data = (SELECT v.data FROM pems_mirror_version v WHERE v.organization_id = 'org-rio' AND v.pfa_id = '$records[23]' AND v.version = 1)"
      . " || jsonb_build_object('pfaId', pfa_id) WHERE pfa_id = '$records[22]'");
$t->finish;
