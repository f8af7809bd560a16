# What PEMS may do that no single answer shows: replicas that lag, records that come back, writes that are accepted and not
# made, objects that are replaced, a PEMS that was restored, and versions whose data change.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('pems_faults',
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 2, request_timeout => '2s', poll_interval => '1s' });
my $json = JSON::PP->new->canonical;
my $fake = $t->fake;
$t->add_organization('RIO');

sub in_pems { my ($pfa_id, %changes) = @_; return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => \%changes }) }
sub put_in_pems { my ($pfa_id, %record) = @_; return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, %record }) }
sub delete_in_pems { my ($pfa_id) = @_; return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, delete => JSON::PP::true }) }
sub fault { my ($pfa_id, %fault) = @_; return $fake->fault({ pfaId => $pfa_id, count => 1, %fault }) }

# The answer of a replica that has that version of the record only.
sub old_answer
{
    my ($pfa_id, $version, %data) = @_;
    return (call => 'read', status => 200, body => { success => JSON::PP::true, pfaId => $pfa_id, version => $version,
        updatedAt => '2025-01-01T00:00:00Z', data => PemsSync::Test::record_data($pfa_id, %data) });
}

# The application writes the mirror itself.
sub set_mirror
{
    my ($pfa_id, $version, %data) = @_;
    my $text = $json->encode(PemsSync::Test::record_data($pfa_id, %data));
    return $t->sql("UPDATE pfa_mirror SET version = $version, data = \$json\$$text\$json\$ WHERE pfa_id = '$pfa_id'");
}

sub health { return $json->decode($t->sql('SELECT pems_health()')) }

subtest 'a replica that lags: what is older than what is known is read again, and never stored' => sub {
    $t->load('RIO', 'LAG-1', 'LAG-2');
    # after our own write: newVersion 4, and the replica has version 1 still
    fault('LAG-1', call => 'update', newVersionBump => 2);
    fault('LAG-1', old_answer('LAG-1', 1));
    my $id = $t->commit_edit('RIO', 'LAG-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'read twice', attempts => 'PUT 200, GET 200 STALE_READ, GET 200', versions => '4 4 4');
    $t->mirror_is_pems('RIO', 'LAG-1');

    # after a conflict: PEMS says which version it has
    in_pems('LAG-2', description => 'meanwhile');
    fault('LAG-2', old_answer('LAG-2', 1));
    $id = $t->commit_edit('RIO', 'LAG-2', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced after a conflict of versions');
    $t->story_is($id, 'read twice', attempts => 'PUT 409 VERSION_CONFLICT, GET 200 STALE_READ, GET 200, PUT 200', versions => '3 3 3');
    is($t->sql(q{SELECT string_agg(DISTINCT version::text, ' ') FROM pems_mirror_version WHERE pfa_id = 'LAG-2'}), '1 2 3', 'and the history is right');
};

subtest 'a replica that never catches up: a dead letter that says so' => sub {
    $t->load('RIO', 'LAG-3');
    in_pems('LAG-3', description => 'meanwhile');
    fault('LAG-3', old_answer('LAG-3', 1), count => 1000);
    my $id = $t->commit_edit('RIO', 'LAG-3', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'failed', timeout => 90), 'failed');
    my $item = $t->item($id);
    is($item->{error_code}, 'STALE_READ', 'STALE_READ');
    like($item->{last_error}, qr/PEMS shows version 1 of the record, but is known to have version 2/, 'in words');
    is($t->mirror('RIO', 'LAG-3')->{version}, 1, 'the mirror is as it was');
    $fake->clear_faults;
    $t->retry([$id]);
    ok($t->wait_status($id, 'synced'), 'and when it has caught up, it is synced');
    is($fake->record('RIO', 'LAG-3')->{data}{description}, 'meanwhile', 'on top of what somebody else did');
};

subtest 'a PEMS that was restored from a backup says itself that it is behind: its record is taken' => sub {
    $t->load('RIO', 'BACK-1', 'BACK-2');
    for my $pfa_id (qw(BACK-1 BACK-2))
    {
        in_pems($pfa_id, description => "change $_") for 1 .. 4;
        $t->mirror_from_pems('RIO', $pfa_id);
        put_in_pems($pfa_id, version => 2, data => PemsSync::Test::record_data($pfa_id, monthlyRate => $pfa_id eq 'BACK-1' ? 5500 : 7777));
    }
    my ($one, $two) = map { $t->commit_edit('RIO', $_, { monthlyRate => 4000 }) } qw(BACK-1 BACK-2);
    ok($t->wait_status($one, 'synced'), 'the field is as it was: synced');
    $t->story_is($one, 'on the version that PEMS has', requests => 'PUT v5 409, GET 200, PUT v2 200', versions => '3 3 3');
    ok($t->wait_status($two, 'conflict'), 'the field is another one: a conflict');
    $t->sides_are($t->conflict($two), 'base, local, remote', monthlyRate => [ 5500, 4000, 7777 ]);
    is($fake->record('RIO', 'BACK-2')->{data}{monthlyRate}, 7777, 'PEMS keeps its value');
};

subtest 'a record that was deleted and comes back is alive again' => sub {
    $t->load('RIO', 'GONE-1');
    delete_in_pems('GONE-1');
    my $id = $t->commit_edit('RIO', 'GONE-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'conflict'), 'in conflict');
    ok(defined $t->mirror('RIO', 'GONE-1')->{deleted_at}, 'the mirror says that it is deleted');
    $t->resolve($t->conflict($id)->{id}, 'use_pems');

    my $still = $t->commit_edit('RIO', 'GONE-1', { monthlyRate => 4100 });
    ok($t->wait_status($still, 'conflict'), 'a second edit is a conflict, too');
    is($t->attempts($still), 'GET 404 NOT_FOUND', 'after a look');
    $t->resolve($t->conflict($still)->{id}, 'use_pems');

    put_in_pems('GONE-1', data => PemsSync::Test::record_data('GONE-1'));
    my $back = $t->commit_edit('RIO', 'GONE-1', { monthlyRate => 4200 });
    ok($t->wait_status($back, 'synced'), 'it came back: the next edit is synced');
    ok(!defined $t->mirror('RIO', 'GONE-1')->{deleted_at}, 'and the mirror says that it is alive');
    $t->mirror_is_pems('RIO', 'GONE-1');

    # marked for nothing, by whoever
    $t->load('RIO', 'GONE-2');
    $t->sql(q{UPDATE pfa_mirror SET deleted_at = now() WHERE pfa_id = 'GONE-2'});
    my $alive = $t->commit_edit('RIO', 'GONE-2', { monthlyRate => 4300 });
    ok($t->wait_status($alive, 'synced'), 'a mirror that is wrong about it is put right');
    is($t->attempts($alive), 'GET 200, PUT 200', 'by a look first');
    ok(!defined $t->mirror('RIO', 'GONE-2')->{deleted_at}, 'alive');
};

subtest 'a write that is accepted and not made' => sub {
    $t->load('RIO', 'LIE-1', 'LIE-2');
    # PEMS makes a new version, two ahead, in which our field is what it was; or has rounded it
    fault('LIE-1', call => 'update', status => 200, body => { success => JSON::PP::true, pfaId => 'LIE-1', newVersion => 3 });
    fault('LIE-2', call => 'update', roundNumbers => JSON::PP::true, newVersionBump => 1);
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), 'not sent yet');
    my ($ignored, $rounded) = map { $t->commit_edit('RIO', $_, { monthlyRate => 4000.75 }) } qw(LIE-1 LIE-2);
    put_in_pems('LIE-1', version => 3, data => PemsSync::Test::record_data('LIE-1'));
    $t->set(enabled => 'on');
    ok($t->wait_status($ignored, 'failed'), 'the field is what it was: a dead letter');
    is($t->item($ignored)->{error_code}, 'NOT_APPLIED', 'NOT_APPLIED');
    is($t->attempts($ignored), 'PUT 200, GET 200 NOT_APPLIED', 'found by the read');
    is($t->mirror('RIO', 'LIE-1')->{data}{monthlyRate}, 5500, 'the mirror says what PEMS has');
    ok($t->wait_status($rounded, 'synced'), 'a field that moved to another value was rounded: synced');
    is($t->mirror('RIO', 'LIE-2')->{data}{monthlyRate}, $fake->record('RIO', 'LIE-2')->{data}{monthlyRate}, 'with the value that PEMS made of it');
};

subtest 'a member of an object that is accepted and not made' => sub {
    $t->sql(q{INSERT INTO pems_field (name, label, type) VALUES ('custom', 'Custom', 'json')});
    $t->load('RIO', 'MEMBER-1');
    in_pems('MEMBER-1', custom => { a => 1, b => 1 });
    set_mirror('MEMBER-1', 2, custom => { a => 1, b => 1 });
    fault('MEMBER-1', call => 'update', status => 200, body => { success => JSON::PP::true, pfaId => 'MEMBER-1', newVersion => 3 });
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), 'not sent yet');
    my ($id) = $t->edits('RIO', [ 'MEMBER-1', { custom => { a => 2, b => 2 } }, base => 2 ]);
    $t->commit('RIO', [$id]);
    in_pems('MEMBER-1', custom => { b => 2 });
    $t->set(enabled => 'on');
    ok($t->wait_status($id, 'failed'), 'one of two members is what it was: a dead letter');
    is($t->attempts($id), 'PUT 200, GET 200 NOT_APPLIED', 'NOT_APPLIED, found by the read');
    $t->retry([$id]);
    ok($t->wait_status($id, 'synced'), 'a retry sends what is missing');
    is($json->encode($fake->record('RIO', 'MEMBER-1')->{data}{custom}), '{"a":2,"b":2}', 'and PEMS has both');
};

subtest 'a delete that is accepted and not made' => sub {
    $t->set(refresh_after_write => 'always');
    $t->load('RIO', map { "DEL-$_" } 1 .. 5);
    my %id = map { $_ => $t->edits('RIO', [ $_, {}, operation => 'DELETE' ]) } map { "DEL-$_" } 1 .. 5;
    # not made; not made, at the version that it says; made, and made again by somebody; made, but it may not be read
    fault('DEL-2', call => 'delete', apply => JSON::PP::false);
    fault('DEL-3', call => 'delete', status => 200, body => { success => JSON::PP::true, pfaId => 'DEL-3', newVersion => 2 });
    fault('DEL-4', call => 'read', status => 500, count => 3);
    fault('DEL-5', call => 'read', status => 403);
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), 'not sent yet');
    $t->commit('RIO', [ @id{ sort keys %id } ]);
    put_in_pems('DEL-3', version => 2, data => PemsSync::Test::record_data('DEL-3'));
    $t->set(enabled => 'on');
    ok($t->wait_until(sub { $fake->record('RIO', 'DEL-4')->{deleted} }, what => 'the delete'), 'one is deleted');
    put_in_pems('DEL-4', data => PemsSync::Test::record_data('DEL-4', description => 'again'));

    ok($t->wait_status($id{'DEL-1'}, 'synced'), 'one that is made is synced');
    $t->story_is($id{'DEL-1'}, 'after a look', attempts => 'DELETE 200, GET 404', versions => '2 2 2');
    ok(defined $t->mirror('RIO', 'DEL-1')->{deleted_at}, 'and the mirror says so');
    for (2, 3)
    {
        ok($t->wait_status($id{"DEL-$_"}, 'failed'), "DEL-$_: one that is not made is a dead letter");
        is($t->item($id{"DEL-$_"})->{error_code}, 'NOT_APPLIED', 'NOT_APPLIED');
        like($t->item($id{"DEL-$_"})->{last_error}, qr/accepted the delete and did not make it/, 'which says what happened');
        ok(!defined $t->mirror('RIO', "DEL-$_")->{deleted_at}, 'and the mirror does not claim it');
    }
    like($t->attempts($id{'DEL-2'}), qr/^DELETE 200(?:, GET 200 STALE_READ){4}, GET 200 NOT_APPLIED$/, 'what a replica that lags would show is looked at again');
    is($t->attempts($id{'DEL-3'}), 'DELETE 200, GET 200 NOT_APPLIED', 'the version that the delete has made is enough');
    ok($t->wait_status($id{'DEL-4'}, 'synced'), 'one that somebody made again is synced');
    ok(!defined $t->mirror('RIO', 'DEL-4')->{deleted_at}, 'and the mirror has the new record');
    is($t->mirror('RIO', 'DEL-4')->{data}{description}, 'again', 'as it is');
    is($t->sql(q{SELECT source FROM pems_mirror_version WHERE pfa_id = 'DEL-4' ORDER BY state_seq DESC LIMIT 1}), 'pems', 'which is not ours');
    ok($t->wait_status($id{'DEL-5'}, 'synced'), 'where PEMS refuses to show the record, its answer counts');
    ok(defined $t->mirror('RIO', 'DEL-5')->{deleted_at}, 'and the mirror says that it is deleted');

    $t->retry([ $id{'DEL-2'} ]);
    ok($t->wait_status($id{'DEL-2'}, 'synced'), 'a retry deletes it');
    ok($fake->record('RIO', 'DEL-2')->{deleted}, 'in PEMS, too');
    $t->sql(qq{SELECT pems_discard('$id{"DEL-3"}')});
    $t->mirror_is_pems('RIO', 'DEL-3');
    $t->set(refresh_after_write => 'auto');
};

subtest '404 of every write: pems_health() has a sentence' => sub {
    $t->load('RIO', 'ROUTE-1');
    fault('ROUTE-1', call => 'update', status => 404, count => 1000);
    my $id = $t->commit_edit('RIO', 'ROUTE-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'failed'), 'failed');
    ok((grep { /404/ && /route or a right/ } @{ health()->{problems} }), 'pems_health() says what it is') or diag($json->encode(health()));
    $fake->clear_faults;
    $t->retry([$id]);
    ok($t->wait_status($id, 'synced'), 'and when it is mended, it is synced');
    ok(!(grep { /route or a right/ } @{ health()->{problems} }), 'pems_health() does not say so any more');
};

subtest '503 with Retry-After is waited for' => sub {
    $t->load('RIO', 'BUSY-1', 'BUSY-2');
    fault('BUSY-1', call => 'update', status => 503, retryAfter => '3');
    my $id = $t->commit_edit('RIO', 'BUSY-1', { monthlyRate => 4000 });
    ok($t->wait_for("SELECT retry_count = 1 FROM pfa_write_queue WHERE modification_id = '$id'"), 'PEMS is busy');
    # the whole endpoint is left alone, as with a 429
    my $other = $t->commit_edit('RIO', 'BUSY-2', { monthlyRate => 4000 });
    ok($t->wait_status($_, 'synced'), "$_ is synced") for $id, $other;
    my @at = map { $_->{monotonicUs} } $fake->requests(pfaId => 'BUSY-1');
    cmp_ok($at[1] - $at[0], '>=', 2_900_000, 'not before the three seconds are over');
    my ($first_other) = map { $_->{monotonicUs} } $fake->requests(pfaId => 'BUSY-2');
    cmp_ok($first_other - $at[0], '>=', 2_900_000, 'nor is another record');
    is($t->item($id)->{retry_count}, 1, 'it cost one retry');
};

subtest 'objects are sent whole, and read afterwards' => sub {
    $t->load('RIO', 'OBJECT-1', 'OBJECT-2');
    my $custom = { costCentre => '4711', approved => JSON::PP::true, tags => [ 'a', 'b' ] };
    for my $pfa_id (qw(OBJECT-1 OBJECT-2))
    {
        in_pems($pfa_id, custom => $custom);
        $t->mirror_from_pems('RIO', $pfa_id);
    }
    my $id = $t->commit_edit('RIO', 'OBJECT-1', { custom => { costCentre => '4712' }, monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced');
    my ($put) = grep { $_->{method} eq 'PUT' } $fake->requests(pfaId => 'OBJECT-1');
    is_deeply($put->{changes}, { custom => { %$custom, costCentre => '4712' }, monthlyRate => 4000 }, 'the request has all members');
    is($t->attempts($id), 'PUT 200, GET 200', 'and the record is read afterwards');
    $t->mirror_is_pems('RIO', 'OBJECT-1');

    # also when it is merged with what somebody did meanwhile
    in_pems('OBJECT-2', custom => { approved => JSON::PP::false });
    $id = $t->commit_edit('RIO', 'OBJECT-2', { custom => { costCentre => '4713' } });
    ok($t->wait_status($id, 'synced'), 'merged');
    my @puts = grep { $_->{method} eq 'PUT' } $fake->requests(pfaId => 'OBJECT-2');
    is_deeply($puts[-1]{changes}, { custom => { %$custom, approved => JSON::PP::false, costCentre => '4713' } }, 'the request has all members of both sides');
    is_deeply($fake->record('RIO', 'OBJECT-2')->{data}{custom}, { %$custom, approved => JSON::PP::false, costCentre => '4713' }, 'and so has PEMS');
};

subtest 'a version whose data change: an edit that was drafted before does not overwrite it' => sub {
    $t->load('RIO', map { "STATE-$_" } 1 .. 4);
    my $id;

    # PEMS was changed without a new version, and the application noticed
    $id = $t->edit('RIO', 'STATE-1', { monthlyRate => 4000 });
    put_in_pems('STATE-1', version => 1, data => PemsSync::Test::record_data('STATE-1', monthlyRate => 8000));
    set_mirror('STATE-1', 1, monthlyRate => 8000);
    $t->commit('RIO', [$id]);
    ok($t->wait_status($id, 'conflict'), 'the same version with another value: a conflict');
    $t->sides_are($t->conflict($id), 'base, local, remote', monthlyRate => [ 5500, 4000, 8000 ]);
    is($fake->record('RIO', 'STATE-1')->{data}{monthlyRate}, 8000, 'PEMS keeps its value');
    is($t->sql(q{SELECT string_agg(source || ' ' || (data ->> 'monthlyRate'), ', ' ORDER BY state_seq) FROM pems_mirror_version WHERE pfa_id = 'STATE-1' AND version = 1}),
        'external 5500, external 8000', 'the history has both states');
    # the user has seen 8000 now
    $t->resolve($t->conflict($id)->{id}, 'use_local');
    ok($t->wait_status($id, 'synced'), 'use_local is sent');
    is($fake->record('RIO', 'STATE-1')->{data}{monthlyRate}, 4000, 'and PEMS has it');

    # another field: merged
    $id = $t->edit('RIO', 'STATE-2', { monthlyRate => 4000 });
    put_in_pems('STATE-2', version => 1, data => PemsSync::Test::record_data('STATE-2', description => 'quietly'));
    set_mirror('STATE-2', 1, description => 'quietly');
    $t->commit('RIO', [$id]);
    ok($t->wait_status($id, 'synced'), 'another field: merged');
    is($fake->record('RIO', 'STATE-2')->{data}{description}, 'quietly', 'and the other change is kept');

    # a draft that is made afterwards builds on the new state; the form may have been open before, but not for days
    put_in_pems('STATE-3', version => 1, data => PemsSync::Test::record_data('STATE-3', monthlyRate => 8000));
    set_mirror('STATE-3', 1, monthlyRate => 8000);
    $t->sql(q{UPDATE pems_mirror_version SET recorded_at = recorded_at - interval '25 hours' WHERE pfa_id = 'STATE-3'});
    $id = $t->commit_edit('RIO', 'STATE-3', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'drafted long afterwards: sent');
    is($t->attempts($id), 'PUT 200', 'at once');

    # back to an old version, and on to the number that the draft was made on
    in_pems('STATE-4', monthlyRate => 6000);
    in_pems('STATE-4', monthlyRate => 6100);
    $t->mirror_from_pems('RIO', 'STATE-4');
    $id = $t->edit('RIO', 'STATE-4', { monthlyRate => 4000 });
    set_mirror('STATE-4', 1);
    set_mirror('STATE-4', 2, monthlyRate => 7000);
    put_in_pems('STATE-4', version => 3, data => PemsSync::Test::record_data('STATE-4', monthlyRate => 7100));
    set_mirror('STATE-4', 3, monthlyRate => 7100);
    $t->commit('RIO', [$id]);
    ok($t->wait_status($id, 'conflict'), 'back to an old version and on: a conflict');
    $t->sides_are($t->conflict($id), 'base, local, remote', monthlyRate => [ 6100, 4000, 7100 ]);
    is($fake->record('RIO', 'STATE-4')->{data}{monthlyRate}, 7100, 'PEMS keeps its value');
};

subtest 'what was committed is sent, whoever changes the modification afterwards' => sub {
    $t->load('RIO', 'AUTHOR-1');
    $t->set(enabled => 'off');
    ok($t->wait_worker(state => 'disabled'), 'not sent yet');
    my $id = $t->commit_edit('RIO', 'AUTHOR-1', { monthlyRate => 4000 }, by => 'ann@example.com', reason => 'budget');
    $t->sql(qq{UPDATE pfa_modification SET created_by = 'mallory', change_reason = 'nothing', base_version = 9, delta = '{"monthlyRate": 1}' WHERE id = '$id'});
    $t->set(enabled => 'on');
    ok($t->wait_status($id, 'synced'), 'synced');
    my ($put) = $fake->requests(pfaId => 'AUTHOR-1');
    is_deeply([ @$put{qw(modifiedBy reason version)} ], [ 'ann@example.com', 'budget', 1 ], 'PEMS hears what was committed');
    my $version = $t->row(q{SELECT changed_by, change_reason FROM pems_mirror_version WHERE pfa_id = 'AUTHOR-1' AND version = 2});
    is_deeply($version, { changed_by => 'ann@example.com', change_reason => 'budget' }, 'and so does the history');
};

$t->finish;
