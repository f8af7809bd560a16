# The rows of a dump, loaded into a database that is attached already: what another database queued is not sent before an
# administrator says so, while the edits of the database itself go on.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my %settings = (rate_limit => 0, retry_delay => '100ms', poll_interval => '1s');
my $t = PemsSync::Test->new('original', settings => { %settings, enabled => 'off' });
$t->add_organization('RIO');
my $fake = $t->fake;
$t->load('RIO', map { "DUMP-$_" } 1 .. 30);
my @ids = $t->edits('RIO', map { [ "DUMP-$_", { monthlyRate => 4000 } ] } 1 .. 20);
$t->commit('RIO', \@ids);
my $draft = $t->edit('RIO', 'DUMP-21', { monthlyRate => 4100 });
# two of them were being sent, one of those more than once
$t->sql("UPDATE pfa_write_queue SET status = 'processing', attempt = 1, sent_version = 1, claim_token = nextval('pems_claim_order') WHERE modification_id IN ('$ids[18]', '$ids[19]')");
$t->sql("UPDATE pfa_write_queue SET outcome_unknown = true WHERE modification_id = '$ids[19]'");
$t->sql("UPDATE pfa_write_queue SET status = 'pending', waits_for = 'time', scheduled_at = '2040-01-01', outcome_unknown = true, next_request = 'read' WHERE modification_id = '$ids[17]'");

# another one that is attached, and has nothing
my $copy = PemsSync::Test->new('copy', settings => { %settings, key_file => $t->key_file }, start => 0);
$copy->node->start;
$copy->make_database('postgres');
ok($copy->wait_worker, 'the other database is attached, and its worker runs');

my $dump = $t->directory . '/rows.sql';
command_ok([ 'pg_dump', '--data-only', '-f', $dump, '-d', $t->node->connstr('postgres') ], 'pg_dump --data-only');
# what is there already (pems_control) is an error, as it is with every such dump
IPC::Run::run([ 'psql', '-X', '-q', '-d', $copy->node->connstr('postgres'), '-c', 'SET session_replication_role = replica', '-f', $dump ], '>', \my $out, '2>', \my $err);
is($copy->sql("SELECT count(*) FROM pfa_write_queue WHERE unfinished"), '20', 'the edits of the original are there');
is($copy->sql('SELECT count(*) FROM pems_credential'), '1', 'and so is the credential');
$copy->sql('SELECT _pems_wake(true)');

ok($copy->wait_for("SELECT count(*) = 17 FROM pfa_write_queue WHERE status = 'pending' AND waits_for = 'resume'"), 'they wait for an administrator');
is(scalar(my @requests = $fake->requests), 0, 'PEMS saw no request');
my ($problem) = grep { /queued by another database/ } @{ decode_json($copy->sql('SELECT pems_health()'))->{problems} };
# those that the worker has met in its line; what was being sent, and what waits for its time, is found by pems_resume()
like($problem // '', qr/^17 edits were queued by another database .* pems_resume\(\)/, 'pems_health() says so');
my $state = decode_json($copy->sql("SELECT pems_sync_state('org-rio', ARRAY['DUMP-1'])"))->{'DUMP-1'};
is($state->{status}, 'queued', 'pems_sync_state(): it is queued');
like($state->{error}, qr/^Another database queued this edit .* resumes it\.$/, 'and why it is not sent');
is($state->{etaSeconds}, undef, 'and nobody knows when it will be');
ok($copy->wait_worker, 'the worker runs all the same');

# an edit that is committed here goes out
$copy->sql(PemsSync::Test::commit_statement('RIO', [$draft]));
ok($copy->wait_for("SELECT sync_status = 'synced' FROM pfa_modification WHERE id = '$draft'"), 'an edit that is committed here is sent');
is(join(' ', map { $_->{pfaId} } $fake->requests), 'DUMP-21', 'and no other');
# nothing that a user may call lets them go
$copy->sql("SELECT pems_write_sync('org-rio', NULL, 'high')");
is($copy->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'pending' AND waits_for = 'resume' AND modification_id <> '$ids[17]'"), '17', 'pems_write_sync() does not send them either');
is($copy->sql("SELECT pems_discard('$ids[0]') ->> 'outcome'"), 'cancelled', 'one of them can be discarded');
is($copy->sql("SELECT pems_discard('$ids[$_]') ->> 'outcome'"), 'cancelled', 'also one that was being sent') for 17, 18;

$copy->sql('SELECT pems_resume()');
ok($copy->wait_for("SELECT count(*) = 18 FROM pfa_write_queue WHERE status = 'completed'"), 'pems_resume() lets them go');
is(scalar(grep { $_->{method} eq 'PUT' } $fake->requests), 18, 'each once');
is(join(' ', map { $_->{method} } $fake->requests(pfaId => 'DUMP-20')), 'GET PUT', 'that which was being sent is read first');
ok(!(grep { /another database/ } @{ decode_json($copy->sql('SELECT pems_health()'))->{problems} }), 'pems_health() is content');

# resumed before the worker has looked at all
$t->sql("UPDATE pfa_write_queue SET status = 'pending' WHERE modification_id = '$ids[18]'");
$copy->set(enabled => 'off');
ok($copy->wait_worker(state => 'disabled'), 'nothing is sent for a while');
$copy->sql("DELETE FROM pfa_write_queue; DELETE FROM pfa_sync_conflict; DELETE FROM pfa_modification");
IPC::Run::run([ 'pg_dump', '--data-only', '-t', 'pfa_write_queue', '-t', 'pfa_modification', '-d', $t->node->connstr('postgres') ], '|',
    [ 'psql', '-X', '-q', '-d', $copy->node->connstr('postgres') ], '>', \$out, '2>', \$err);
is($copy->sql("SELECT count(*) FILTER (WHERE queued_in <> _pems_database_id()) FROM pfa_write_queue WHERE unfinished"), '20', 'the edits are there again');
$copy->sql('SELECT pems_resume()');
is($copy->sql("SELECT count(*) FILTER (WHERE queued_in <> _pems_database_id()) FROM pfa_write_queue WHERE unfinished"), '0', 'pems_resume() makes them its own');
$copy->node->stop('fast');
$t->node->stop('fast');
done_testing();
