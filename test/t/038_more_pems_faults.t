# More of what PEMS, its replicas and the application may do: versions whose data change under an edit, replicas that lag while
# somebody hastens, large error pages, records that come back with a lower version, and endpoints of which only reads fail.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('more_pems_faults',
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1, request_timeout => '3s', poll_interval => '1s' });
my $json = JSON::PP->new->canonical;
my $fake = $t->fake;
$t->add_organization('RIO');

sub in_pems { my ($pfa_id, %changes) = @_; return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, changes => \%changes }) }
sub put_in_pems { my ($pfa_id, %record) = @_; return $fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, %record }) }
sub fault { my ($pfa_id, %fault) = @_; return $fake->fault({ pfaId => $pfa_id, count => 1, %fault }) }
sub data { return PemsSync::Test::record_data(@_) }
sub pems_data { my ($pfa_id) = @_; return $fake->record('RIO', $pfa_id)->{data} }

# The answer of a replica that has that version of the record only.
sub old_answer
{
    my ($pfa_id, $version, %data) = @_;
    return (call => 'read', status => 200, body => { success => JSON::PP::true, pfaId => $pfa_id, version => $version,
        updatedAt => '2025-01-01T00:00:00Z', data => data($pfa_id, %data) });
}

# For edits that are committed from now on.
sub set_max_retries
{
    my ($number) = @_;
    $t->set(max_retries => $number);
    return $t->wait_for("SELECT current_setting('pems_sync.max_retries') = '$number'");
}

sub mirror_statement
{
    my ($pfa_id, $version, %data) = @_;
    my $text = $json->encode(data($pfa_id, %data));
    return "UPDATE pfa_mirror SET version = $version, data = \$json\$$text\$json\$ WHERE pfa_id = '$pfa_id'";
}

# PEMS and the application's mirror get that state, whatever version and data they had.
sub rewrite
{
    my ($pfa_id, $version, %data) = @_;
    put_in_pems($pfa_id, version => $version, data => data($pfa_id, %data));
    return $t->sql(mirror_statement($pfa_id, $version, %data));
}

subtest 'a DELETE drafted before its version was rewritten does not delete what came since' => sub {
    $t->load('RIO', map { "DELETE-$_" } 1 .. 3);
    my @ids = $t->edits('RIO', map { [ "DELETE-$_", undef, operation => 'DELETE', reason => 'x' ] } 1 .. 3);
    rewrite('DELETE-1', 1, monthlyRate => 9999, description => 'precious');
    $t->commit('RIO', [ $ids[0] ]);
    ok($t->wait_status($ids[0], 'conflict'), 'the same version, other data: a conflict');
    my $conflict = $t->conflict($ids[0]);
    is($conflict->{kind}, 'changed_in_pems_before_delete', 'of a DELETE');
    is_deeply($conflict->{conflict_fields}, [ 'description', 'monthlyRate' ], 'on what differs') or diag($json->encode($conflict));
    ok(!$fake->record('RIO', 'DELETE-1')->{deleted}, 'PEMS has the record');
    $t->resolve($conflict->{id}, 'use_local');
    ok($t->wait_status($ids[0], 'synced'), 'a person who has seen it may delete it');
    ok($fake->record('RIO', 'DELETE-1')->{deleted}, 'deleted');

    # rewritten with the same data, or not at all
    rewrite('DELETE-2', 1);
    $t->commit('RIO', [ @ids[ 1, 2 ] ]);
    ok($t->wait_status($_, 'synced'), 'the record as it was is deleted') for @ids[ 1, 2 ];
};

subtest 'nobody hastens the second look at a record that was not found' => sub {
    my %edits = ('HURRY-1' => [ { monthlyRate => 4000 } ], 'HURRY-2' => [ undef, operation => 'DELETE', reason => 'x' ]);
    for my $pfa_id (sort keys %edits)
    {
        $t->load('RIO', $pfa_id);
        in_pems($pfa_id, description => 'meanwhile');
        # a replica that lags does not find the record, once
        fault($pfa_id, call => 'read', status => 404, count => 1);
        my ($id) = $t->edits('RIO', [ $pfa_id, @{ $edits{$pfa_id} } ]);
        $t->commit('RIO', [$id]);
        my $wanted = $pfa_id eq 'HURRY-1' ? 'synced' : 'conflict';
        my $hurry  = sub { $t->sql(q{SELECT pems_write_sync('org-rio', NULL, 'high')}); return $t->modification($id)->{sync_status} eq $wanted };
        ok($t->wait_until($hurry, what => $wanted), "$pfa_id: the record is found by the second look, and compared");
        my @reads = map { $_->{monotonicUs} } grep { $_->{method} eq 'GET' } $fake->requests(pfaId => $pfa_id);
        cmp_ok($reads[1] - $reads[0], '>=', 2_900_000, 'which pems_write_sync() does not hasten');
        ok(!defined $t->mirror('RIO', $pfa_id)->{deleted_at}, 'the mirror does not say that it is deleted');
    }
};

subtest 'pems_retry() of a refresh remembers which version PEMS has' => sub {
    $t->load('RIO', 'REFRESH-1');
    $t->sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON pfa_mirror FOR EACH ROW WHEN (OLD.pfa_id = 'REFRESH-1') EXECUTE FUNCTION refuse()});
    fault('REFRESH-1', call => 'update', newVersionBump => 2);
    my $id = $t->commit_edit('RIO', 'REFRESH-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'failed'), 'the application refuses what the refresh brings: a dead letter');
    $t->sql('DROP TRIGGER refuse ON pfa_mirror');
    fault('REFRESH-1', old_answer('REFRESH-1', 1));
    $t->retry([$id]);
    ok($t->wait_status($id, 'synced'), 'tried again: synced');
    $t->story_is($id, 'and a replica that lags is not believed', attempts => 'PUT 200, GET 200 DATABASE_ERROR, GET 200 STALE_READ, GET 200', versions => '4 4 4');
    $t->mirror_is_pems('RIO', 'REFRESH-1');
};

subtest 'a version is rewritten while a user has its form open, or unseen by him' => sub {
    $t->load('RIO', map { "FORM-$_" } 1 .. 6);

    # the form was open when the new state came, and saved afterwards
    rewrite('FORM-1', 1, monthlyRate => 9999);
    my $id = $t->commit_edit('RIO', 'FORM-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'conflict'), 'the form was open before: a conflict');
    $t->sides_are($t->conflict($id), 'base, local, remote', monthlyRate => [ 9999, 4000, 9999 ]);
    like($t->item($id)->{last_error}, qr/got other data/, 'and a sentence that says why');
    is(pems_data('FORM-1')->{monthlyRate}, 9999, 'PEMS keeps its value');
    $t->resolve($t->conflict($id)->{id}, 'use_local');
    ok($t->wait_status($id, 'synced'), 'who has seen the conflict decides: sent');
    is(pems_data('FORM-1')->{monthlyRate}, 4000, 'and PEMS has it');

    # the new state was there, but not committed, when the user read the old one
    put_in_pems('FORM-2', version => 1, data => data('FORM-2', monthlyRate => 9999));
    my $session = $t->node->background_psql('postgres');
    $session->query_safe('BEGIN; ' . mirror_statement('FORM-2', 1, monthlyRate => 9999));
    $id = $t->edit('RIO', 'FORM-2', { monthlyRate => 4000 });
    $session->query_safe('COMMIT');
    $session->quit;
    $t->commit('RIO', [$id]);
    ok($t->wait_status($id, 'conflict'), 'rewritten, but not committed, when the edit was made: a conflict');
    is(pems_data('FORM-2')->{monthlyRate}, 9999, 'PEMS keeps its value');

    # another field than the edit's, or the same value written otherwise
    rewrite('FORM-3', 1, description => 'quietly', monthlyRate => '5500.00');
    $id = $t->commit_edit('RIO', 'FORM-3', { forecastEnd => '2026-06-30T00:00:00Z' });
    ok($t->wait_status($id, 'synced'), 'another field: sent');
    is(pems_data('FORM-3')->{description}, 'quietly', 'and the other change is kept');

    # three states, the last one like the first
    rewrite('FORM-4', 1, monthlyRate => 9999);
    rewrite('FORM-4', 1);
    $id = $t->commit_edit('RIO', 'FORM-4', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'conflict'), 'one of three states had another value: a conflict');

    # a DELETE
    rewrite('FORM-5', 1, description => 'precious');
    ($id) = $t->edits('RIO', [ 'FORM-5', undef, operation => 'DELETE', reason => 'x' ]);
    $t->commit('RIO', [$id]);
    ok($t->wait_status($id, 'conflict'), 'a DELETE: a conflict');
    is_deeply($t->conflict($id)->{conflict_fields}, ['description'], 'on what may not have been seen');
    rewrite('FORM-6', 1, lastModified => '2026-01-01T00:00:00Z');
    ($id) = $t->edits('RIO', [ 'FORM-6', undef, operation => 'DELETE', reason => 'x' ]);
    $t->commit('RIO', [$id]);
    ok($t->wait_status($id, 'synced'), 'a DELETE where only that was new what nobody but PEMS sets: sent');
};

subtest 'records that fail by themselves do not keep the breaker open' => sub {
    set_max_retries(3);
    $t->load('RIO', 'BAD-1', 'BAD-2', 'GOOD-1');
    in_pems($_, description => 'meanwhile') for qw(BAD-1 BAD-2);
    fault($_, call => 'read', status => 504, count => 1000) for qw(BAD-1 BAD-2);
    my $position = $t->log_position;
    my @bad = $t->edits('RIO', map { [ $_, { monthlyRate => 1 } ] } qw(BAD-1 BAD-2));
    $t->commit('RIO', \@bad);
    ok($t->wait_until(sub { $t->log_since($position) =~ /PEMS at \S+ does not answer/ }, what => 'an open breaker'), 'they have opened it');
    my $good = $t->commit_edit('RIO', 'GOOD-1', { monthlyRate => 1 });
    # probes after 5, 10 and 20 seconds, each with another item
    ok($t->wait_status($good, 'synced', timeout => 90), 'another record is a probe, too, and closes it');
    $t->sql(q{SELECT pems_write_sync('org-rio')});
    ok($t->wait_status($_, 'failed'), 'those that fail are dead letters then') for @bad;
    $fake->clear_faults;
    $t->retry(\@bad);
    ok($t->wait_status($_, 'synced'), 'and synced when PEMS reads them again') for @bad;
    set_max_retries(1);
};

subtest 'a large page of HTML that comes with an error status' => sub {
    my $page = '<html>' . ('maintenance ' x 25000) . '</html>';
    $t->load('RIO', map { "PAGE-$_" } 1 .. 5);
    fault('PAGE-1', call => 'update', status => 503, body => $page);
    fault('PAGE-2', call => 'update', status => 409, body => $page);
    fault('PAGE-3', call => 'update', status => 400, body => $page);
    fault('PAGE-4', call => 'update', status => 200, apply => JSON::PP::true,
        body => { success => JSON::PP::true, pfaId => 'PAGE-4', newVersion => 2, message => 'y' x 300_000 });
    my %expected = (
        1 => [ 'synced', 'PUT 503 UNAVAILABLE, GET 200, PUT 200' ],
        2 => [ 'synced', 'PUT 409 VERSION_CONFLICT, GET 200, PUT 200' ],
        3 => [ 'failed', 'PUT 400 INVALID_REQUEST' ],
        4 => [ 'synced', 'PUT 200 RESPONSE_TOO_LARGE, GET 200' ],
    );
    my %ids = map { $_ => $t->commit_edit('RIO', "PAGE-$_", { monthlyRate => 4000 }) } sort keys %expected;
    for my $number (sort keys %expected)
    {
        my ($status, $attempts) = @{ $expected{$number} };
        ok($t->wait_status($ids{$number}, $status), "PAGE-$number: $status");
        is($t->attempts($ids{$number}), $attempts, 'as without the page');
    }
    $t->retry([ $ids{3} ]);

    # the credential is refused: the organization is paused
    fault('PAGE-5', call => 'update', status => 401, body => $page);
    my $id = $t->commit_edit('RIO', 'PAGE-5', { monthlyRate => 4000 });
    ok($t->wait_for("SELECT EXISTS (SELECT FROM pems_pause WHERE organization_id = 'org-rio')"), 'a 401 pauses the organization');
    $t->sql(q{SELECT pems_resume('org-rio')});
    ok($t->wait_status($id, 'synced'), 'and then it is synced');

    # a record that is too large is no error of PEMS
    in_pems('PAGE-3', description => 'meanwhile');
    fault('PAGE-3', call => 'read', status => 200, body => { success => JSON::PP::true, pfaId => 'PAGE-3', version => 9, data => { description => 'y' x 300_000 } });
    $id = $t->commit_edit('RIO', 'PAGE-3', { monthlyRate => 4100 });
    ok($t->wait_status($id, 'failed'), 'a read whose record is too large: a dead letter');
    is($t->item($id)->{error_code}, 'RESPONSE_TOO_LARGE', 'RESPONSE_TOO_LARGE');
    $t->retry([$id]);
    ok($t->wait_status($id, 'synced'), 'until it is smaller');
};

subtest 'a record that was deleted and comes back with a lower version can be edited' => sub {
    $t->load('RIO', 'BACK-1', 'BACK-2');
    for my $pfa_id (qw(BACK-1 BACK-2))
    {
        in_pems($pfa_id, description => "change $_") for 1 .. 4;
        $t->mirror_from_pems('RIO', $pfa_id);
    }
    # deleted by somebody, as a pull said; deleted by an edit of ours
    $t->sql(q{UPDATE pfa_mirror SET deleted_at = now() WHERE pfa_id = 'BACK-1'});
    my ($delete) = $t->edits('RIO', [ 'BACK-2', undef, operation => 'DELETE', reason => 'x' ]);
    $t->commit('RIO', [$delete]);
    ok($t->wait_status($delete, 'synced'), 'deleted');
    for my $pfa_id (qw(BACK-1 BACK-2))
    {
        put_in_pems($pfa_id, version => 1, data => data($pfa_id));
        my $id = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 4000 });
        ok($t->wait_status($id, 'synced'), "$pfa_id: synced");
        $t->story_is($id, 'on the version that it came back with', attempts => 'GET 200, PUT 200', versions => '2 2 2');
        ok(!defined $t->mirror('RIO', $pfa_id)->{deleted_at}, 'and the mirror says that it is alive');
    }
};

subtest 'a PEMS that was restored and refuses our version without naming its own' => sub {
    set_max_retries(3);
    $t->load('RIO', 'REFUSED-1');
    in_pems('REFUSED-1', description => "change $_") for 1 .. 4;
    $t->mirror_from_pems('RIO', 'REFUSED-1');
    put_in_pems('REFUSED-1', version => 1, data => data('REFUSED-1'));
    fault('REFUSED-1', call => 'update', status => 412);
    my $id = $t->commit_edit('RIO', 'REFUSED-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), 'synced');
    $t->story_is($id, 'after five rounds the record is taken', retries => 1,
        attempts => 'PUT 412 VERSION_CONFLICT, ' . 'GET 200 STALE_READ, ' x 4 . 'PUT 200', versions => '2 2 2');
    set_max_retries(1);
};

subtest 'a mirror that stays marked as deleted' => sub {
    $t->load('RIO', 'STICKY-1');
    $t->sql(q{UPDATE pfa_mirror SET deleted_at = now() WHERE pfa_id = 'STICKY-1';
        CREATE FUNCTION keep_deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.deleted_at := OLD.deleted_at; RETURN NEW; END $$;
        CREATE TRIGGER keep_deleted BEFORE UPDATE ON pfa_mirror FOR EACH ROW WHEN (OLD.pfa_id = 'STICKY-1') EXECUTE FUNCTION keep_deleted()});
    my $id = $t->commit_edit('RIO', 'STICKY-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'failed'), 'ends as a dead letter');
    is($t->item($id)->{error_code}, 'NO_MIRROR', 'NO_MIRROR');
    is($t->attempts($id), join(', ', ('GET 200') x 9, 'GET 200 NO_MIRROR'), 'after ten reads');
    $t->sql('DROP TRIGGER keep_deleted ON pfa_mirror');
    $t->retry([$id]);
    ok($t->wait_status($id, 'synced'), 'without the trigger it is synced');
};

subtest 'a refresh that is answered with a page of HTML, or with 202, ends' => sub {
    my %answer = ('HTML-1' => { html => JSON::PP::true }, 'HTML-2' => { status => 202, body => {} });
    my %attempts = ('HTML-1' => 'PUT 200, GET 200 BAD_RESPONSE, GET 200 BAD_RESPONSE', 'HTML-2' => 'PUT 200, GET 202 ACCEPTED, GET 202 ACCEPTED');
    for my $pfa_id (sort keys %answer)
    {
        $t->load('RIO', $pfa_id);
        fault($pfa_id, call => 'update', newVersionBump => 1);
        fault($pfa_id, call => 'read', %{ $answer{$pfa_id} }, count => 1000);
        my $id = $t->commit_edit('RIO', $pfa_id, { monthlyRate => 4000 });
        ok($t->wait_status($id, 'synced'), "$pfa_id: PEMS has the edit, and the item is done");
        is($t->attempts($id), $attempts{$pfa_id}, 'when its retries are used up');
        $fake->clear_faults;
        # the mirror is behind until the next edit
        my $next = $t->commit_edit('RIO', $pfa_id, { description => 'next' });
        ok($t->wait_status($next, 'synced'), 'the next edit finds PEMS as it is') or diag($json->encode($t->story($next)));
        $t->mirror_is_pems('RIO', $pfa_id);
    }
};

subtest '423, and words of success:false that stand for a status' => sub {
    my %expected = (
        1 => [ { status => 423 }, 'synced', 'PUT 423 CONFLICT, GET 200, PUT 200' ],
        2 => [ { successFalse => 'LOCKED' }, 'synced', 'PUT 200 CONFLICT, GET 200, PUT 200' ],
        3 => [ { successFalse => 'CONFLICT' }, 'synced', 'PUT 200 CONFLICT, GET 200, PUT 200' ],
        4 => [ { successFalse => 'TIMEOUT' }, 'synced', 'PUT 200 TIMEOUT, GET 200, PUT 200' ],
        5 => [ { successFalse => 'GONE' }, 'synced', 'PUT 200 NOT_FOUND, GET 200, PUT 200' ],
    );
    my %ids;
    for my $number (sort keys %expected)
    {
        $t->load('RIO', "WORD-$number");
        fault("WORD-$number", call => 'update', %{ $expected{$number}[0] });
        $ids{$number} = $t->commit_edit('RIO', "WORD-$number", { monthlyRate => 4000 });
    }
    for my $number (sort keys %expected)
    {
        my ($fault, $status, $attempts) = @{ $expected{$number} };
        ok($t->wait_status($ids{$number}, $status), "WORD-$number: $status");
        is($t->attempts($ids{$number}), $attempts, join(' ', %$fault));
    }
};

$t->finish;
