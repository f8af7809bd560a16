# The basic path: what is committed in SQL arrives in PEMS, once, and the database follows; what is
# not committed never leaves.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('basic', settings => { rate_limit => 0 });
$t->add_organization('RIO');
$t->add_organization('RIO2');
$t->load('RIO', map { "PFA-$_" } 1 .. 9);
$t->load('RIO2', 'PFA-1');

my $json = JSON::PP->new;
my $fake = $t->fake;

# Notifications come while the session runs statements; a second psql collects them.
my $listener = $t->node->background_psql('postgres', on_error_stop => 0);
$listener->query_safe('LISTEN pems_sync');

sub notifications
{
    my ($modification) = @_;
    my @found;
    $t->wait_until(
        sub {
            my ($out) = $listener->query('SELECT 1');
            push @found, grep { ($_->{modificationId} // '') eq $modification } map { $json->decode($_) }
              $out =~ /notification "pems_sync" with payload "(\{.*?\})" received/gm;
            return @found > 0;
        },
        what => "a notification of $modification");
    return @found;
}

# ---- an update ----

my $delta = { forecastStart => '2025-02-01T00:00:00Z', forecastEnd => '2025-07-31T00:00:00Z', monthlyRate => 4200, dor => 'PROJECT' };
my $update = $t->edit('RIO', 'PFA-1', $delta, by => 'john.doe@example.com', reason => 'Budget reallocation');
is($t->modification($update)->{sync_status}, 'draft', 'an edit begins as a draft');

my $answer = $t->commit('RIO', [$update], committed_by => 'john.doe@example.com');
is($answer->{queuedCount}, 1, 'pems_commit queues it');
ok($answer->{success}, 'and says success');
like($answer->{jobId}, qr/^[0-9a-f-]{36}$/, 'and the job');
like($answer->{estimatedCompletionTime}, qr/^\d{4}-\d\d-\d\dT[\d:.]+Z$/, 'and when it will be done');
ok($t->wait_status($update, 'synced'), 'the modification is synced');

my $item = $t->item($update);
is($item->{status}, 'completed', 'its item is completed');
is($item->{retry_count}, 0, 'without a retry');
is($item->{job_id}, $answer->{jobId}, 'and belongs to the job');

my ($request) = $fake->requests(pfaId => 'PFA-1', organizationCode => 'RIO');
is($request->{method}, 'PUT', 'PEMS saw a PUT');
is($request->{path}, '/api/pems/pfa/PFA-1', 'on the right path');
is($request->{version}, 1, 'built on the version that the user saw');
is_deeply($request->{changes}, $delta, 'with the delta and nothing else');
is($request->{modifiedBy}, 'john.doe@example.com', 'in the name of the user');
is($request->{reason}, 'Budget reallocation', 'and with the reason');
is($request->{idempotencyKey}, "$item->{id}:1", 'Idempotency-Key is item:version');
is($request->{requestId}, "$item->{id}:1", 'X-Request-Id is item:attempt');

my $record = $fake->record('RIO', 'PFA-1');
is($record->{version}, 2, 'PEMS is at version 2');
is($record->{data}{monthlyRate}, 4200, 'with the new value');
my $mirror = $t->mirror('RIO', 'PFA-1');
is($mirror->{version}, 2, 'the mirror follows');
is_deeply($mirror->{data}, $record->{data}, 'field by field');
ok(defined $mirror->{last_synced_at}, 'and knows when');
is($t->modification($update)->{pems_version}, 2, 'the modification knows its version');
ok(defined $t->modification($update)->{synced_at}, 'and when it was synced');

my $version = $t->row(q{SELECT * FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1' AND version = 2});
is_deeply([ @$version{qw(source modification_id changed_by change_reason)} ],
    [ 'write', $update, 'john.doe@example.com', 'Budget reallocation' ], 'the version history says who and why');
is_deeply($version->{data}, $record->{data}, 'and what');

my @audit = $t->audit($update);
is(join(' ', map { $_->{event_type} } @audit), 'COMMITTED WRITE_ATTEMPT', 'the audit log has both events');
is($audit[0]{actor}, 'john.doe@example.com', 'who committed');
my $attempt = $audit[1];
is_deeply([ @$attempt{qw(attempt http_method path http_status error_code item_id)} ],
    [ 1, 'PUT', '/pems/pfa/PFA-1', 200, undef, $item->{id} ], 'the attempt');
is_deeply($attempt->{request},
    { pfaId => 'PFA-1', organizationCode => 'RIO', changes => $delta, version => 1, modifiedBy => 'john.doe@example.com',
        changeReason => 'Budget reallocation' }, 'what was sent');
is($attempt->{response}{newVersion}, 2, 'what came back');
cmp_ok($attempt->{latency_ms}, '>', 0, 'how long it took');

my ($note) = notifications($update);
is($note->{type}, 'SYNC_SUCCESS', 'listeners hear of the success');
is_deeply([ @$note{qw(organizationId pfaId modificationId jobId conflictId errorMessage)} ],
    [ 'org-rio', 'PFA-1', $update, $answer->{jobId}, undef, undef ], 'with all that they need');
like($note->{at}, qr/^\d{4}-\d\d-\d\dT[\d:.]+Z$/, 'and the time');
is(join(' ', sort keys %$note), 'at conflictId errorMessage jobId modificationId organizationId pfaId type', 'with these keys');

# ---- a delete ----

my $delete = $t->commit_edit('RIO', 'PFA-2', {}, operation => 'DELETE', reason => 'Cancelled');
ok($t->wait_status($delete, 'synced'), 'a delete is synced');
my ($gone) = $fake->requests(pfaId => 'PFA-2');
is($gone->{method}, 'DELETE', 'PEMS saw a DELETE');
is($gone->{reason}, 'Cancelled', 'with the reason');
is($gone->{version}, 1, 'and the version');
ok($fake->record('RIO', 'PFA-2')->{deleted}, 'PEMS deleted the record');
ok(defined $t->mirror('RIO', 'PFA-2')->{deleted_at}, 'the mirror says so');

# ---- what a user takes back, or PEMS rejects, is told to listeners ----

$fake->fault({ pfaId => 'PFA-3', status => 422, count => 1 });
my $rejected = $t->commit_edit('RIO', 'PFA-3', { monthlyRate => 1 });
ok($t->wait_status($rejected, 'failed'), 'PEMS rejects an edit');
my ($failure) = notifications($rejected);
is($failure->{type}, 'SYNC_FAILED', 'listeners hear of it');
like($failure->{errorMessage}, qr/422/, 'and why');

$fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-4', changes => { monthlyRate => 9 } });
my $disputed = $t->commit_edit('RIO', 'PFA-4', { monthlyRate => 8 });
ok($t->wait_status($disputed, 'conflict'), 'an edit runs into another');
my ($clash) = notifications($disputed);
is($clash->{type}, 'SYNC_CONFLICT', 'listeners hear of the conflict');
is($clash->{conflictId}, $t->conflict($disputed)->{id}, 'and which');

# ---- many at once: one notification for all ----

my @many = $t->load_many('RIO', 'BULK-', 120);
my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => 100 } ] } @many);
is($t->commit('RIO', \@ids)->{queuedCount}, 120, '120 edits in one call');
ok($t->wait_for("SELECT count(*) = 120 FROM pfa_modification WHERE pfa_id LIKE 'BULK-%' AND sync_status = 'synced'"), 'all are synced');
my ($batches) = $listener->query('SELECT 1');
my @notes = map { $json->decode($_) } $batches =~ /with payload "(\{.*?\})" received/gm;
my $told = 0;
for my $each (@notes)
{
    $told += $each->{type} eq 'SYNC_BATCH' ? $each->{counts}{SYNC_SUCCESS} : $each->{type} eq 'SYNC_SUCCESS' ? 1 : 0;
}
is($told, 120, 'the notifications add up to 120');
cmp_ok(scalar @notes, '<', 120, 'in fewer messages');
$listener->quit;

# ---- what is not committed never leaves ----

my $mark = $fake->mark;
my ($kept, $rolled, $inner, $after) = $t->edits('RIO', map { [ "PFA-$_", { monthlyRate => 77 } ] } 5 .. 8);
my $commit = sub { PemsSync::Test::commit_statement('RIO', [ $_[0] ]) };
$t->sql('BEGIN; ' . $commit->($rolled) . '; ROLLBACK;');
is($t->modification($rolled)->{sync_status}, 'draft', 'after ROLLBACK the edit is a draft again');
ok(!defined $t->item($rolled), 'without an item');

# A savepoint: only the outer edits leave.
$t->sql('BEGIN; ' . $commit->($kept) . '; SAVEPOINT s; ' . $commit->($inner) . '; ROLLBACK TO s; ' . $commit->($after) . '; COMMIT;');
ok($t->wait_status($_, 'synced'), 'what was committed around a savepoint arrives') for $kept, $after;
is($t->modification($inner)->{sync_status}, 'draft', 'what was rolled back to it is a draft');
# A transaction that is still open.
my $session = $t->node->background_psql('postgres');
$session->query_safe('BEGIN');
my $open = $t->edit('RIO', 'PFA-9', { monthlyRate => 78 });
$session->query_safe($commit->($open));
my $other = $t->commit_edit('RIO2', 'PFA-1', { monthlyRate => 79 });
ok($t->wait_status($other, 'synced'), 'another organization goes on while a commit is open');
is(scalar $fake->requests(pfaId => 'PFA-9', since => $mark), 0, 'what is not committed was not sent');
$session->query_safe('COMMIT');
$session->quit;
ok($t->wait_status($open, 'synced'), 'after COMMIT it is');
my %sent = map { $_->{pfaId} => 1 } grep { $_->{organizationCode} eq 'RIO' } $fake->requests(since => $mark);
is(join(' ', sort keys %sent), 'PFA-5 PFA-8 PFA-9', 'nothing else was sent');

# ---- organizations are kept apart ----

my ($rio2) = $fake->requests(organizationCode => 'RIO2');
is($rio2->{changes}{monthlyRate}, 79, 'RIO2 has its own record');
is($fake->record('RIO', 'PFA-1')->{data}{monthlyRate}, 4200, 'which is not that of RIO');

is($t->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pems_sync%' AND application_name LIKE 'pems_sync%'"),
    '1', 'the worker can be seen in pg_stat_activity');
$t->finish;
