# Scenarios 1 to 5, 20, and 22 to 28: lost answers, crashes, answers of every kind, comparison by type, and two
# organizations whose codes look alike.  Each shows the whole path: what PEMS saw and did, the edit, the mirror, the
# conflict, and the audit log.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use HTTP::Tiny;
use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('scenarios', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 2, max_in_flight => 4, poll_interval => '1h' });
$t->add_organization($_) for qw(RIO RIO2 LOCKED);
my $fake = $t->fake;
my $json = JSON::PP->new->canonical;

# Somebody works on a record in PEMS.
sub change
{
    my ($pfa_id, %changes) = @_;
    return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => \%changes });
}

# The delay before a retry, from now on.  A new session shows it when the postmaster has told all processes.
sub set_retry_delay
{
    my ($delay) = @_;
    $t->set(retry_delay => $delay);
    return $t->wait_for("SELECT current_setting('pems_sync.retry_delay') = '$delay'", what => "retry_delay $delay");
}

# An edit whose write PEMS applies and whose answer is lost.  The item is not looked at before find_out(), so that
# the test has all the time it wants to change something in PEMS.
sub lose_answer
{
    my ($pfa_id, $delta) = @_;
    set_retry_delay('10min');
    $fake->fault({ pfaId => $pfa_id, call => 'update', count => 1, applyThenDrop => JSON::PP::true });
    my $id = $t->commit_edit('RIO', $pfa_id, $delta);
    ok($t->wait_for("SELECT outcome_unknown AND waits_for = 'time' FROM pfa_write_queue WHERE modification_id = '$id'"), 'nobody knows whether the write arrived');
    is(scalar $fake->changes(pfaId => $pfa_id, by => 'client'), 1, 'PEMS has it');
    return $id;
}

# PEMS gets its two seconds after the write, then the item is due.
sub find_out
{
    my ($id) = @_;
    my ($write) = $fake->requests(pfaId => $t->item($id)->{pfa_id}, method => 'PUT');
    $t->wait_for("SELECT clock_timestamp() > '$write->{at}'::timestamptz + interval '2 s'");
    $t->sql("SELECT pems_write_sync('org-rio', ARRAY['$id'])");
    return set_retry_delay('100ms');
}

subtest 'scenario 1: the PUT is applied and its answer lost: one write in PEMS, synced, no conflict' => sub {
    $t->load('RIO', 'S1');
    $fake->fault({ pfaId => 'S1', call => 'update', count => 1, applyThenDrop => JSON::PP::true });
    my $id = $t->commit_edit('RIO', 'S1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'one write, then a look',
        status => 'synced completed', retries => 1, events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT SYNCED_WITHOUT_REQUEST',
        attempts => 'PUT NETWORK_ERROR, GET 200', requests => 'PUT v1 0, GET 200', keys => '1',
        changes  => 'v1>v2 {"monthlyRate":4000}', versions => '2 2 2');
    $t->mirror_is_pems('RIO', 'S1');
};

subtest 'scenario 2: the answer is lost, then another user changes another field: synced, both changes stay' => sub {
    $t->load('RIO', 'S2');
    my $id = lose_answer('S2', { monthlyRate => 4000 });
    change('S2', description => 'by another user');
    find_out($id);
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'one write, then a look',
        status => 'synced completed', retries => 1, attempts => 'PUT NETWORK_ERROR, GET 200', requests => 'PUT v1 0, GET 200', keys => '1',
        changes => 'v1>v2 {"monthlyRate":4000}', versions => '3 3 3');
    is_deeply([ @{ $fake->record('RIO', 'S2')->{data} }{qw(monthlyRate description)} ], [ 4000, 'by another user' ], 'PEMS has both');
    $t->mirror_is_pems('RIO', 'S2');
};

subtest 'scenario 3: the answer is lost, then ours is overwritten: conflict, and PEMS keeps its value' => sub {
    $t->load('RIO', 'S3');
    my $id = lose_answer('S3', { monthlyRate => 4000 });
    change('S3', monthlyRate => 9999);
    find_out($id);
    ok($t->wait_status($id, 'conflict'), 'in conflict');
    $t->story_is($id, 'one write, a look, and no second write',
        status => 'conflict conflict', error => 'CONFLICT', retries => 1, conflicts => 'update_update unresolved',
        events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT CONFLICT_DETECTED', attempts => 'PUT NETWORK_ERROR, GET 200', requests => 'PUT v1 0, GET 200', keys => '1',
        changes => 'v1>v2 {"monthlyRate":4000}', versions => '- 3 3');
    my $conflict = $t->conflict($id);
    $t->sides_are($conflict, 'base, local, remote', monthlyRate => [ 5500, 4000, 9999 ]);
    is_deeply([ @$conflict{qw(local_version pems_version conflict_fields)} ], [ 1, 3, ['monthlyRate'] ], 'its versions and its field');
    is($fake->record('RIO', 'S3')->{data}{monthlyRate}, 9999, 'PEMS keeps its value');
    $t->mirror_is_pems('RIO', 'S3');
};

subtest 'scenario 4: a 409 whose content is ours: synced without a second write' => sub {
    $t->load('RIO', 'S4');
    change('S4', monthlyRate => 4000);
    my $id = $t->commit_edit('RIO', 'S4', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'refused, looked at, done',
        status => 'synced completed', events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT SYNCED_WITHOUT_REQUEST',
        attempts => 'PUT 409 VERSION_CONFLICT, GET 200', requests => 'PUT v1 409, GET 200', keys => '1', changes => '', versions => '2 2 2');
    $t->mirror_is_pems('RIO', 'S4');
};

subtest 'scenario 5: kill -9 after the PUT and before its record: read first; what PEMS has is not written again' => sub {
    $t->load('RIO', 'S5-applied', 'S5-not');
    $fake->fault({ pfaId => 'S5-applied', call => 'update', count => 1, delayAfterApplyMs => 25_000 }, { pfaId => 'S5-not', call => 'update', count => 1, hang => JSON::PP::true });
    my $applied = $t->commit_edit('RIO', 'S5-applied', { monthlyRate => 4000 });
    my $lost    = $t->commit_edit('RIO', 'S5-not', { monthlyRate => 4000 });
    ok($t->wait_until(sub { $fake->changes(pfaId => 'S5-applied', by => 'client') == 1 && $fake->requests(pfaId => 'S5-not') == 1 }, what => 'both writes'), 'two writes are under way, and PEMS has one of them');
    is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE pfa_id LIKE 'S5-%' AND status = 'processing'"), '2', 'neither is recorded');

    my $worker = $t->worker->{pid};
    ok(kill('KILL', $worker), 'kill -9');
    $t->wait_until(sub { !kill 0, $worker }, what => 'its end');
    $t->wait_for_server;
    ok($t->wait_status($_, 'synced'), 'synced') for $applied, $lost;
    $t->story_is($applied, 'what PEMS has: one write',
        status => 'synced completed', events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT SYNCED_WITHOUT_REQUEST',
        attempts => 'PUT OUTCOME_UNKNOWN, GET 200', requests => 'PUT v1 200, GET 200', keys => '1', changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 2 2');
    $t->story_is($lost, 'what PEMS does not have: the same write again, with the same key',
        status => 'synced completed', events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT WRITE_ATTEMPT',
        attempts => 'PUT OUTCOME_UNKNOWN, GET 200, PUT 200', requests => 'PUT v1 0, GET 200, PUT v1 200', keys => '1, 1', changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 2 2');
    $t->mirror_is_pems('RIO', $_) for 'S5-applied', 'S5-not';
};

subtest 'scenario 20: a dead letter is retried a week later: read first, then decided anew' => sub {
    my %other = ('S20-merge' => { description => 'by another user' }, 'S20-clash' => { monthlyRate => 7777 });
    my %id;
    for my $pfa_id (sort keys %other)
    {
        $t->load('RIO', $pfa_id);
        $fake->fault({ pfaId => $pfa_id, call => 'update', count => 1, status => 422 });
        $id{$pfa_id} = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 4000 });
        ok($t->wait_status($id{$pfa_id}, 'failed'), "$pfa_id: a dead letter");

        # a week goes by; PEMS moves on, the mirror follows, and PEMS moves on once more
        $t->sql("UPDATE pfa_write_queue SET created_at = created_at - interval '7 days', scheduled_at = scheduled_at - interval '7 days',"
              . " last_attempt_at = last_attempt_at - interval '7 days', completed_at = completed_at - interval '7 days' WHERE pfa_id = '$pfa_id'");
        change($pfa_id, %{ $other{$pfa_id} });
        $t->mirror_from_pems('RIO', $pfa_id);
        change($pfa_id, contract => 'C-2002');
    }
    $t->story_is($id{'S20-merge'}, 'until then nothing happens', status => 'failed failed', error => 'INVALID_REQUEST', attempts => 'PUT 422 INVALID_REQUEST', requests => 'PUT v1 422', keys => '1', changes => '', versions => '- 2 3');

    my $answer = $t->retry([ @id{qw(S20-merge S20-clash)} ], retried_by => 'admin');
    is_deeply([ @$answer{qw(success requeuedCount)} ], [ JSON::PP::true, 2 ], 'pems_retry takes both');
    ok($t->wait_status($id{'S20-merge'}, 'synced'), 'another field had changed: synced');
    ok($t->wait_status($id{'S20-clash'}, 'conflict'), 'the same field had changed: conflict');
    $t->story_is($id{'S20-merge'}, 'read, merged, and sent with the version of now',
        status => 'synced completed', events => 'COMMITTED WRITE_ATTEMPT RETRIED READ_ATTEMPT WRITE_ATTEMPT',
        attempts => 'PUT 422 INVALID_REQUEST, GET 200, PUT 200', requests => 'PUT v1 422, GET 200, PUT v3 200', keys => '1, 3', changes => 'v3>v4 {"monthlyRate":4000}', versions => '4 4 4');
    is_deeply([ @{ $fake->record('RIO', 'S20-merge')->{data} }{qw(monthlyRate description contract)} ], [ 4000, 'by another user', 'C-2002' ], 'PEMS has all changes');
    $t->story_is($id{'S20-clash'}, 'read, and not sent',
        status => 'conflict conflict', error => 'CONFLICT', conflicts => 'update_update unresolved', events => 'COMMITTED WRITE_ATTEMPT RETRIED READ_ATTEMPT CONFLICT_DETECTED',
        attempts => 'PUT 422 INVALID_REQUEST, GET 200', requests => 'PUT v1 422, GET 200', keys => '1', changes => '', versions => '- 3 3');
    my $conflict = $t->conflict($id{'S20-clash'});
    $t->sides_are($conflict, 'base, local, remote: what the user saw a week ago, and what PEMS has now', monthlyRate => [ 5500, 4000, 7777 ], contract => [ 'C-1001', 'missing', 'C-2002' ]);
    is_deeply([ @$conflict{qw(local_version pems_version conflict_fields)} ], [ 1, 3, ['monthlyRate'] ], 'its versions and its field');
    my ($line) = grep { $_->{event_type} eq 'RETRIED' } $t->audit($id{'S20-merge'});
    is_deeply([ @$line{qw(actor error_code job_id)} ], [ 'admin', 'INVALID_REQUEST', $answer->{jobId} ], 'the audit log says who retried what');
    $t->mirror_is_pems('RIO', $_) for sort keys %other;
};

subtest 'scenario 22: a 401 in the middle of a batch, then a new credential: paused once, no retry lost, each edit once' => sub {
    my @locked = $t->load_many('LOCKED', 'S22-', 30);
    $t->load('RIO', 'S22');
    $fake->fault({ organizationCode => 'LOCKED', after => 10, status => 401, error => 'UNAUTHORIZED' });
    $t->commit('LOCKED', [ $t->edits('LOCKED', map { [ $_, { monthlyRate => 4000 } ] } @locked) ]);
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pems_pause WHERE organization_id = 'org-locked' AND cause = 'credential')"), 'PEMS refuses the token: the organization is paused');
    # from now on PEMS really has another token
    $fake->add_organization('LOCKED', 'the-new-token');
    $fake->clear_faults;
    ok($t->wait_for("SELECT NOT EXISTS (SELECT FROM pfa_write_queue WHERE organization_id = 'org-locked' AND status = 'processing')"), 'nothing is under way');
    my $refused = grep { $_->{status} == 401 } $fake->requests(organizationCode => 'LOCKED');
    ok($refused > 0 && $refused <= 4, "$refused requests were refused, as many as were under way at most");
    is($t->sql("SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM pfa_write_queue WHERE organization_id = 'org-locked' GROUP BY status) q"),
        'completed 10, pending 20', 'ten edits are through, the others wait');
    is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE organization_id = 'org-locked' AND retry_count > 0"), '0', 'none has lost a retry');
    is($t->sql("SELECT count(*) FROM pfa_modification WHERE organization_id = 'org-locked' AND sync_status = 'failed'"), '0', 'none is a dead letter');
    my $other = $t->commit_edit('RIO', 'S22', { monthlyRate => 4000 });
    ok($t->wait_status($other, 'synced'), 'another organization goes on');
    is(scalar(grep { $_->{status} == 401 } $fake->requests(organizationCode => 'LOCKED')), $refused, 'the paused one asks no more');

    $t->set_credential('LOCKED', 'the-new-token');
    ok($t->wait_for("SELECT count(*) = 30 FROM pfa_modification WHERE organization_id = 'org-locked' AND sync_status = 'synced'"), 'with the new credential all edits are synced');
    my %times;
    $times{"$_->{pfaId} v$_->{toVersion}"}++ for $fake->changes(organizationCode => 'LOCKED', by => 'client');
    is_deeply(\%times, { map { ("$_ v2" => 1) } @locked }, 'PEMS has each of them once');
    is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE organization_id = 'org-locked' AND (retry_count > 0 OR error_code IS NOT NULL)"), '0', 'no retry was lost');
    my @odd = grep { $t->attempts($_) !~ /^(?:PUT 401 UNAUTHORIZED, )?PUT 200$/ } map { $_->{id} } $t->rows("SELECT id FROM pfa_modification WHERE organization_id = 'org-locked'");
    is_deeply(\@odd, [], 'the audit log has for each one PUT that succeeded, and at most one that was refused');
    is($t->sql("SELECT string_agg(event_type, ' ' ORDER BY at) FROM pems_audit_log WHERE organization_id = 'org-locked' AND item_id IS NULL"),
        'CREDENTIAL_CHANGED PAUSED CREDENTIAL_CHANGED', 'one alert, one change of the credential');
};

subtest 'scenario 23: a 429 with an HTTP date: the endpoint waits by the clock of PEMS, and no retry is lost' => sub {
    # PEMS's clock is two hours ahead of ours, or behind: the date counts from its own
    my %skew = (AHEAD => 7200, BEHIND => -7200);
    my %first;
    for my $code (sort keys %skew)
    {
        $t->add_fake(lc $code)->fault({ count => 1, retryAfterDateSeconds => 3, dateSkewSeconds => $skew{$code} });
        $t->add_organization($code, fake => lc $code);
        $t->load($code, 'S23', 'S23-next');
        $first{$code} = $t->commit_edit($code, 'S23', { monthlyRate => 4000 });
    }
    for my $code (sort keys %skew)
    {
        my $endpoint = $t->fake_of($code);
        ok($t->wait_until(sub { $endpoint->requests > 0 }, what => 'a request'), "$code: PEMS answers 429");
        my $next = $t->commit_edit($code, 'S23-next', { monthlyRate => 4000 });
        ok($t->wait_status($_, 'synced'), "$code: synced") for $first{$code}, $next;
        $t->story_is($first{$code}, "$code: the same write again, later",
            status => 'synced completed', attempts => 'PUT 429 RATE_LIMITED, PUT 200', requests => 'PUT v1 429, PUT v1 200', keys => '1, 1', changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 2 2');
        $t->story_is($next, "$code: another record waited, too", status => 'synced completed', attempts => 'PUT 200', requests => 'PUT v1 200');
        my ($throttled, @later) = $endpoint->requests;
        # an HTTP date has no fractions of a second
        my @early = grep { $t->sql("SELECT '$_->{at}'::timestamptz - '$throttled->{at}'::timestamptz < interval '1.99 s'") eq 't' } @later;
        is(scalar @early, 0, "$code: nothing was sent before");
    }
};

subtest 'scenario 24: 200 with success:false, empty, HTML, or another record' => sub {
    my %fault = (refused => { successFalse => 'BUSINESS_RULE' }, empty => { emptyBody => JSON::PP::true }, html => { html => JSON::PP::true }, other => { wrongId => JSON::PP::true });
    $t->load('RIO', map { "S24-$_" } sort keys %fault);
    $fake->fault(map { { pfaId => "S24-$_", call => 'update', count => 1, %{ $fault{$_} } } } sort keys %fault);
    my %id = map { $_ => $t->edit('RIO', "S24-$_", { monthlyRate => 4000 }) } sort keys %fault;
    $t->commit('RIO', [ sort values %id ]);
    ok($t->wait_status($id{refused}, 'failed'), 'success:false is a no');
    ok($t->wait_status($id{$_}, 'synced'), "$_: synced") for qw(empty html other);

    $t->story_is($id{refused}, 'success:false: one PUT, no change, a dead letter',
        status => 'failed failed', error => 'INVALID_REQUEST', attempts => 'PUT 200 INVALID_REQUEST', requests => 'PUT v1 200', keys => '1', changes => '', versions => '- 1 1');
    my %found = (status => 'synced completed', retries => 1, changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 2 2');
    $t->story_is($id{empty}, 'an empty body: PEMS had done it, which a look shows', %found, attempts => 'PUT 200 BAD_RESPONSE, GET 200', requests => 'PUT v1 200, GET 200', keys => '1');
    $t->story_is($id{other}, 'an answer about another record: the same', %found, attempts => 'PUT 200 BAD_RESPONSE, GET 200', requests => 'PUT v1 200, GET 200', keys => '1');
    $t->story_is($id{html}, 'a page for people: PEMS had not done it; the same write again', %found, attempts => 'PUT 200 BAD_RESPONSE, GET 200, PUT 200', requests => 'PUT v1 200, GET 200, PUT v1 200', keys => '1, 1');
    $t->mirror_is_pems('RIO', "S24-$_") for sort keys %fault;
};

subtest 'scenario 25: a redirect is not followed' => sub {
    my $elsewhere = $t->add_fake('elsewhere');
    $elsewhere->add_organization('RIO', 'token-of-RIO');
    for my $status (302, 307)
    {
        my $pfa_id = "S25-$status";
        $t->load('RIO', $pfa_id);
        $fake->fault({ pfaId => $pfa_id, count => 1, status => $status, redirect => $elsewhere->url . "/pems/pfa/$pfa_id" });
        my $id = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 4000 });
        ok($t->wait_status($id, 'failed'), "$status: a dead letter");
        $t->story_is($id, "$status: one PUT, no change",
            status => 'failed failed', error => 'REDIRECT', attempts => "PUT $status REDIRECT", requests => "PUT v1 $status", keys => '1', changes => '', versions => '- 1 1');
        like($t->item($id)->{last_error}, qr/\w+ \w+/, "$status: with a sentence for the administrator");
    }
    is(scalar(my @requests = $elsewhere->requests), 0, 'the other address saw no request');
};

subtest 'scenario 26: an endless body is cut; other records go on, and a read finds what PEMS has done' => sub {
    $t->load('RIO', 'S26', 'S26-other');
    $fake->fault({ pfaId => 'S26', count => 1, endlessBody => JSON::PP::true });
    my $id    = $t->commit_edit('RIO', 'S26', { monthlyRate => 4000 });
    my $other = $t->commit_edit('RIO', 'S26-other', { monthlyRate => 4000 });
    ok($t->wait_status($_, 'synced'), 'synced') for $other, $id;
    like($t->attempts($id), qr/^PUT (?:200 )?RESPONSE_TOO_LARGE, GET 200$/, 'the answer is too large, and the record is read');
    $t->story_is($id, 'without a second write', status => 'synced completed', retries => 1, keys => '1', changes => 'v1>v2 {"monthlyRate":4000}', versions => '2 2 2');
    $t->mirror_is_pems('RIO', 'S26');
};

# A change in PEMS, a delta, as they are written here: a decoded number would lose its zeros.
sub change_raw
{
    my ($pfa_id, $changes) = @_;
    my $body   = qq({"organizationCode": "RIO", "pfaId": "$pfa_id", "by": "pems.user\@example.com", "changes": $changes});
    my $answer = HTTP::Tiny->new->post($fake->endpoint . '/_control/records', { content => $body });
    die "control: $answer->{content}" if !$answer->{success};
    return;
}

sub commit_raw
{
    my ($pfa_id, $delta) = @_;
    my $id = $t->edit('RIO', $pfa_id, { description => 'replaced below' });
    $t->sql("UPDATE pfa_modification SET delta = '$delta' WHERE id = '$id'");
    $t->commit('RIO', [$id]);
    return $id;
}

# The record in PEMS as a whole, without a field.
sub drop_field
{
    my ($pfa_id, $field) = @_;
    my $record = $fake->record('RIO', $pfa_id);
    delete $record->{data}{$field};
    $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, data => $record->{data}, version => $record->{version} + 1 });
    return;
}

subtest 'scenario 27: 5500.00 = 5500.0, Z = +00:00, null is not missing' => sub {
    my %same = (status => 'synced completed', attempts => 'PUT 409 VERSION_CONFLICT, GET 200', requests => 'PUT v1 409, GET 200', keys => '1', changes => '', versions => '2 2 2');
    my %sent = (status => 'synced completed', attempts => 'PUT 409 VERSION_CONFLICT, GET 200, PUT 200', requests => 'PUT v1 409, GET 200, PUT v2 200', keys => '1, 2', versions => '3 3 3');
    my %clash = (status => 'conflict conflict', error => 'CONFLICT', attempts => 'PUT 409 VERSION_CONFLICT, GET 200', requests => 'PUT v1 409, GET 200', keys => '1',
        changes => '', versions => '- 2 2', conflicts => 'update_update unresolved');
    $t->load('RIO', map { "S27-$_" } qw(number number-base time time-base gone null-gone));
    # a base that has no such field at all
    $fake->edit({ organizationCode => 'RIO', pfaId => 'S27-came', data => { pfaId => 'S27-came', monthlyRate => 5500 }, version => 1 });
    $t->sql(q{INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'S27-came', 1, '{"pfaId": "S27-came", "monthlyRate": 5500}')});

    change_raw('S27-number', '{"monthlyRate": 6000.0}');
    my $id = commit_raw('S27-number', '{"monthlyRate": 6000.00}');
    ok($t->wait_status($id, 'synced'), 'remote 6000.0, ours 6000.00');
    $t->story_is($id, 'the same number: nothing to send', %same);

    change_raw('S27-number-base', '{"monthlyRate": 5500.00}');
    $id = commit_raw('S27-number-base', '{"monthlyRate": 4000.50}');
    ok($t->wait_status($id, 'synced'), 'base 5500, remote 5500.00');
    $t->story_is($id, 'nobody changed it: ours is sent', %sent, changes => 'v2>v3 {"monthlyRate":4000.5}');

    change_raw('S27-time', '{"forecastEnd": "2025-09-30T00:00:00+00:00"}');
    $id = commit_raw('S27-time', '{"forecastEnd": "2025-09-30T00:00:00Z"}');
    ok($t->wait_status($id, 'synced'), 'remote +00:00, ours Z');
    $t->story_is($id, 'the same instant: nothing to send', %same);

    change_raw('S27-time-base', '{"forecastEnd": "2025-06-30T00:00:00+00:00"}');
    $id = commit_raw('S27-time-base', '{"forecastEnd": "2025-09-30T00:00:00Z"}');
    ok($t->wait_status($id, 'synced'), 'base Z, remote +00:00');
    $t->story_is($id, 'nobody changed it: ours is sent', %sent, changes => 'v2>v3 {"forecastEnd":"2025-09-30T00:00:00Z"}');

    drop_field('S27-gone', 'purchasePrice');
    $id = commit_raw('S27-gone', '{"purchasePrice": 100}');
    ok($t->wait_status($id, 'conflict'), 'base null, remote missing');
    $t->story_is($id, 'somebody changed it: conflict', %clash);
    $t->sides_are($t->conflict($id), 'all three sides', purchasePrice => [ undef, 100, 'missing' ]);

    drop_field('S27-null-gone', 'contract');
    $id = commit_raw('S27-null-gone', '{"contract": null}');
    ok($t->wait_status($id, 'conflict'), 'ours null, remote missing');
    $t->story_is($id, 'not the same: conflict', %clash);
    $t->sides_are($t->conflict($id), 'all three sides', contract => [ 'C-1001', undef, 'missing' ]);

    change_raw('S27-came', '{"purchasePrice": null}');
    $id = commit_raw('S27-came', '{"purchasePrice": 100}');
    ok($t->wait_status($id, 'conflict'), 'base missing, remote null');
    $t->story_is($id, 'somebody changed it: conflict', %clash);
    $t->sides_are($t->conflict($id), 'all three sides', purchasePrice => [ 'missing', 100, undef ]);
    $t->mirror_is_pems('RIO', "S27-$_") for qw(number number-base time time-base gone null-gone came);
};

sub status_of
{
    my ($id) = @_;
    return $json->decode($t->sql("SELECT pems_sync_status('$id')"));
}

sub state_of
{
    my ($id, $pfa_id) = @_;
    return $json->decode($t->sql("SELECT pems_sync_state('$id', ARRAY['$pfa_id'])"))->{$pfa_id};
}

subtest 'scenario 28: organization RIO against RIO2: the same pfaId, and nothing crosses' => sub {
    my $mark = $fake->mark;
    my %before = map { $_ => status_of($_) } 'org-rio', 'org-rio2';
    $t->load($_, 'S28') for qw(RIO RIO2);
    # in RIO another field was changed meanwhile, in RIO2 the same
    $fake->edit({ organizationCode => 'RIO', pfaId => 'S28', changes => { description => 'of RIO' } }, { organizationCode => 'RIO2', pfaId => 'S28', changes => { monthlyRate => 2222 } });
    my $rio  = $t->edit('RIO', 'S28', { monthlyRate => 1000 });
    my $rio2 = $t->edit('RIO2', 'S28', { monthlyRate => 2000 });
    like($t->sql(PemsSync::Test::commit_statement('RIO', [$rio2])), qr/"code": "NOT_FOUND"/, 'RIO cannot commit an edit of RIO2');
    $t->commit('RIO2', [$rio2]);
    $t->commit('RIO',  [$rio]);
    ok($t->wait_status($rio, 'synced'), 'RIO: merged');
    ok($t->wait_status($rio2, 'conflict'), 'RIO2: in conflict');
    $t->story_is($rio, 'RIO: its own record', status => 'synced completed', attempts => 'PUT 409 VERSION_CONFLICT, GET 200, PUT 200',
        requests => 'PUT v1 409, GET 200, PUT v2 200', keys => '1, 2', changes => 'v2>v3 {"monthlyRate":1000}', versions => '3 3 3');
    $t->story_is($rio2, 'RIO2: its own record', status => 'conflict conflict', error => 'CONFLICT', conflicts => 'update_update unresolved', attempts => 'PUT 409 VERSION_CONFLICT, GET 200',
        requests => 'PUT v1 409, GET 200', keys => '1', changes => '', versions => '- 2 2');
    my $conflict = $t->conflict($rio2);
    $t->sides_are($conflict, 'RIO2: base, local, remote', monthlyRate => [ 5500, 2000, 2222 ], description => [ 'Crawler crane for the pipe rack', 'missing', 'Crawler crane for the pipe rack' ]);

    # status and conflict functions
    my ($open, $wrong) = ($conflict->{id}, qr/^P0002: /);
    is($json->decode($t->sql("SELECT pems_conflicts('org-rio2', 'unresolved')"))->{total}, 1, 'RIO2 has one conflict');
    is($t->sql("SELECT count(*) FROM jsonb_array_elements(pems_conflicts('org-rio') -> 'conflicts') c WHERE c ->> 'pfaId' = 'S28'"), '0', 'RIO has none of this record');
    like($t->sql_error("SELECT pems_conflict('$open', 'org-rio')"), $wrong, 'RIO cannot see it');
    like($t->sql_error(PemsSync::Test::resolve_statement($open, 'use_local', organization_id => 'org-rio')), $wrong, 'nor resolve it');
    like($t->sql_error("SELECT pems_discard('$rio2', organization_id => 'org-rio')"), $wrong, 'nor discard its edit');
    like($t->sql_error("SELECT pems_retry(ARRAY['" . $t->item($rio2)->{id} . "'], 'org-rio')"), $wrong, 'nor retry it');
    is($t->modification($rio2)->{sync_status}, 'conflict', 'which is as it was');
    my %more = map { my $id = $_; $id => { map { $_ => status_of($id)->{$_} - $before{$id}{$_} } qw(completed conflicts) } } keys %before;
    is_deeply(\%more, { 'org-rio' => { completed => 1, conflicts => 0 }, 'org-rio2' => { completed => 0, conflicts => 1 } }, 'each status counts its own');
    is_deeply([ map { [ @{ state_of($_, 'S28') }{qw(status conflictId modificationId)} ] } 'org-rio', 'org-rio2' ], [ [ 'synced', undef, $rio ], [ 'conflict', $open, $rio2 ] ], 'and so does the state of the record');

    # a resolution, and a refused credential, concern one of them
    $t->resolve($open, 'use_local', organization_id => 'org-rio2');
    ok($t->wait_status($rio2, 'synced'), 'RIO2: resolved');
    is_deeply([ map { my $r = $fake->record($_, 'S28'); [ $r->{version}, @{ $r->{data} }{qw(monthlyRate description)} ] } qw(RIO RIO2) ],
        [ [ 3, 1000, 'of RIO' ], [ 3, 2000, 'Crawler crane for the pipe rack' ] ], 'PEMS has in each what its own user wrote');
    $t->mirror_is_pems($_, 'S28') for qw(RIO RIO2);
    $t->set_credential('RIO2', 'token-of-RIO');
    my $next2 = $t->commit_edit('RIO2', 'S28', { dor => 'PROJECT' });
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pems_pause WHERE organization_id = 'org-rio2')"), 'the token of RIO is not good for RIO2');
    my $next = $t->commit_edit('RIO', 'S28', { dor => 'PROJECT' });
    ok($t->wait_status($next, 'synced'), 'RIO goes on');
    $t->set_credential('RIO2', 'token-of-RIO2');
    ok($t->wait_status($next2, 'synced'), 'RIO2 with its own token, too');

    my @requests = $fake->requests(since => $mark, pfaId => 'S28');
    my %code = map { $t->item($_)->{id} => 'RIO' } $rio, $next;
    $code{ $t->item($_)->{id} } = 'RIO2' for $rio2, $next2;
    my @crossed = grep { $_->{organizationCode} ne $code{ $_->{requestId} =~ s/:.*//r } } @requests;
    is_deeply(\@crossed, [], 'each request carries the code of its own organization');
    is_deeply([ sort map { "$_->{organizationCode} $_->{status}" } grep { !$_->{authorized} } @requests ], ['RIO2 401'], 'and its own token');
};

$t->finish;
