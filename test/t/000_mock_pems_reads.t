# How the fake PEMS reads, one and many: cursors, times, and each fault of a listing, before tests of read sync believe it.
# Calls and faults of writes: 000_mock_pems.t.
#
# Needs no server.  The binary's path comes from MOCK_PEMS.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use File::Temp qw(tempdir);
use HTTP::Tiny;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use Test::More;
use Time::HiRes qw(sleep time);

use PemsSync::FakePems;

my $json  = JSON::PP->new->canonical->allow_nonref->utf8;
my $true  = JSON::PP::true;
my $false = JSON::PP::false;
my $dir   = tempdir(CLEANUP => 1);
my $fake  = PemsSync::FakePems->new(log => "$dir/log");
my $http  = HTTP::Tiny->new(timeout => 20, max_redirect => 0);

# ---------- speaking to it ----------

# Nothing but RIO (token secret) with PFA-1 to PFA-7, a day apart, and RIO2.
sub begin_again
{
    $fake->control('POST', 'reset');
    $fake->add_organization('RIO',  'secret');
    $fake->add_organization('RIO2', 'secret');
    $fake->edit(
        map { { organizationCode => 'RIO', pfaId => "PFA-$_", data => { n => $_ }, updatedAt => "2025-01-0${_}T00:00:00Z" } } 1 .. 7);
    return;
}

# A request of PEMS's protocol: the answer with its body decoded as {json}.
sub call
{
    my ($method, $path, $body) = @_;
    my %options = (headers => { Authorization => 'Bearer secret' });
    $options{content} = $json->encode($body) if defined $body;
    my $answer = $http->request($method, $fake->url . "/pems/$path", \%options);
    $answer->{json} = eval { $json->decode($answer->{content}) };
    return $answer;
}

# One page: limit, cursor, updatedSince.
sub page
{
    my (%query) = @_;
    return call('GET', 'pfa?' . $http->www_form_urlencode({ organizationCode => 'RIO', limit => 2, %query }));
}

sub one { return call('GET', "pfa/$_[0]?organizationCode=RIO") }

sub update
{
    my ($pfa_id, $version, $changes) = @_;
    my %body = (pfaId => $pfa_id, organizationCode => 'RIO', version => $version, changes => $changes, modifiedBy => 'john@example.com');
    return call('PUT', "pfa/$pfa_id", \%body);
}

# The pfaIds of a page without their prefix, or its status where there is no page.
sub ids
{
    my ($answer) = @_;
    return $answer->{status} if !$answer->{json} || !$answer->{json}{records};
    return join ' ', map { $_->{pfaId} =~ s/^PFA-//r } @{ $answer->{json}{records} };
}

# A whole listing as "1 2|3 4|5"; it ends after $most pages.
sub listing
{
    my ($most, %query) = @_;
    my @pages;
    my $cursor;
    do
    {
        my $answer = page(%query, defined $cursor ? (cursor => $cursor) : ());
        push @pages, ids($answer);
        $cursor = $answer->{json} && $answer->{json}{nextCursor};
    } while (defined $cursor && @pages < $most);
    return join('|', @pages) . (defined $cursor ? '|...' : '');
}

sub refused
{
    my ($call, $body, $status) = @_;
    my $answer = $http->post($fake->endpoint . "/_control/$call", { content => $json->encode($body) });
    is($answer->{status}, $status, "$call refuses " . $json->encode($body)) or diag($answer->{content});
    return;
}

# ---------- without faults ----------

subtest 'records say who changed them, and whose they are' => sub {
    begin_again();
    my $record = page(limit => 1)->{json}{records}[0];
    is($record->{lastModifiedBy}, 'pems.user@example.com', 'by of an edit, in a listing');
    is($record->{organizationCode}, 'RIO', 'organizationCode');
    is($record->{deleted}, $false, 'deleted');
    is(one('PFA-1')->{json}{lastModifiedBy}, 'pems.user@example.com', 'in a single read');
    is(one('PFA-1')->{json}{organizationCode}, 'RIO', 'organizationCode there');
    update('PFA-1', 1, { n => 10 });
    is(one('PFA-1')->{json}{lastModifiedBy}, 'john@example.com', 'modifiedBy of a write');
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-1', changes => { n => 11 }, by => undef });
    is(one('PFA-1')->{json}{lastModifiedBy}, undef, 'nobody');

    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', changes => {}, shownOrganizationCode => 'RIO2' });
    is(one('PFA-2')->{json}{organizationCode}, 'RIO2', 'one that says that it is of another organization');
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', changes => { n => 3 } });
    is((grep { $_->{pfaId} eq 'PFA-2' } @{ page(limit => 9)->{json}{records} })[0]{organizationCode}, 'RIO2', 'it keeps saying so');
    update('PFA-2', 3, { n => 4 });
    is(one('PFA-2')->{json}{organizationCode}, 'RIO2', 'after a write, too');
    is($fake->record('RIO', 'PFA-2')->{shownOrganizationCode}, 'RIO2', 'and the dump knows');
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', changes => {}, shownOrganizationCode => undef });
    is(one('PFA-2')->{json}{organizationCode}, 'RIO', 'until it is taken away');
    refused('records', { organizationCode => 'RIO', pfaId => 'PFA-2', changes => {}, shownOrganizationCode => 5 }, 400);
};

subtest 'the log knows listings' => sub {
    begin_again();
    my $mark   = $fake->mark;
    my $cursor = page(limit => 5, updatedSince => '2025-01-02T00:00:00Z')->{json}{nextCursor};
    page(limit => 5, cursor => $cursor);
    page(cursor => '!');
    my ($first, $second, $third) = $fake->listings(since => $mark);
    is_deeply([ @$first{qw(updatedSince cursor limit page records nextCursor)} ],
        [ '2025-01-02T00:00:00Z', undef, 5, 1, 5, $cursor ], 'the first page');
    is_deeply([ @$second{qw(updatedSince cursor limit page records nextCursor)} ], [ undef, $cursor, 5, 2, 1, undef ], 'the second');
    is("$third->{status} $third->{records}", '400 0', 'one that was refused');
    is(scalar($fake->listings(page => 2)), 1, 'found by their members');
    one('PFA-1');
    ok(!exists(($fake->requests)[-1]{limit}), 'a single read is none');
};

subtest 'thousands of records with one time, 5000 a page' => sub {
    begin_again();
    my @ids = map { sprintf 'E-%05d', $_ } 1 .. 10_001;
    $fake->edit(map { { organizationCode => 'RIO', pfaId => $_, data => {} } } @ids);
    is($fake->set_times('RIO', '2026-01-01T00:00:00Z', @ids), 10_001, 'how many');
    my ($cursor, @found, @sizes, %times);
    do
    {
        my $answer = page(limit => 5000, updatedSince => '2026-01-01T00:00:00Z', defined $cursor ? (cursor => $cursor) : ());
        my @records = @{ $answer->{json}{records} };
        push @sizes, scalar @records;
        push @found, map { $_->{pfaId} } @records;
        $times{ $_->{updatedAt} }++ for @records;
        $cursor = $answer->{json}{nextCursor};
    } while (defined $cursor && @sizes < 9);
    is("@sizes", '5000 5000 1', 'pages');
    is_deeply(\@found, \@ids, 'all of them, once');
    is_deeply([ keys %times ], ['2026-01-01T00:00:00.000000Z'], 'one time');
    is(scalar(@{ page(limit => 99_999)->{json}{records} }), 5000, 'never more');
    is(one('E-00001')->{json}{version}, 1, 'no new version');
    is($fake->set_times('RIO', '2026-02-01T00:00:00Z'), 10_008, 'all records');
    refused('times', { organizationCode => 'RIO', updatedAt => 'now' }, 400);
    refused('times', { organizationCode => 'NONE', updatedAt => '2026-01-01T00:00:00Z' }, 404);
};

subtest 'the clock of PEMS' => sub {
    begin_again();
    $fake->skew_clock(-7200);
    my $answer = update('PFA-1', 1, { n => 2 });
    my $date   = $http->_parse_http_date($answer->{headers}{date});
    ok(abs(time - 7200 - $date) < 10, 'Date is behind');
    my $clock = $fake->control('GET', 'clock');
    my $behind = substr $clock->{pemsNow}, 0, 13;
    is(substr($answer->{json}{updatedAt}, 0, 13), $behind, 'updatedAt of a write, too');
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', changes => { n => 5 } });
    is(substr(one('PFA-2')->{json}{updatedAt}, 0, 13), $behind, 'and of an edit');
    isnt(substr($clock->{now}, 0, 13), $behind, 'our own clock is right');
    is($clock->{skewSeconds}, -7200, 'skewSeconds');
    begin_again();
    is($fake->control('GET', 'clock')->{skewSeconds}, 0, 'a reset sets it right');
    refused('clock', { skewSeconds => 'x' }, 400);
};

subtest 'forgotten, and made again' => sub {
    begin_again();
    $fake->forget('RIO', 'PFA-3');
    is(one('PFA-3')->{status}, 404, 'no record');
    is(listing(9), '1 2|4 5|6 7', 'no tombstone');
    is($fake->record('RIO', 'PFA-3'), undef, 'not in the dump');
    my ($change) = ($fake->changes)[-1];
    is("$change->{pfaId} $change->{deleted} $change->{fromVersion} $change->{toVersion}", 'PFA-3 1 1 1', 'the log knows');
    is($fake->stats->{organizations}{RIO}{records}, 6, 'stats, too');
    refused('records', [ { organizationCode => 'RIO', pfaId => 'PFA-3', changes => { n => 1 } } ], 404);
    is(join(' ', $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-3', data => { n => 0 } })), '2', 'made again, a version on');
    is(listing(9), '1 2|4 5|6 7|3', 'it is the newest');
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-4', delete => $true });
    $fake->forget('RIO', 'PFA-4');
    is(listing(9), '1 2|5 6|7 3', 'a tombstone goes, too');
};

subtest 'restored from a backup' => sub {
    begin_again();
    my $then = $fake->now;
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-1', changes => { n => 20 }, by => 'mary' });
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-1', changes => { n => 30 } });
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', delete => $true });
    $fake->edit({ organizationCode => 'RIO', pfaId => 'NEW', data => {} });
    $fake->forget('RIO', 'PFA-7');
    is($fake->restore('RIO', versionsBack => 1, pfaIds => ['PFA-1']), 1, 'one record, one version');
    my $record = one('PFA-1')->{json};
    is("$record->{version} $record->{data}{n} $record->{lastModifiedBy}", '2 20 mary', 'as it was');
    my ($change) = ($fake->changes)[-1];
    is("$change->{by} $change->{fromVersion} $change->{toVersion} $change->{whole}", 'control 3 2 1', 'the log has the whole record');
    is_deeply($change->{changes}, { n => 20 }, 'as it is now');

    is($fake->restore('RIO', to => $then), 4, 'all of them, to a time');
    is(listing(9), '1 2|3 4|5 6|7', 'what was made since is gone, what was deleted or forgotten is back');
    is(one('PFA-1')->{json}{updatedAt}, '2025-01-01T00:00:00.000000Z', 'updatedAt as it was');
    is(one('PFA-1')->{json}{version}, 1, 'and the version');
    is($fake->restore('RIO', to => $fake->now), 0, 'nothing to do');
    update('PFA-1', 1, { n => 2 });
    is($fake->restore('RIO', secondsBack => 3600), 7, 'to a time when there was nothing');
    is(listing(9), '', 'there is nothing');
    begin_again();
    $fake->edit(map { { organizationCode => 'RIO', pfaId => 'PFA-1', changes => { n => $_ } } } 1 .. 60);
    $fake->restore('RIO', versionsBack => 99);
    is(one('PFA-1')->{json}{version}, 11, 'no further back than what is remembered');
    refused('restore', { organizationCode => 'RIO' }, 400);
    refused('restore', { organizationCode => 'RIO', versionsBack => 0 }, 400);
    refused('restore', { organizationCode => 'RIO', versionsBack => 1, to => $then }, 400);
    refused('restore', { organizationCode => 'NONE', versionsBack => 1 }, 404);
};

# ---------- faults: pages and cursors ----------

subtest 'sizes of pages' => sub {
    begin_again();
    $fake->fault({ pageSize => 1, count => 2 });
    is(listing(9, limit => 3), '1|2|3 4 5|6 7', 'smaller than asked');
    is(scalar($fake->requests(call => 'list', fault => 'pageSize')), 2, 'named in the log');
    $fake->clear_faults;
    $fake->fault({ pageSize => 0, page => 1 }, { pageSize => 0, page => 3 });
    is(listing(9, limit => 4), '|1 2 3 4||5 6 7', 'none, with a cursor to the next');
    $fake->clear_faults;
    $fake->fault({ pageSize => 0 });
    is(listing(4), '||||...', 'none at all, without end');
    my %cursors = map { $_->{nextCursor} => 1 } grep { $_->{fault} } ($fake->listings)[ -4 .. -1 ];
    is(scalar(keys %cursors), 4, 'with a new cursor each time');
    $fake->clear_faults;
    $fake->fault({ pageSize => 100 });
    is(ids(page()), '1 2', 'a size above the limit changes nothing');
    one('PFA-1');
    is(($fake->requests)[-1]{fault}, undef, 'a single read is no listing');
    refused('faults', { pageSize => -1 }, 400);
};

subtest 'cursors that are refused' => sub {
    begin_again();
    for my $status (400, 404, 410)
    {
        $fake->clear_faults;
        my $id = $fake->refuse_cursors('RIO', 3, $status, count => 1);
        is(listing(9), "1 2|3 4|$status", "$status after two pages");
        is($fake->fired($id), 1, 'once');
        is(listing(9), '1 2|3 4|5 6|7', 'begun again');
    }
    $fake->refuse_cursors('RIO', 2, 410);
    is(listing(9), '1 2|410', 'for ever') for 1, 2;
    is(one('PFA-1')->{status}, 200, 'a read has no cursor');
};

subtest 'listings that end too early, or never' => sub {
    begin_again();
    $fake->truncate_listing('RIO', 2);
    is(listing(9), '1 2|3 4', 'truncated');
    $fake->clear_faults;
    $fake->fault({ page => 2, noNextCursor => $true });
    is(listing(9), '1 2|3 4', 'no nextCursor at all');
    ok(!exists page(cursor => page()->{json}{nextCursor})->{json}{nextCursor}, 'not even null');
    $fake->clear_faults;
    $fake->fault({ page => 2, nextCursor => 5 });
    is(page(cursor => page()->{json}{nextCursor})->{json}{nextCursor}, 5, 'a nextCursor that is no text');
    $fake->clear_faults;
    $fake->fault({ alwaysNextCursor => $true, count => 4 });
    is(listing(9), '1 2|3 4|5 6|7|', 'a cursor behind the last record leads to an empty page');
    $fake->clear_faults;
    $fake->turn_listing('RIO', 2, 2);
    is(listing(5), '1 2|3 4|3 4|3 4|3 4|...', 'the same cursor again and again');
    my @cursors = map { $_->{nextCursor} } ($fake->listings)[ -4 .. -1 ];
    is(scalar(grep { $_ eq $cursors[0] } @cursors), 4, 'it is the same');
    $fake->clear_faults;
    $fake->turn_listing('RIO', 4, 2);
    is(listing(8), '1 2|3 4|5 6|7|3 4|5 6|7|3 4|...', 'a cycle');
    $fake->clear_faults;
    $fake->fault({ page => 3, beginAgain => $true });
    is(listing(9), '1 2|3 4|5 6|1 2|3 4|5 6|7', 'back to the beginning, with a new cursor');
};

subtest 'pages that are shifted' => sub {
    begin_again();
    $fake->fault({ page => 2, shift => 1 });
    is(listing(9), '1 2|4 5|6 7', 'a record is missed');
    $fake->clear_faults;
    $fake->fault({ page => 2, shift => -1 });
    is(listing(9), '1 2|2 3|4 5|6 7', 'a record comes twice');
    $fake->clear_faults;
    $fake->fault({ page => 2, shift => 100 });
    is(listing(9), '1 2|', 'beyond the end');
    $fake->clear_faults;
    $fake->fault({ page => 2, shift => -100 });
    is(listing(9), '1 2|1 2|3 4|5 6|7', 'beyond the beginning');
};

subtest 'others write between two pages' => sub {
    begin_again();
    my %edit = (organizationCode => 'RIO', changes => { n => 0 }, by => 'mary');
    $fake->fault({ call => 'list', page => 1, count => 1, thenEdit => { %edit, pfaId => 'PFA-1' } });
    is(listing(9), '1 2|3 4|5 6|7 1', 'a record moves to the end, and comes twice');
    begin_again();
    $fake->fault({ call => 'list', page => 1, count => 1, thenEdit => { %edit, pfaId => 'PFA-3' } });
    is(listing(9), '1 2|4 5|6 7|3', 'a record moves to the end, and comes once');
    begin_again();
    $fake->fault({ call => 'list', page => 1, count => 1, thenEdit => { %edit, pfaId => 'PFA-3', updatedAt => '2025-01-01T12:00:00Z' } });
    is(listing(9), '1 2|4 5|6 7', 'a record moves to a page that was given, and is missed');
    begin_again();
    my ($id) = $fake->fault(
        {
            call     => 'list',
            page     => 2,
            count    => 1,
            thenEdit => [
                { organizationCode => 'RIO', pfaId => 'PFA-0', data => {}, updatedAt => '2025-01-01T00:00:00Z' },
                { organizationCode => 'RIO', pfaId => 'PFA-5', forget => $true } ] });
    my $mark = $fake->mark;
    is(listing(9), '1 2|3 4|6 7', 'one commits late, one goes');
    is(listing(9), '0 1|2 3|4 6|7', 'as the next listing shows');
    is(join(' ', map { $_->{kind} } $fake->log_entries('any', since => $mark)), 'request request change change request' . ' request' x 4,
        'in the log behind their page');
    is($fake->fired($id), 1, 'once');

    begin_again();
    $fake->fault({ call => 'read', thenEdit => { %edit, pfaId => 'PFA-1' } });
    is(one('PFA-1')->{json}{version}, 1, 'behind a single read, too');
    is($fake->record('RIO', 'PFA-1')->{version}, 2, 'it was made');
    ($id) = $fake->fault({ call => 'health', thenEdit => { %edit, pfaId => 'NONE' } });
    call('GET', 'health');
    ok(!eval { $fake->fired($id); 1 }, 'an edit that could not be made');
    like($@, qr/no such PFA record/, 'is not forgotten');
    refused('faults', { call => 'list', thenEdit => { pfaId => 'PFA-1' } }, 400);
    refused('faults', { call => 'list', thenEdit => { %edit, pfaId => 'PFA-1', version => 'x' } }, 400);
};

subtest 'a write commits late' => sub {
    begin_again();
    $fake->fault({ call => 'update', updatedAtSkewSeconds => -86_400 * 400 });
    my $answer = update('PFA-7', 1, { n => 0 });
    is($answer->{json}{newVersion}, 2, 'it is made');
    ok($answer->{json}{updatedAt} lt $fake->now, 'updatedAt is long ago');
    is(one('PFA-7')->{json}{updatedAt}, $answer->{json}{updatedAt}, 'it is the record\'s');
};

# ---------- faults: what is shown ----------

subtest 'a replica that lags' => sub {
    begin_again();
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-1', changes => { n => 20 } });
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', delete => $true });
    my $lag = $fake->lag('RIO', versions => 1);
    is(listing(9), '1 2|3 4|5 6|7', 'a version behind: the listing in its order of then');
    is(one('PFA-1')->{json}{version}, 1, 'a read of then');
    is(one('PFA-2')->{status}, 200, 'a record that is deleted by now');
    is(update('PFA-1', 2, { n => 30 })->{status}, 200, 'a write knows better');
    is(one('PFA-1')->{json}{version}, 2, 'still one behind');
    is(scalar(@{ page(updatedSince => '2026-01-01T00:00:00Z')->{json}{records} }), 1, 'updatedSince looks at the times of then');
    $fake->clear_faults($lag);
    is(one('PFA-1')->{json}{version}, 3, 'now');

    begin_again();
    sleep 2.1;
    $fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-1', changes => { n => 20 } });
    $fake->edit({ organizationCode => 'RIO', pfaId => 'NEW', data => {} });
    $fake->forget('RIO', 'PFA-7');
    is(listing(9, limit => 9), '2 3 4 5 6 1 NEW', 'as it is');
    $fake->lag('RIO', seconds => 2);
    is(listing(9, limit => 9), '1 2 3 4 5 6 7', 'two seconds ago');
    is(one('PFA-1')->{json}{version}, 1, 'a read of then');
    is(one('NEW')->{status}, 404, 'what was not there yet');
    $fake->clear_faults;
    $fake->lag('RIO', seconds => 3600, call => 'list');
    is(listing(9), '', 'an hour ago there was nothing');
    is(one('PFA-1')->{json}{version}, 2, 'only listings lag');
};

subtest 'tombstones' => sub {
    begin_again();
    $fake->edit(map { { organizationCode => 'RIO', pfaId => "PFA-$_", delete => $true, updatedAt => "2025-01-0${_}T12:00:00Z" } } 2, 3, 7);
    is(listing(9), '1 2|3 4|5 6|7', 'are in a listing');
    is(join(' ', map { $_->{deleted} } @{ page(limit => 4)->{json}{records} }), '0 1 1 0', 'deleted');
    $fake->fault({ withoutDeleted => $true });
    is(listing(9), '1 4|5 6', 'or they are left out');
};

subtest 'other texts in place of records' => sub {
    begin_again();
    my $twice = PemsSync::FakePems::raw_record(pfaId => 'PFA-4', version => 5) . ',' . PemsSync::FakePems::raw_record(pfaId => 'PFA-4', version => 4);
    my %texts = (
        'PFA-1' => PemsSync::FakePems::raw_record(pfaId => 'PFA-1', version => \'1e999999', data => \'{"text":"\u0000\ud800%FF 100%25"}'),
        'PFA-2' => '',
        'PFA-3' => PemsSync::FakePems::raw_record(pfaId => '../x', version => undef, data => [], organizationCode => 'RIO2'),
        'PFA-4' => $twice);
    $fake->replace_records('RIO', \%texts);
    my $content = page(limit => 5)->{content};
    like($content, qr/"version":1e999999\}/, 'a version that nobody can hold');
    like($content, qr/"text":"\\u0000\\ud800\xff 100%"/, 'NUL, a lone surrogate, and a byte that is no UTF-8');
    like($content, qr/\},\{"data":\[\],"deleted":false,"organizationCode":"RIO2","pfaId":"\.\.\/x","updatedAt":"[^"]+"\},/,
        'no version, data that are no object, a bad pfaId, another organization; a record is left out before it');
    like($content, qr/"PFA-4".*"version":5\},\{.*"PFA-4".*"version":4\},\{"pfaId":"PFA-5"/, 'one that comes twice');
    is(($fake->listings)[-1]{records}, 4, 'the log counts the records that have a text');
    is(one('PFA-2')->{status}, 200, 'a single read shows what was left out');
    refused('faults', { recordTexts => { 'PFA-1' => 5 } }, 400);
};

# ---------- faults: how it travels ----------

# What comes of the second page within some seconds: (bytes, 'fin', 'reset' or 'open').
sub raw_second_page
{
    my ($seconds) = @_;
    my $query  = $http->www_form_urlencode({ organizationCode => 'RIO', limit => 2, cursor => page()->{json}{nextCursor} });
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $fake->port) or die $!;
    my $select = IO::Select->new($socket);
    my $until  = time + $seconds;
    my $got    = '';
    $socket->syswrite("GET /api/pems/pfa?$query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n");
    while ((my $left = $until - time) > 0)
    {
        next if !$select->can_read($left);
        my $count = sysread $socket, $got, 65_536, length $got;
        return ($got, 'reset') if !defined $count;
        return ($got, 'fin') if $count == 0;
    }
    return ($got, 'open');
}

sub body_of { return $_[0] =~ /\r\n\r\n(.*)$/s ? $1 : '' }

subtest 'a page in the middle fails' => sub {
    begin_again();
    $fake->fault({ call => 'list', page => 2, status => 503, count => 2 });
    is(listing(9), '1 2|503', 'a status') for 1, 2;
    is(listing(9), '1 2|3 4|5 6|7', 'then not');
    $fake->fault({ call => 'list', page => 2, dropBeforeApply => $true, reset => $true, count => 1 });
    is((raw_second_page(3))[1], 'reset', 'reset');
    $fake->fault({ call => 'list', page => 2, truncate => $true, count => 1 });
    my ($got, $end) = raw_second_page(3);
    my ($length) = $got =~ /Content-Length: (\d+)/;
    is("$end " . length body_of($got), 'fin ' . int($length / 2), 'a body that is cut');
    $fake->fault({ call => 'list', page => 2, hang => $true, count => 1 });
    is(join(' ', raw_second_page(0.5)), ' open', 'silence');
    $fake->fault({ call => 'list', page => 2, stallBody => $true, count => 1 });
    ($got, $end) = raw_second_page(1.5);
    is("$end " . length body_of($got), 'open ' . int($length / 2), 'silence in the middle of a body');
    my $begin = time;
    sleep 0.1 while time - $begin < 10 && $fake->stats->{waiting} > 0;
    is($fake->stats->{waiting}, 0, 'which ends when the client goes');
    $fake->fault({ call => 'list', fromPage => 3, status => 500 });
    is(listing(9), '1 2|3 4|500', 'fromPage');
    is(one('PFA-1')->{status}, 200, 'a read has no page');
    refused('faults', { page => 0, status => 500 }, 400);
};

subtest 'large bodies' => sub {
    begin_again();
    $fake->fault({ call => 'list', page => 1, padding => 3_000_000, count => 1 });
    my $answer = page();
    ok(length $answer->{content} > 3_000_000, 'as large as asked');
    is(ids($answer), '1 2', 'and good JSON');
    $fake->fault({ padding => 1000, count => 1 });
    is(length one('PFA-1')->{json}{padding}, 1000, 'a single read, too');
    $fake->fault({ padding => 1000, status => 503, count => 1 });
    is(length one('PFA-1')->{json}{padding}, 1000, 'an error, too');
};

done_testing();
