# Scenarios 6 to 14 and 21: when two people changed one record: merged, or a conflict with all three sides, and each
# way to resolve it, with what PEMS saw and did, the mirror, the conflict, and the audit log.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('conflicts', settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 2, poll_interval => '1h' });
$t->add_organization('RIO');
my $fake = $t->fake;

# Somebody works on a record in PEMS.
sub change
{
    my ($pfa_id, %changes) = @_;
    return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => \%changes });
}

sub delete_in_pems { return $fake->edit({ organizationCode => 'RIO', pfaId => $_[0], delete => JSON::PP::true }) }

# Fields of the record in PEMS.
sub in_pems
{
    my ($pfa_id, @fields) = @_;
    return [ @{ $fake->record('RIO', $pfa_id)->{data} }{@fields} ];
}

# An edit that meets a change in PEMS: its id and its conflict.
sub clash
{
    my ($pfa_id, $delta, %theirs) = @_;
    $t->load('RIO', $pfa_id);
    change($pfa_id, %theirs);
    my $id = $t->commit_edit('RIO', $pfa_id, $delta);
    ok($t->wait_status($id, 'conflict'), "$pfa_id: in conflict");
    return ($id, $t->conflict($id));
}

# What a resolution raises: SQLSTATE, message and DETAIL.
sub refused
{
    my ($conflict, @resolution) = @_;
    my (undef, undef, $error) = $t->node->psql('postgres', "\\set VERBOSITY verbose\n" . PemsSync::Test::resolve_statement($conflict->{id}, @resolution), on_error_stop => 0);
    my ($message, $detail) = ($error =~ /ERROR:\s+(.*)/, $error =~ /DETAIL:\s+(.*)/);
    return join ' / ', grep { defined } $message, $detail;
}

# The line of a resolution in the audit log: who, and what.
sub resolution_line
{
    my ($conflict) = @_;
    return [ map { [ $_->{actor}, $_->{request} ] }
          $t->rows("SELECT actor, request FROM pems_audit_log WHERE event_type = 'CONFLICT_RESOLVED' AND conflict_id = '$conflict->{id}'") ];
}

# What a clash of one field looks like before anybody resolves it.
my %met = (
    status => 'conflict conflict', error => 'CONFLICT', conflicts => 'update_update unresolved', attempts => 'PUT 409 VERSION_CONFLICT, GET 200',
    requests => 'PUT v1 409, GET 200', keys => '1', changes => '', versions => '- 2 2');
# And after the user's side was taken, when PEMS stayed as it was.
my %settled = (
    status => 'synced completed', attempts => 'PUT 409 VERSION_CONFLICT, GET 200, PUT 200', requests => 'PUT v1 409, GET 200, PUT v2 200', keys => '1, 2', versions => '3 3 3',
    events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT CONFLICT_DETECTED CONFLICT_RESOLVED WRITE_ATTEMPT');

subtest 'scenario 6: base 1, mirror 2, the same field with another value: a conflict with base, local and remote' => sub {
    $t->load('RIO', 'S6');
    change('S6', monthlyRate => 6000);
    $t->mirror_from_pems('RIO', 'S6');
    my $id = $t->commit_edit('RIO', 'S6', { monthlyRate => 4000 }, base => 1);
    ok($t->wait_status($id, 'conflict'), 'in conflict');
    $t->story_is($id, 'without any request', %met, attempts => '', requests => '', keys => '', events => 'COMMITTED CONFLICT_DETECTED');
    my $conflict = $t->conflict($id);
    $t->sides_are($conflict, 'base, local, remote', monthlyRate => [ 5500, 4000, 6000 ], dor => [ 'BEO', 'missing', 'BEO' ]);
    is_deeply([ @$conflict{qw(local_version pems_version conflict_fields previous_conflict_id)} ], [ 1, 2, ['monthlyRate'], undef ], 'its versions and its field');
    is_deeply($conflict->{base_data}, PemsSync::Test::record_data('S6'), 'base is the whole record as the user saw it');
    is_deeply($conflict->{pems_data}, $fake->record('RIO', 'S6')->{data}, 'remote the whole record as PEMS has it');
    is($t->modification($id)->{sync_error}, $t->item($id)->{last_error}, 'the edit says why');
    $t->mirror_is_pems('RIO', 'S6');
};

subtest 'scenario 7: a 409 with disjoint fields is merged, sent with the current version' => sub {
    $t->load('RIO', 'S7', 'S7-part');
    change('S7', description => 'by another user');
    my $id = $t->commit_edit('RIO', 'S7', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'refused, looked at, sent on the version of now',
        status => 'synced completed', events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT WRITE_ATTEMPT', attempts => 'PUT 409 VERSION_CONFLICT, GET 200, PUT 200',
        requests => 'PUT v1 409, GET 200, PUT v2 200', keys => '1, 2', changes => 'v2>v3 {"monthlyRate":4000}', versions => '3 3 3');
    is_deeply(in_pems('S7', qw(monthlyRate description)), [ 4000, 'by another user' ], 'PEMS has both');
    $t->mirror_is_pems('RIO', 'S7');

    # what PEMS has already is not sent
    change('S7-part', dor => 'PROJECT', description => 'by another user');
    $id = $t->commit_edit('RIO', 'S7-part', { monthlyRate => 4000, dor => 'PROJECT' });
    ok($t->wait_status($id, 'synced'), 'two fields, one of them as PEMS has it: synced');
    $t->story_is($id, 'the other one is sent', status => 'synced completed', requests => 'PUT v1 409, GET 200, PUT v2 200', keys => '1, 2', changes => 'v2>v3 {"monthlyRate":4000}', versions => '3 3 3');
    $t->mirror_is_pems('RIO', 'S7-part');
};

subtest 'scenario 8: the field went from A to B and back to A: ours is sent' => sub {
    $t->load('RIO', 'S8');
    change('S8', monthlyRate => 9000);
    change('S8', monthlyRate => 5500);
    my $id = $t->commit_edit('RIO', 'S8', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'on the version of now', status => 'synced completed', attempts => 'PUT 409 VERSION_CONFLICT, GET 200, PUT 200',
        requests => 'PUT v1 409, GET 200, PUT v3 200', keys => '1, 3', changes => 'v3>v4 {"monthlyRate":4000}', versions => '4 4 4');
    $t->mirror_is_pems('RIO', 'S8');
};

subtest 'scenario 9: the base is missing from the history: what differs is a conflict, nothing is guessed' => sub {
    for my $pfa_id ('S9', 'S9-same')
    {
        $t->load('RIO', $pfa_id);
        change($pfa_id, dor => 'PROJECT');
        $t->mirror_from_pems('RIO', $pfa_id);
        $t->sql("DELETE FROM pems_mirror_version WHERE pfa_id = '$pfa_id' AND version = 1");
    }
    # monthlyRate is untouched in PEMS, but nobody can know that
    my $id   = $t->commit_edit('RIO', 'S9',      { monthlyRate => 4000, dor => 'PROJECT' }, base => 1);
    my $same = $t->commit_edit('RIO', 'S9-same', { dor => 'PROJECT' }, base => 1);
    ok($t->wait_status($id, 'conflict'), 'in conflict');
    $t->story_is($id, 'without any request', %met, conflicts => 'base_missing unresolved', attempts => '', requests => '', keys => '');
    my $conflict = $t->conflict($id);
    is_deeply([ @$conflict{qw(base_data conflict_fields local_version pems_version)} ], [ undef, ['monthlyRate'], 1, 2 ], 'no base, and only the field that differs');
    like($t->modification($id)->{sync_error}, qr/version that the edit was made on is not in the history/, 'the edit says that, and not that somebody changed the field');
    $t->sides_are($conflict, 'local and remote', monthlyRate => [ 'missing', 4000, 5500 ]);
    ok($t->wait_status($same, 'synced'), 'an edit that PEMS has already is synced all the same');
    $t->story_is($same, 'without any request', status => 'synced completed', requests => '', events => 'COMMITTED SYNCED_WITHOUT_REQUEST', changes => '', versions => '2 2 2');

    is_deeply($t->resolve($conflict->{id}, 'use_local')->{appliedChanges}, { monthlyRate => 4000, dor => 'PROJECT' }, 'the user decides');
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'on the version that the conflict showed', status => 'synced completed', conflicts => 'base_missing resolved_manual use_local', requests => 'PUT v2 200', keys => '2', versions => '3 3 3');
    is_deeply(in_pems('S9', qw(monthlyRate dor)), [ 4000, 'PROJECT' ], 'PEMS has it');
};

subtest 'scenario 10: a merge would break a rule: a conflict, not a PUT' => sub {
    my ($id, $conflict) = clash('S10', { forecastStart => '2025-04-01T00:00:00Z' }, forecastEnd => '2025-02-28T00:00:00Z');
    $t->story_is($id, 'the merged record is not sent', %met, conflicts => 'validation unresolved');
    is_deeply($conflict->{conflict_fields}, ['forecastStart'], 'its field');
    $t->sides_are($conflict, 'base, local, remote', forecastStart => [ '2025-01-15T00:00:00Z', '2025-04-01T00:00:00Z', '2025-01-15T00:00:00Z' ],
        forecastEnd => [ '2025-06-30T00:00:00Z', 'missing', '2025-02-28T00:00:00Z' ]);
    like($t->sql("SELECT pems_conflict('$conflict->{id}') ->> 'errors'"), qr/Forecast end/, 'pems_conflict() names the rule');
    like($t->item($id)->{last_error}, qr/Forecast end/, 'and so does last_error');

    like(refused($conflict, 'use_local'), qr/^22023: .*Forecast end/, 'use_local would break it, too');
    $t->story_is($id, 'so nothing has changed', %met, conflicts => 'validation unresolved');
    my %merged = (forecastStart => '2025-04-01T00:00:00Z', forecastEnd => '2025-08-31T00:00:00Z');
    $t->resolve($conflict->{id}, 'merge', merged_data => \%merged);
    ok($t->wait_status($id, 'synced'), 'a merge that fits is sent');
    $t->story_is($id, 'on the version of now', %settled, conflicts => 'validation resolved_manual merge', changes => 'v2>v3 ' . JSON::PP->new->canonical->encode(\%merged));
    $t->mirror_is_pems('RIO', 'S10');
};

# A conflict that is resolved with use_local, and what PEMS changes before the edit is sent again.
sub resolved_meanwhile
{
    my ($pfa_id, %meanwhile) = @_;
    my ($id, $conflict) = clash($pfa_id, { monthlyRate => 4000 }, monthlyRate => 6000);
    $t->sql("SELECT pems_pause('org-rio')");
    my $answer = $t->resolve($conflict->{id}, 'use_local', resolved_by => 'ann');
    is_deeply([ @$answer{qw(success conflictId appliedChanges)} ], [ JSON::PP::true, $conflict->{id}, { monthlyRate => 4000 } ], 'use_local');
    my $item = $t->item($id);
    is_deeply([ @$item{qw(status base_version)}, $t->modification($id)->{sync_status} ], [ 'pending', 2, 'queued' ], 'queued again on the version that the user saw');
    change($pfa_id, %meanwhile) if %meanwhile;
    $t->sql("SELECT pems_resume('org-rio')");
    return ($id, $conflict);
}

subtest 'scenario 11: use_local, and PEMS moves the same field again: a new conflict, and PEMS keeps its value' => sub {
    my ($id, $first) = resolved_meanwhile('S11', monthlyRate => 7000);
    ok($t->wait_status($id, 'conflict'), 'in conflict once more');
    $t->story_is($id, 'sent on the version that the user saw, refused, looked at',
        status => 'conflict conflict', error => 'CONFLICT', conflicts => 'update_update resolved_manual use_local, update_update unresolved',
        events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT CONFLICT_DETECTED CONFLICT_RESOLVED WRITE_ATTEMPT READ_ATTEMPT CONFLICT_DETECTED',
        attempts => 'PUT 409 VERSION_CONFLICT, GET 200, PUT 409 VERSION_CONFLICT, GET 200', requests => 'PUT v1 409, GET 200, PUT v2 409, GET 200', keys => '1, 2', changes => '', versions => '- 3 3');
    my ($old, $new) = $t->conflicts($id);
    is($old->{id}, $first->{id}, 'the first conflict');
    is_deeply([ @$old{qw(resolved_by previous_conflict_id)} ], [ 'ann', undef ], 'is resolved');
    is_deeply([ @$new{qw(previous_conflict_id local_version pems_version conflict_fields)} ], [ $old->{id}, 2, 3, ['monthlyRate'] ], 'the new one follows it');
    $t->sides_are($old, 'the first: base, local, remote', monthlyRate => [ 5500, 4000, 6000 ]);
    $t->sides_are($new, 'the new one: what the user saw, wants, and PEMS has now', monthlyRate => [ 6000, 4000, 7000 ]);
    is_deeply(in_pems('S11', 'monthlyRate'), [7000], 'PEMS keeps its value');
    $t->mirror_is_pems('RIO', 'S11');

    # and once more, when PEMS stays as it is
    $t->resolve($new->{id}, 'use_local', resolved_by => 'ann');
    ok($t->wait_status($id, 'synced'), 'a second resolution is sent');
    $t->story_is($id, 'on the version that it saw', status => 'synced completed', conflicts => 'update_update resolved_manual use_local, update_update resolved_manual use_local',
        requests => 'PUT v1 409, GET 200, PUT v2 409, GET 200, PUT v3 200', keys => '1, 2, 3', changes => 'v3>v4 {"monthlyRate":4000}', versions => '4 4 4');
};

subtest 'scenario 11: use_local, and PEMS moves another field: the resolution stands' => sub {
    my ($id, $conflict) = resolved_meanwhile('S11-other', description => 'meanwhile');
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'merged with the other change',
        status => 'synced completed', conflicts => 'update_update resolved_manual use_local', attempts => 'PUT 409 VERSION_CONFLICT, GET 200, PUT 409 VERSION_CONFLICT, GET 200, PUT 200',
        requests => 'PUT v1 409, GET 200, PUT v2 409, GET 200, PUT v3 200', keys => '1, 2, 3', changes => 'v3>v4 {"monthlyRate":4000}', versions => '4 4 4');
    is_deeply(in_pems('S11-other', qw(monthlyRate description)), [ 4000, 'meanwhile' ], 'PEMS has both');
    is_deeply(resolution_line($conflict), [ [ 'ann', { resolution => 'use_local', pemsVersion => 2, changes => { monthlyRate => 4000 } } ] ], 'the audit log says who decided what');
    $t->mirror_is_pems('RIO', 'S11-other');
};

subtest 'scenario 11: use_local, and PEMS stays as it was: sent on the version that the user saw' => sub {
    my ($id) = resolved_meanwhile('S11-still');
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'at once', %settled, conflicts => 'update_update resolved_manual use_local', changes => 'v2>v3 {"monthlyRate":4000}');
    $t->mirror_is_pems('RIO', 'S11-still');
};

# Ann resolves in a transaction that is open, Bob meanwhile; then Ann ends hers.  Returns what Bob got.
sub two_resolve
{
    my ($conflict, $end) = @_;
    my ($ann, $bob) = map { $t->node->background_psql('postgres', on_error_stop => 0) } 1, 2;
    $ann->query_safe('BEGIN; ' . PemsSync::Test::resolve_statement($conflict->{id}, 'use_local', resolved_by => 'ann'));
    my $pid = $bob->query_safe('SELECT pg_backend_pid()');
    $bob->query_until(qr/begun/, "\\set VERBOSITY verbose\n\\echo begun\n" . PemsSync::Test::resolve_statement($conflict->{id}, 'use_pems', resolved_by => 'bob') . ";\n");
    ok($t->wait_for("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"), 'the second waits for the first');
    $ann->query_safe($end);
    my $answer = $bob->query('SELECT 1');
    $answer .= $bob->{stderr};
    $_->quit for $ann, $bob;
    return $answer;
}

subtest 'scenario 12: of two resolvers one wins, and the other gets 55000' => sub {
    my ($id, $conflict) = clash('S12', { monthlyRate => 4000 }, monthlyRate => 6000);
    my $answer = two_resolve($conflict, 'COMMIT');
    like($answer, qr/ERROR:\s+55000: .*already resolved/, 'the second gets 55000');
    like($answer, qr/DETAIL:\s+ann resolved it with use_local/, 'and learns who was first');
    ok($t->wait_status($id, 'synced'), 'the first is sent');
    $t->story_is($id, 'once', %settled, conflicts => 'update_update resolved_manual use_local', changes => 'v2>v3 {"monthlyRate":4000}');
    is($t->conflict($id)->{resolved_by}, 'ann', 'the conflict says who resolved it');
    is_deeply(resolution_line($conflict), [ [ 'ann', { resolution => 'use_local', pemsVersion => 2, changes => { monthlyRate => 4000 } } ] ], 'and the audit log has one resolution');
    like(refused($conflict, 'use_pems'), qr/^55000: .*already resolved/, 'who comes later gets 55000, too');

    ($id, $conflict) = clash('S12-back', { monthlyRate => 4000 }, monthlyRate => 6000);
    my $mark = $fake->mark;
    unlike(two_resolve($conflict, 'ROLLBACK'), qr/ERROR/, 'where the first rolls back, the second wins');
    $t->story_is($id, 'with what it chose', %met, status => 'superseded cancelled', conflicts => 'update_update resolved_manual use_pems');
    is($t->conflict($id)->{resolved_by}, 'bob', 'in its name');
    ok($t->quiet, 'all is quiet');
    is(scalar(my @requests = $fake->requests(since => $mark)), 0, 'and PEMS saw nothing of the first');
};

subtest 'scenario 13: a merge that omits a conflicting field is refused' => sub {
    my %theirs = (monthlyRate => 6000, description => 'by another user');
    my ($id, $conflict) = clash('S13', { monthlyRate => 4000, description => 'ours', contract => 'C-2002' }, %theirs);
    is_deeply([ sort @{ $conflict->{conflict_fields} } ], [qw(description monthlyRate)], 'two fields');
    $t->sides_are($conflict, 'base, local, remote', monthlyRate => [ 5500, 4000, 6000 ], description => [ 'Crawler crane for the pipe rack', 'ours', 'by another user' ]);

    like(refused($conflict, 'merge', merged_data => { monthlyRate => 5000 }), qr/^22023: .*every conflicting field.*description/, 'one is left out: 22023, and its name');
    like(refused($conflict, 'merge'), qr/^22023: /, 'no merged_data: 22023');
    like(refused($conflict, 'merge', merged_data => { monthlyRate => 5000, description => 'both', dor => 'NOBODY' }), qr/^22023: .*DOR/, 'a value that breaks a rule: 22023, and its field');
    $t->story_is($id, 'nothing has changed', %met);
    is_deeply(resolution_line($conflict), [], 'nor does the audit log know of a resolution');

    my %merged = (monthlyRate => 5000, description => 'both');
    is_deeply($t->resolve($conflict->{id}, 'merge', merged_data => \%merged, resolved_by => 'ann')->{appliedChanges}, \%merged, 'one that decides both is taken');
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'and takes the place of the edit', %settled, conflicts => 'update_update resolved_manual merge', changes => 'v2>v3 {"description":"both","monthlyRate":5000}');
    is_deeply(in_pems('S13', qw(monthlyRate description contract)), [ 5000, 'both', 'C-1001' ], 'what it leaves out is not sent');
    is_deeply([ @{ $t->conflict($id) }{qw(merged_data local_data)} ], [ \%merged, { monthlyRate => 4000, description => 'ours', contract => 'C-2002' } ], 'the conflict keeps both');
    $t->mirror_is_pems('RIO', 'S13');
};

subtest 'scenario 14: use_pems sends nothing' => sub {
    my ($id, $conflict) = clash('S14', { monthlyRate => 4000 }, monthlyRate => 6000);
    my $later = $t->commit_edit('RIO', 'S14', { dor => 'PROJECT' });
    is($t->sql("SELECT holding FROM pems_open_conflicts WHERE id = '$conflict->{id}'"), '1', 'a later edit is held');
    is_deeply($t->resolve($conflict->{id}, 'use_pems', resolved_by => 'ann')->{appliedChanges}, {}, 'use_pems applies nothing');
    ok($t->wait_status($later, 'synced'), 'the later edit goes on');
    $t->story_is($id, 'no request after the resolution', %met, status => 'superseded cancelled', conflicts => 'update_update resolved_manual use_pems', versions => '- 3 3',
        events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT CONFLICT_DETECTED CONFLICT_RESOLVED');
    $t->story_is($later, 'the later edit is sent on the version of now', status => 'synced completed', requests => 'PUT v2 200', keys => '2', changes => 'v2>v3 {"dor":"PROJECT"}', versions => '3 3 3');
    is_deeply(in_pems('S14', 'monthlyRate'), [6000], 'PEMS keeps its value');
    is_deeply(resolution_line($conflict), [ [ 'ann', { resolution => 'use_pems', pemsVersion => 2, changes => {} } ] ], 'the audit log says who decided what');
    $t->mirror_is_pems('RIO', 'S14');
};

subtest 'scenario 21: DELETE against a changed record: a conflict, and the record stays' => sub {
    $t->load('RIO', 'S21-keep', 'S21-delete');
    for my $pfa_id ('S21-keep', 'S21-delete')
    {
        change($pfa_id, description => 'by another user');
        my $id = $t->commit_edit('RIO', $pfa_id, {}, operation => 'DELETE');
        ok($t->wait_status($id, 'conflict'), "$pfa_id: in conflict");
        my %kept = (%met, conflicts => 'changed_in_pems_before_delete unresolved', attempts => 'DELETE 409 VERSION_CONFLICT, GET 200', requests => 'DELETE v1 409, GET 200');
        $t->story_is($id, "$pfa_id: the record stays", %kept);
        my $conflict = $t->conflict($id);
        is_deeply($conflict->{conflict_fields}, ['description'], "$pfa_id: its field is what differs");
        $t->sides_are($conflict, "$pfa_id: base, local, remote", description => [ 'Crawler crane for the pipe rack', 'missing', 'by another user' ]);
        like(refused($conflict, 'merge', merged_data => { description => 'x' }), qr/^55000: /, "$pfa_id: there is nothing to merge");
        if ($pfa_id eq 'S21-keep')
        {
            $t->resolve($conflict->{id}, 'use_pems');
            $t->story_is($id, 'use_pems keeps it', %kept, status => 'superseded cancelled', conflicts => 'changed_in_pems_before_delete resolved_manual use_pems');
            next;
        }
        $t->resolve($conflict->{id}, 'use_local');
        ok($t->wait_status($id, 'synced'), 'use_local deletes it');
        $t->story_is($id, 'on the version that the user saw', status => 'synced completed', conflicts => 'changed_in_pems_before_delete resolved_manual use_local',
            attempts => 'DELETE 409 VERSION_CONFLICT, GET 200, DELETE 200', requests => 'DELETE v1 409, GET 200, DELETE v2 200', keys => '1, 2', changes => 'v2>v3 deleted');
        ok($fake->record('RIO', $pfa_id)->{deleted}, 'PEMS has deleted it');
        ok(defined $t->mirror('RIO', $pfa_id)->{deleted_at}, 'and the mirror knows');
    }
};

subtest 'scenario 21: UPDATE of a deleted record: a conflict that only use_pems resolves' => sub {
    $t->load('RIO', 'S21-gone');
    delete_in_pems('S21-gone');
    my $id = $t->commit_edit('RIO', 'S21-gone', { monthlyRate => 4000, dor => 'PROJECT' });
    ok($t->wait_status($id, 'conflict'), 'in conflict');
    my %gone = (error => 'NOT_FOUND', events => 'COMMITTED WRITE_ATTEMPT READ_ATTEMPT READ_ATTEMPT CONFLICT_DETECTED',
        attempts => 'PUT 404 NOT_FOUND, GET 404 NOT_FOUND, GET 404 NOT_FOUND', requests => 'PUT v1 404, GET 404, GET 404', keys => '1', changes => '');
    $t->story_is($id, 'confirmed by two reads', %gone, status => 'conflict conflict', conflicts => 'deleted_in_pems unresolved');
    my $conflict = $t->conflict($id);
    is_deeply([ sort @{ $conflict->{conflict_fields} } ], [qw(dor monthlyRate)], 'on all its fields');
    is($conflict->{pems_data}, undef, 'PEMS has nothing');
    like($t->modification($id)->{sync_error}, qr/^PEMS does not have the record any more\..*restore it.*use_pems/, 'the edit says so, and what can be done');
    $t->sides_are($conflict, 'base, local, remote', monthlyRate => [ 5500, 4000, 'missing' ]);
    ok(defined $t->mirror('RIO', 'S21-gone')->{deleted_at}, 'the mirror knows');

    like(refused($conflict, 'use_local'), qr/^55000: .*deleted in PEMS/, 'use_local: 55000');
    like(refused($conflict, 'merge', merged_data => { monthlyRate => 1, dor => 'BEO' }), qr/^55000: .*deleted in PEMS/, 'merge: 55000');
    $t->resolve($conflict->{id}, 'use_pems');
    $t->story_is($id, 'use_pems: nothing is sent', %gone, events => "$gone{events} CONFLICT_RESOLVED", status => 'superseded cancelled', conflicts => 'deleted_in_pems resolved_manual use_pems');
    ok($fake->record('RIO', 'S21-gone')->{deleted}, 'PEMS still has deleted it');
};

$t->finish;
