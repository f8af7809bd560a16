# Scenarios 15 to 19: edits of one record keep their order, whatever their priority and fate; what is discarded or
# rolled back in time is not sent.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('sequence', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 2, poll_interval => '1h' });
$t->add_organization('RIO');
my $fake = $t->fake;

# The story of an edit that was sent once, on VERSION.
sub sent_on
{
    my ($version, $changes) = @_;
    my $next = $version + 1;
    return (status => 'synced completed', events => 'COMMITTED WRITE_ATTEMPT', attempts => 'PUT 200', requests => "PUT v$version 200", keys => $version, changes => "v$version>v$next $changes");
}

# The first request of an edit takes a while.
sub commit_slow
{
    my ($pfa_id, $delta, %named) = @_;
    $fake->fault({ pfaId => $pfa_id, count => 1, delayMs => 6000 });
    my $id = $t->edit('RIO', $pfa_id, $delta);
    $t->commit('RIO', [$id], %named);
    ok($t->wait_until(sub { $t->item($id)->{status} eq 'processing' }, what => 'a request'), 'it is under way');
    return $id;
}

sub held_by
{
    my ($id) = @_;
    return $t->sql("SELECT h.modification_id FROM pems_queue q JOIN pfa_write_queue h ON h.id = q.held_by WHERE q.modification_id = '$id'");
}

# An edit of another record goes all the way: the worker has looked at the queue since this was called.
sub another_record_is_synced
{
    my ($pfa_id) = @_;
    my $id = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 1 });
    return ok($t->wait_status($id, 'synced'), 'an edit of another record is synced');
}

subtest 'scenario 15: two edits of one record go one after the other, and are no conflict' => sub {
    $t->load('RIO', 'S15');
    my $first  = commit_slow('S15', { monthlyRate => 4000 });
    my $second = $t->commit_edit('RIO', 'S15', { monthlyRate => 3000 }, base => 1);
    is($t->item($second)->{waits_for}, 'turn', 'the second waits for its turn');
    is(held_by($second), $first, 'and pems_queue says for whom');
    ok($t->wait_status($_, 'synced'), 'synced') for $first, $second;
    $t->story_is($first,  'the first: its own value, although there was another meanwhile', sent_on(1, '{"monthlyRate":4000}'), versions => '2 3 3');
    $t->story_is($second, 'the second: on what the first made', sent_on(2, '{"monthlyRate":3000}'), versions => '3 3 3');
    my ($one, $two) = $fake->requests(pfaId => 'S15');
    my ($recorded) = grep { $_->{event_type} eq 'WRITE_ATTEMPT' } $t->audit($first);
    is($t->sql("SELECT '$two->{at}'::timestamptz > '$recorded->{at}'::timestamptz"), 't', 'it was not sent before the first was recorded');
    $t->mirror_is_pems('RIO', 'S15');
};

subtest 'scenario 16: a later edit with a higher priority does not overtake' => sub {
    $t->load('RIO', 'S16', 'S16-retry');
    # both wait
    $t->sql("SELECT pems_pause('org-rio')");
    my ($low, $high) = $t->edits('RIO', [ 'S16', { monthlyRate => 4000 } ], [ 'S16', { monthlyRate => 3000 } ]);
    $t->commit('RIO', [$low],  priority => 'low');
    $t->commit('RIO', [$high], priority => 'high');
    is_deeply([ map { $t->item($_)->{priority} } $low, $high ], [ -10, 10 ], 'first one of low priority, then one of high');
    is(held_by($high), $low, 'which is held');
    $t->sql("SELECT pems_resume('org-rio')");
    ok($t->wait_status($_, 'synced'), 'synced') for $low, $high;
    $t->story_is($low,  'low: first',  sent_on(1, '{"monthlyRate":4000}'), versions => '2 3 3');
    $t->story_is($high, 'high: after it', sent_on(2, '{"monthlyRate":3000}'), versions => '3 3 3');

    # the first waits for a retry
    $fake->fault({ pfaId => 'S16-retry', call => 'update', count => 1, status => 500 });
    my $failed = $t->edit('RIO', 'S16-retry', { monthlyRate => 4000 });
    $t->commit('RIO', [$failed], priority => 'low');
    ok($t->wait_for("SELECT retry_count = 1 FROM pfa_write_queue WHERE modification_id = '$failed'"), 'a first edit has failed once');
    my $next = $t->edit('RIO', 'S16-retry', { monthlyRate => 3000 });
    $t->commit('RIO', [$next], priority => 'high');
    $t->sql("SELECT pems_write_sync('org-rio', ARRAY['$next'], 'high')");
    ok($t->wait_status($_, 'synced'), 'synced') for $failed, $next;
    $t->story_is($failed, 'the first: retried, and first', status => 'synced completed', retries => 1, attempts => 'PUT 500 SERVER_ERROR, GET 200, PUT 200', requests => 'PUT v1 500, GET 200, PUT v1 200',
        keys => '1, 1', changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 3 3');
    $t->story_is($next, 'high: after it, and no attempt before', sent_on(2, '{"monthlyRate":3000}'), versions => '3 3 3');
    $t->mirror_is_pems('RIO', $_) for 'S16', 'S16-retry';
};

subtest 'scenario 17: the first edit dead-letters: the second is held, other records go on' => sub {
    $t->load('RIO', 'S17', 'S17-other');
    $fake->fault({ pfaId => 'S17', call => 'update', count => 1, status => 422 });
    my $first  = $t->edit('RIO', 'S17', { monthlyRate => 4000 });
    my $second = $t->edit('RIO', 'S17', { monthlyRate => 3000 });
    $t->commit('RIO', [ $first, $second ]);
    ok($t->wait_status($first, 'failed'), 'the first is a dead letter');
    another_record_is_synced('S17-other');
    ok($t->quiet, 'all is quiet');
    $t->story_is($second, 'the second is not tried', status => 'queued pending', events => 'COMMITTED', attempts => '', requests => '', changes => '', versions => '- 1 1');
    is(held_by($second), $first, 'pems_queue says what holds it');
    is($t->sql("SELECT holding FROM pems_dead_letters WHERE modification_id = '$first'"), '1', 'and pems_dead_letters what it holds');

    is($t->retry([$first])->{requeuedCount}, 1, 'the first is retried');
    ok($t->wait_status($_, 'synced'), 'synced') for $first, $second;
    $t->story_is($first, 'the first comes first', status => 'synced completed', attempts => 'PUT 422 INVALID_REQUEST, GET 200, PUT 200', requests => 'PUT v1 422, GET 200, PUT v1 200',
        keys => '1, 1', changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 3 3');
    $t->story_is($second, 'the second behind it', sent_on(2, '{"monthlyRate":3000}'), versions => '3 3 3');
    $t->mirror_is_pems('RIO', 'S17');
};

subtest 'scenario 18: discard of an edit that waits: it is not sent; of one in flight: too late, its result is recorded' => sub {
    $t->load('RIO', 'S18', 'S18-other');
    my $flying = commit_slow('S18', { monthlyRate => 4000 });
    my ($second, $third) = $t->edits('RIO', [ 'S18', { monthlyRate => 3000 } ], [ 'S18', { dor => 'PROJECT' } ]);
    $t->commit('RIO', [ $second, $third ]);
    is_deeply([ map { decode_json($t->sql("SELECT pems_discard('$_', 'ann')"))->{outcome} } $flying, $second ], [ 'in_flight', 'cancelled' ], 'what is in flight is too late, what waits is taken back');
    ok($t->wait_status($_, 'synced'), 'synced') for $flying, $third;
    $t->story_is($flying, 'the one in flight is recorded', sent_on(1, '{"monthlyRate":4000}'), versions => '2 3 3');
    $t->story_is($second, 'the discarded one was never sent', status => 'discarded cancelled', events => 'COMMITTED DISCARDED', attempts => '', requests => '', changes => '', versions => '- 3 3');
    $t->story_is($third, 'the one behind goes on', sent_on(2, '{"dor":"PROJECT"}'), versions => '3 3 3');
    like($t->sql_error("SELECT pems_discard('$flying')"), qr/^55000: /, 'what is synced cannot be discarded');

    # one that waits with nothing before it
    $t->sql("SELECT pems_pause('org-rio')");
    my $alone = $t->commit_edit('RIO', 'S18', { monthlyRate => 2000 });
    is(decode_json($t->sql("SELECT pems_discard('$alone', 'ann')"))->{outcome}, 'cancelled', 'an edit that waits alone is taken back');
    $t->sql("SELECT pems_resume('org-rio')");
    another_record_is_synced('S18-other');
    $t->story_is($alone, 'and not sent', status => 'discarded cancelled', events => 'COMMITTED DISCARDED', requests => '', changes => '', versions => '- 3 3');
    my ($line) = grep { $_->{event_type} eq 'DISCARDED' } $t->audit($alone);
    is($line->{actor}, 'ann', 'the audit log says who took it back');
    $t->mirror_is_pems('RIO', 'S18');
};

subtest 'scenario 19: a commit that is rolled back sends nothing' => sub {
    $t->load('RIO', 'S19', 'S19-kept', 'S19-other');
    my ($draft, $kept) = $t->edits('RIO', [ 'S19', { monthlyRate => 4000 } ], [ 'S19-kept', { monthlyRate => 4000 } ]);
    my @commit = map { PemsSync::Test::commit_statement('RIO', [$_]) } $draft, $kept;

    my $session = $t->node->background_psql('postgres');
    $session->query_safe("BEGIN; $commit[0]");
    another_record_is_synced('S19-other');
    is(scalar $fake->requests(pfaId => 'S19'), 0, 'nothing leaves before the transaction ends');
    $session->query_safe('ROLLBACK');
    another_record_is_synced('S19-other');
    $session->query_safe("BEGIN; $commit[1]; SAVEPOINT s; $commit[0]; ROLLBACK TO s; COMMIT");
    $session->quit;
    ok($t->wait_status($kept, 'synced'), 'what a transaction keeps is synced');
    another_record_is_synced('S19-other');

    is(scalar $fake->requests(pfaId => 'S19'), 0, 'PEMS saw nothing of what was rolled back');
    is($t->modification($draft)->{sync_status}, 'draft', 'it is a draft as before');
    is($t->item($draft), undef, 'the queue does not know it');
    is_deeply([ $t->audit($draft) ], [], 'nor does the audit log');
    $t->story_is($kept, 'the other one was sent once', sent_on(1, '{"monthlyRate":4000}'), versions => '2 2 2');
    $t->commit('RIO', [$draft]);
    ok($t->wait_status($draft, 'synced'), 'the draft can still be committed');
};

$t->finish;
