#!/usr/bin/perl
#
# 000_mock_pems.t
#     The fake PEMS, call by call and fault by fault, before other tests believe it.
#
# Needs no server and core Perl only.  The binary's path comes from MOCK_PEMS.
#
use strict;
use warnings;

use File::Temp qw(tempdir);
use HTTP::Tiny;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(decode_base64);
use POSIX qw(WNOHANG);
use Socket qw(SOL_SOCKET SO_ERROR);
use Test::More;
use Time::HiRes qw(sleep time);

my $binary = $ENV{MOCK_PEMS} or die "MOCK_PEMS must name the mock_pems binary\n";
my $dir = tempdir(CLEANUP => 1);
my $json = JSON::PP->new->canonical->allow_nonref;
my %children;    # pid => 1: to be ended whatever happens

# ---------- a running fake ----------

# Start a fake; returns { pid, port, url, out }.
sub start_fake
{
    my ($records, @options) = @_;

    pipe(my $out, my $in) or die $!;
    my $pid = fork() // die $!;
    if ($pid == 0)
    {
        close $out;
        open(STDOUT, '>&', $in) or die $!;
        exec($binary, 0, $records, @options) or die "could not run $binary: $!";
    }
    close $in;
    $children{$pid} = 1;
    my $line = readline($out) // '';
    like($line, qr/^mock_pems ready on 127\.0\.0\.1:\d+$/, 'the ready line');
    my ($port) = $line =~ /:(\d+)$/ or BAIL_OUT('the fake does not start');
    return { pid => $pid, port => $port, url => "http://127.0.0.1:$port", out => $out };
}

# End it; returns its wait status and how long it took.
sub stop_fake
{
    my ($fake, $signal) = @_;
    my $begin = time;

    kill($signal // 'TERM', $fake->{pid});
    for (1 .. 1000)
    {
        last if waitpid($fake->{pid}, WNOHANG) == $fake->{pid};
        sleep 0.005;
    }
    my $status = $?;
    delete $children{ $fake->{pid} };
    return ($status, time - $begin);
}

END
{
    my $status = $?;
    kill('KILL', $_) for keys %children;
    waitpid($_, 0) for keys %children;
    $? = $status;
}

sub write_file
{
    my ($name, $text) = @_;

    open(my $file, '>', "$dir/$name") or die $!;
    print $file $text;
    close $file or die $!;
    return "$dir/$name";
}

sub read_lines
{
    my ($path) = @_;

    open(my $file, '<', $path) or die $!;
    return map { $json->decode($_) } readline($file);
}

my $records_file = write_file('records.json', <<'RECORDS');
{
  "organizations": [{"code": "RIO", "token": "secret"}, {"code": "RIO2", "token": "other"},
                    {"code": "NONE", "token": null}],
  "comment": {"of": ["no", "interest]"]},
  "records": [
    {"organizationCode": "RIO", "pfaId": "PFA-1", "version": 3, "updatedAt": "2025-01-01T00:00:00Z",
     "data": {"monthlyRate": 5500.00, "dor": "BEO", "tags": ["a", "b"],
              "site": {"name": "North", "gps": {"lat": 1.50, "lon": 2}}}},
    {"organizationCode": "RIO", "pfaId": "PFA-2", "version": 1, "updatedAt": "2025-01-02T00:00:00+01:00",
     "data": {"text": "quote \" bracket ] backslash \\"}},
    {"organizationCode": "RIO", "pfaId": "PFA-3", "updatedAt": "2025-01-03T00:00:00Z", "data": {}},
    {"organizationCode": "RIO", "pfaId": "PFA-4", "updatedAt": "2025-01-03T00:00:00Z", "data": {}},
    {"organizationCode": "RIO", "pfaId": "PFA-5", "updatedAt": "2025-01-03T00:00:00Z", "data": {}, "deleted": true},
    {"organizationCode": "RIO2", "pfaId": "PFA-1", "version": 9, "data": {"dor": "PROJECT"}}
  ]
}
RECORDS
my $log_file = "$dir/log.jsonl";
my $fake = start_fake($records_file, '--log', $log_file, '--idempotency');
my $http = HTTP::Tiny->new(timeout => 10);

# ---------- speaking to it ----------

# A request of PEMS's protocol; %with: token, body (a structure or text), headers.
sub call
{
    my ($method, $path, %with) = @_;
    my $token = exists $with{token} ? $with{token} : 'secret';
    my %options = (headers => { %{ $with{headers} // {} } });

    $options{headers}{Authorization} = "Bearer $token" if defined $token;
    $options{content} = ref $with{body} ? $json->encode($with{body}) : $with{body}
      if defined $with{body};
    my $answer = HTTP::Tiny->new(timeout => 5, max_redirect => 0)
      ->request($method, "$fake->{url}$path", \%options);
    $answer->{json} = eval { $json->decode($answer->{content}) };
    return $answer;
}

sub update
{
    my ($pfa_id, $version, $changes, %with) = @_;
    my %body = (
        pfaId => $pfa_id,
        organizationCode => 'RIO',
        changes => $changes,
        version => $version,
        modifiedBy => 'john.doe@example.com',
        %{ $with{extra} // {} });

    return call('PUT', "/api/pems/pfa/$pfa_id", %with, body => \%body);
}

sub remove
{
    my ($pfa_id, $version, %with) = @_;

    return call('DELETE', "/api/pems/pfa/$pfa_id", %with,
        body => { pfaId => $pfa_id, organizationCode => 'RIO', version => $version, reason => 'r' });
}

sub get_record
{
    my ($pfa_id, $organization, %with) = @_;

    return call('GET', "/api/pems/pfa/$pfa_id?organizationCode=" . ($organization // 'RIO'), %with);
}

sub control
{
    my ($method, $path, $body) = @_;
    my %options;

    $options{content} = ref $body ? $json->encode($body) : $body if defined $body;
    my $answer = $http->request($method, "$fake->{url}/_control/$path", \%options);
    $answer->{json} = eval { $json->decode($answer->{content}) };
    return $answer;
}

sub reset_fake
{
    is(control('POST', 'reset')->{status}, 200, 'reset');
}

# Set one fault that fires once; returns its id.
sub fault
{
    my (%fault) = @_;
    my $answer = control('POST', 'faults', { count => 1, %fault });

    is($answer->{status}, 200, 'fault ' . $json->encode(\%fault)) or diag($answer->{content});
    return $answer->{json}{ids}[0];
}

# The record as it is, past the protocol.
sub state_of
{
    my ($pfa_id, $organization) = @_;

    $organization //= 'RIO';
    return control('GET', "records?organizationCode=$organization&pfaId=$pfa_id")->{json}{records}[0];
}

sub log_entries
{
    my ($kind) = @_;

    return @{ control('GET', 'log' . ($kind ? "?kind=$kind" : ''))->{json}{entries} };
}

sub last_request
{
    return (log_entries('request'))[-1];
}

# Send bytes, and read until the end of the connection or for $seconds.
# Returns (what came, 'fin', 'reset' or 'open').
sub raw_exchange
{
    my ($bytes, $seconds, $limit) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $fake->{port}) or die $!;
    my $select = IO::Select->new($socket);
    my $until = time + $seconds;
    my $got = '';

    $socket->syswrite($bytes);
    while ((my $left = $until - time) > 0)
    {
        last if defined $limit && length $got >= $limit;
        next unless $select->can_read($left);
        my $count = sysread($socket, $got, 65536, length $got);
        return ($got, 'reset') if !defined $count;
        return ($got, 'fin') if $count == 0;
    }
    return ($got, 'open');
}

sub raw_update
{
    my ($version, $seconds, $limit) = @_;
    my $body = qq({"pfaId":"PFA-1","organizationCode":"RIO","changes":{"dor":"PROJECT"},"version":$version});

    return raw_exchange(
        "PUT /pems/pfa/PFA-1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
          . 'Content-Length: '
          . length($body)
          . "\r\n\r\n$body", $seconds, $limit);
}

# ---------- reading ----------

{
    my $answer = call('GET', '/api/pems/health');
    is($answer->{status}, 200, 'health');
    is(call('GET', '/pems/health', token => 'wrong')->{status}, 401, 'health with a wrong token');

    $answer = get_record('PFA-1');
    is($answer->{status}, 200, 'read one');
    is($answer->{json}{version}, 3, 'its version');
    is($answer->{json}{pfaId}, 'PFA-1', 'its id');
    is($answer->{json}{updatedAt}, '2025-01-01T00:00:00.000000Z', 'its time');
    like($answer->{content}, qr/"monthlyRate":5500\.00[,}]/, 'numbers keep their digits');
    like($answer->{headers}{'content-type'}, qr{^application/json}, 'JSON');
    is(get_record('PFA-1', 'RIO2', token => 'other')->{json}{version}, 9,
        'another organization has its own');
    is(get_record('PFA-9')->{status}, 404, 'an unknown record');
    is(get_record('PFA-9')->{json}{error}, 'NOT_FOUND', 'says so');
    is(get_record('PFA-5')->{status}, 404, 'a deleted record');
    is(get_record('PFA-2')->{json}{data}{text}, 'quote " bracket ] backslash \\', 'hard text loaded');
    is(call('GET', '/deep/api/v1/pems/pfa/PFA-1?organizationCode=RIO')->{status}, 200,
        'any prefix of the path');
    is(call('GET', '/pems/pfa/PFA%2D1?organizationCode=R%49O')->{status}, 200, 'escapes are undone');
}

# ---------- who may ----------

{
    is(get_record('PFA-1', 'RIO', token => undef)->{status}, 401, 'no token');
    is(get_record('PFA-1', 'RIO', token => 'other')->{status}, 401, 'the token of another organization');
    is(get_record('PFA-1', 'RI')->{status}, 401, 'a prefix of a code is another code');
    is(get_record('PFA-1', 'NONE', token => '')->{status}, 401, 'an organization without a token');
    is(update('PFA-1', 3, { dor => 'X' }, token => 'other')->{status}, 401, 'update, wrong token');
    is(last_request()->{authorized}, JSON::PP::false, 'the log knows');
    is(state_of('PFA-1')->{version}, 3, 'nothing happened');
    is(control('POST', 'organizations', { code => 'RIO', token => 'newer' })->{status}, 200, 'new token');
    is(get_record('PFA-1')->{status}, 401, 'the old one is out');
    is(get_record('PFA-1', 'RIO', token => 'newer')->{status}, 200, 'the new one is in');
    is(control('POST', 'organizations', [ { code => 'RIO', token => 'secret' } ])->{status}, 200, 'back');
}

# ---------- update ----------

{
    my $answer = update(
        'PFA-1', 3,
        { monthlyRate => 6000, site => { gps => { lat => 9 } }, tags => ['c'], dor => undef, fresh => {} },
        extra => { changeReason => 'Budget' },
        headers => { 'Idempotency-Key' => 'item:3', 'X-Request-Id' => 'item:1' });
    is($answer->{status}, 200, 'update');
    is($answer->{json}{success}, JSON::PP::true, 'success');
    is($answer->{json}{newVersion}, 4, 'newVersion');
    is($answer->{json}{pfaId}, 'PFA-1', 'pfaId');
    like($answer->{json}{updatedAt}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, 'updatedAt');
    is_deeply(
        state_of('PFA-1')->{data},
        {
            monthlyRate => 6000,
            dor => undef,
            tags => ['c'],
            fresh => {},
            site => { name => 'North', gps => { lat => 9, lon => 2 } }
        },
        'objects merge, the rest replaces');

    my ($request, $change) = (log_entries())[ -2, -1 ];
    is($request->{kind}, 'request', 'request in the log');
    is($request->{$_->[0]}, $_->[1], "its $_->[0]")
      for (
        [ method => 'PUT' ],
        [ call => 'update' ],
        [ path => '/api/pems/pfa/PFA-1' ],
        [ organizationCode => 'RIO' ],
        [ pfaId => 'PFA-1' ],
        [ idempotencyKey => 'item:3' ],
        [ requestId => 'item:1' ],
        [ version => 3 ],
        [ modifiedBy => 'john.doe@example.com' ],
        [ reason => 'Budget' ],
        [ status => 200 ],
        [ applied => JSON::PP::true ],
        [ authorized => JSON::PP::true ],
        [ fault => undef ]);
    is($request->{changes}{monthlyRate}, 6000, 'its changes');
    like($request->{at}, qr/\.\d{6}Z$/, 'its time');
    ok($request->{monotonicUs} > 0, 'its monotonic time');
    is($change->{kind}, 'change', 'change in the log');
    is($change->{requestSeq}, $request->{seq}, 'of this request');
    is("$change->{fromVersion} $change->{toVersion} $change->{by}", '3 4 client', 'from, to, by');

    $answer = update('PFA-1', 3, { monthlyRate => 6000, dor => 'BEO' });
    is($answer->{status}, 409, 'a stale version');
    is($answer->{json}{error}, 'VERSION_CONFLICT', 'error');
    is($answer->{json}{currentVersion}, 4, 'currentVersion');
    is($answer->{json}{expectedVersion}, 3, 'expectedVersion');
    is_deeply($answer->{json}{conflictingFields}, ['dor'], 'conflictingFields');
    is(update('PFA-1', 5, { dor => 'BEO' })->{status}, 409, 'a version from the future');
    is(update('PFA-9', 1, { dor => 'BEO' })->{status}, 404, 'update of an unknown record');
}

# ---------- mistakes ----------

{
    my %good = (pfaId => 'PFA-3', organizationCode => 'RIO', changes => { a => 1 }, version => 1);
    my @bad = (
        [ 'no JSON', '{' ],
        [ 'nothing', '' ],
        [ 'no object', '[]' ],
        [ 'another pfaId', { %good, pfaId => 'PFA-4' } ],
        [ 'no pfaId', { %good, pfaId => undef } ],
        [ 'no changes', { %good, changes => undef } ],
        [ 'empty changes', { %good, changes => {} } ],
        [ 'changes of a wrong kind', { %good, changes => [1] } ],
        [ 'version of a wrong kind', { %good, version => 'one' } ],
        [ 'a broken version', { %good, version => 1.5 } ],
        [ 'modifiedBy of a wrong kind', { %good, modifiedBy => [] } ],
        [ 'no organizationCode', { %good, organizationCode => undef } ],
        [ 'a lone surrogate', '{"pfaId":"\ud800"}' ],
        [ 'NUL', '{"pfaId":"PFA-3\u0000"}' ]);
    for my $case (@bad)
    {
        my $answer = call('PUT', '/pems/pfa/PFA-3', body => $case->[1]);
        is($answer->{status}, 400, "400: $case->[0]");
        is($answer->{json}{error}, 'INVALID_REQUEST', 'error') or diag($answer->{content});
    }
    is(call('PUT', '/pems/pfa/PFA-3', body => '{', token => 'wrong')->{status}, 401,
        'strangers are not told');
    is(call('GET', '/pems/pfa/..?organizationCode=RIO')->{status}, 400, 'pfaId ..');
    is(call('GET', '/pems/pfa/a%00b?organizationCode=RIO')->{status}, 400, 'pfaId with NUL');
    is(call('GET', '/pems/pfa/a%FF?organizationCode=RIO')->{status}, 400, 'pfaId that is no UTF-8');
    is(call('GET', '/pems/pfa/PFA-1?organizationCode=RIO%00')->{status}, 400, 'organization with NUL');
    is(call('GET', '/pems/pfa/PFA-1')->{status}, 400, 'no organization');
    is(call('GET', '/pems/nothing')->{status}, 404, 'unknown path');
    is(call('POST', '/pems/pfa/PFA-1', body => '{}')->{status}, 405, 'unknown method');
    is(state_of('PFA-3')->{version}, 1, 'nothing happened');
    is(scalar(grep { !defined $_->{seq} } log_entries()), 0, 'the log is good JSON all the same');
}

# ---------- delete ----------

{
    is(remove('PFA-3', 7)->{status}, 409, 'delete with a stale version');
    my $answer = remove('PFA-3', 1);
    is($answer->{status}, 200, 'delete');
    is($answer->{json}{newVersion}, 2, 'newVersion');
    is(get_record('PFA-3')->{status}, 404, 'gone');
    is(update('PFA-3', 2, { a => 1 })->{status}, 404, 'update of a deleted record');
    is(remove('PFA-3', 2)->{status}, 404, 'delete of a deleted record');
    is(state_of('PFA-3')->{deleted}, JSON::PP::true, 'the dump still has it');
    is((log_entries('change'))[-1]{deleted}, JSON::PP::true, 'so has the log');
}

# ---------- read many ----------

sub list_all
{
    my ($query, $limit) = @_;
    my (@records, $cursor);
    my $pages = 0;

    do
    {
        my $path = "/pems/pfa?organizationCode=RIO&limit=$limit$query";
        $path .= '&cursor=' . ($cursor =~ s/([^A-Za-z0-9])/sprintf('%%%02X', ord $1)/ger)
          if defined $cursor;
        my $answer = call('GET', $path);
        is($answer->{status}, 200, 'a page') or return;
        push @records, @{ $answer->{json}{records} };
        ok(@{ $answer->{json}{records} } <= $limit, 'not longer than asked for');
        $cursor = $answer->{json}{nextCursor};
        $pages++;
    } while (defined $cursor && $pages < 20);
    return @records;
}

{
    reset_fake();
    my @expected = qw(PFA-1 PFA-2 PFA-3 PFA-4 PFA-5);
    is_deeply([ map { $_->{pfaId} } list_all('', $_) ], \@expected, "in order, $_ a page") for (1, 2, 5, 100);
    my @records = list_all('', 3);
    is($records[4]{deleted}, JSON::PP::true, 'with the deleted one');
    is($records[0]{deleted}, JSON::PP::false, 'and those that are not');
    is($records[0]{data}{dor}, 'BEO', 'with data');
    is($records[1]{updatedAt}, '2025-01-01T23:00:00.000000Z', 'times in UTC');
    is_deeply([ map { $_->{pfaId} } list_all('&updatedSince=2025-01-03T00:00:00Z', 2) ],
        [qw(PFA-3 PFA-4 PFA-5)], 'updatedSince includes its instant');
    is_deeply([ map { $_->{pfaId} } list_all('&updatedSince=2025-01-03T01%3A00%3A00%2B01%3A00', 2) ],
        [qw(PFA-3 PFA-4 PFA-5)], 'with an offset');
    is_deeply([ list_all('&updatedSince=2099-01-01T00:00:00Z', 2) ], [], 'nothing that new');
    update('PFA-1', 3, { dor => 'X' });
    is((list_all('', 2))[-1]{pfaId}, 'PFA-1', 'what was written comes last');
    my $first = call('GET', '/pems/pfa?organizationCode=RIO&limit=1')->{json};
    like(decode_base64($first->{nextCursor}), qr/PFA-2$/, 'the cursor is base64');
    is(call('GET', "/pems/pfa?organizationCode=RIO&$_")->{status}, 400, $_)
      for ('limit=0', 'limit=x', 'cursor=!', 'cursor=QUJD', 'updatedSince=yesterday');
    is(call('GET', '/pems/pfa?organizationCode=RIO')->{status}, 200, 'no limit');
    is(call('GET', '/pems/pfa?organizationCode=RIO', token => 'other')->{status}, 401, 'not for others');
    is(scalar(@{ call('GET', '/pems/pfa?organizationCode=RIO2', token => 'other')->{json}{records} }),
        1, 'an organization sees its own');
}

# ---------- edits by another user ----------

{
    reset_fake();
    my $answer = control('POST', 'records',
        { organizationCode => 'RIO', pfaId => 'PFA-1', changes => { dor => 'EDIT' }, by => 'mary' });
    is($answer->{status}, 200, 'an edit');
    is_deeply($answer->{json}{versions}, [4], 'bumps the version');
    is(get_record('PFA-1')->{json}{data}{dor}, 'EDIT', 'and is there');
    my $change = (log_entries('change'))[-1];
    is("$change->{by} $change->{user} $change->{fromVersion} $change->{toVersion}",
        'control mary 3 4', 'and in the log');
    ok(!exists $change->{requestSeq}, 'of no request');

    $answer = control(
        'POST',
        'records',
        [
            { organizationCode => 'RIO', pfaId => 'PFA-1', data => { a => 1 }, version => 2 },
            { organizationCode => 'RIO', pfaId => 'PFA-2', delete => JSON::PP::true },
            { organizationCode => 'RIO', pfaId => 'NEW', data => {}, updatedAt => '2020-01-01T00:00:00Z' }
        ]);
    is_deeply($answer->{json}{versions}, [ 2, 2, 1 ], 'set, delete, make');
    is_deeply(state_of('PFA-1')->{data}, { a => 1 }, 'set');
    is(get_record('PFA-2')->{status}, 404, 'deleted');
    is((list_all('', 100))[0]{pfaId}, 'NEW', 'a time of its own');
    is(control('POST', 'records', { organizationCode => 'RIO', pfaId => 'PFA-2', data => {} })
          ->{json}{versions}[0], 3, 'made again');
    is(get_record('PFA-2')->{status}, 200, 'and alive');
    is(control('POST', 'records', { organizationCode => 'RIO', pfaId => 'PFA-77', changes => { a => 1 } })
          ->{status}, 404, 'an edit of nothing');
    is(control('POST', 'records', { organizationCode => 'RIO', pfaId => 'PFA-1' })->{status}, 400,
        'an edit without an edit');
    is(control('POST', 'records', '{')->{status}, 400, 'no JSON');
    is(scalar(@{ control('GET', 'records')->{json}{records} }), 7, 'a dump of everything');
    is(scalar(@{ control('GET', 'records?organizationCode=RIO2')->{json}{records} }), 1, 'of one organization');
    is(scalar(@{ control('GET', 'records?pfaId=PFA-1')->{json}{records} }), 2, 'of one id');
    is(control('GET', 'nothing')->{status}, 404, 'unknown control call');
}

# ---------- faults: what the answer says ----------

# An update of PFA-1 under a fault; returns the answer and whether it was applied.
sub update_under
{
    my (%fault) = @_;
    my $before = state_of('PFA-1');

    fault(%fault);
    my $answer = update('PFA-1', $before->{version}, { dor => 'F' . $before->{version} });
    my $applied = state_of('PFA-1')->{version} > $before->{version} ? 1 : 0;
    is(last_request()->{applied} ? 1 : 0, $applied, 'the log says whether it was applied');
    return ($answer, $applied);
}

{
    reset_fake();
    my ($answer, $applied) = update_under(status => 503);
    is("$answer->{status} $answer->{json}{error} $applied", '503 UNAVAILABLE 0', 'status');
    is(last_request()->{fault}, 'status', 'named in the log');

    ($answer, $applied) = update_under(status => 500, apply => JSON::PP::true);
    is("$answer->{status} $applied", '500 1', 'status, but applied');
    ($answer) = update_under(status => 409, error => 'RECORD_LOCKED');
    is("$answer->{status} $answer->{json}{error}", '409 RECORD_LOCKED', 'status with a word');
    ($answer) = update_under(status => 403, body => { why => 'no' }, headers => { 'X-Why' => 'so' });
    is("$answer->{status} $answer->{json}{why} $answer->{headers}{'x-why'}", '403 no so', 'body and headers');
    ($answer) = update_under(status => 400, body => 'plain', headers => { 'Content-Type' => 'text/plain' });
    is("$answer->{content} $answer->{headers}{'content-type'}", 'plain text/plain', 'a body that is text');

    ($answer, $applied) = update_under(garbage => JSON::PP::true);
    is("$answer->{status} $applied", '200 1', 'garbage, applied');
    ok(!defined $answer->{json}, 'no JSON');
    ($answer, $applied) = update_under(html => JSON::PP::true);
    is("$answer->{status} $applied", '200 0', 'html');
    like($answer->{content}, qr/<html>/, 'a page');
    like($answer->{headers}{'content-type'}, qr{^text/html}, 'said so');
    ($answer, $applied) = update_under(html => JSON::PP::true, apply => JSON::PP::true, status => 502);
    is("$answer->{status} $applied", '502 1', 'html, applied, with a status');
    ($answer, $applied) = update_under(emptyBody => JSON::PP::true);
    is("$answer->{status} [$answer->{content}] $applied", '200 [] 1', 'emptyBody, applied');
    ($answer, $applied) = update_under(wrongId => JSON::PP::true);
    isnt($answer->{json}{pfaId}, 'PFA-1', 'wrongId');
    is("$answer->{status} $applied", '200 1', 'applied');
    ($answer, $applied) = update_under(noNewVersion => JSON::PP::true);
    ok(!exists $answer->{json}{newVersion}, 'noNewVersion');
    is("$answer->{json}{success} $applied", '1 1', 'applied');

    my $version = state_of('PFA-1')->{version};
    ($answer, $applied) = update_under(newVersionBump => 2);
    is($answer->{json}{newVersion}, $version + 3, 'newVersionBump');
    is(state_of('PFA-1')->{version}, $version + 3, 'for real');

    ($answer, $applied) = update_under(successFalse => 'RATE_LIMITED');
    is("$answer->{status} $answer->{json}{success} $answer->{json}{error} $applied",
        '200 0 RATE_LIMITED 0', 'successFalse');
    ($answer) = update_under(successFalse => JSON::PP::true);
    is($answer->{json}{error}, 'BUSINESS_RULE', 'successFalse without a word');
    ($answer, $applied) = update_under(accepted => JSON::PP::true);
    is("$answer->{status} $applied", '202 1', 'accepted');
    ok(!exists $answer->{json}{newVersion}, 'without a version');
    ($answer, $applied) = update_under(redirect => 'http://127.0.0.1:1/');
    is("$answer->{status} $answer->{headers}{location} $applied", '302 http://127.0.0.1:1/ 0', 'redirect');
    ($answer, $applied) = update_under(apply => JSON::PP::false);
    is("$answer->{status} $answer->{json}{success} $applied", '200 1 0', 'a success that is a lie');
}

{
    my ($answer, $applied) = update_under(retryAfter => '7');
    is("$answer->{status} $answer->{headers}{'retry-after'} $applied", '429 7 0', 'retryAfter');
    ($answer) = update_under(retryAfter => 'soon');
    is($answer->{headers}{'retry-after'}, 'soon', 'nonsense as it is');
    ($answer) = update_under(retryAfter => 3, status => 503);
    is("$answer->{status} $answer->{headers}{'retry-after'}", '503 3', 'with another status');
    ($answer) = update_under(retryAfterDateSeconds => 90);
    like($answer->{headers}{date}, qr/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/, 'Date');
    is(HTTP::Tiny->new->_parse_http_date($answer->{headers}{'retry-after'}) -
          HTTP::Tiny->new->_parse_http_date($answer->{headers}{date}),
        90, 'retryAfterDateSeconds');
    ($answer) = update_under(retryAfterDateSeconds => 5, dateSkewSeconds => 3600);
    my $date = HTTP::Tiny->new->_parse_http_date($answer->{headers}{date});
    ok(abs($date - time - 3600) < 5, 'dateSkewSeconds');
    is(HTTP::Tiny->new->_parse_http_date($answer->{headers}{'retry-after'}) - $date, 5, 'both move');
}

{
    control('POST', 'records', { organizationCode => 'RIO', pfaId => 'PFA-4', data => { a => 1 }, version => 1 });
    fault(roundNumbers => JSON::PP::true);
    update('PFA-4', 1, { a => 2.6, b => { c => 3.2, d => 'x' }, e => [1.9] });
    is_deeply(state_of('PFA-4')->{data}, { a => 3, b => { c => 3, d => 'x' }, e => [2] }, 'roundNumbers');
}

# ---------- faults: how it travels ----------

{
    reset_fake();
    fault(dropBeforeApply => JSON::PP::true);
    my ($got, $end) = raw_update(3, 3);
    is("[$got] $end", '[] fin', 'dropBeforeApply: closed without a byte');
    is(state_of('PFA-1')->{version}, 3, 'not applied');
    is(last_request()->{status}, 0, 'status 0 in the log');
    is(last_request()->{applied}, JSON::PP::false, 'not applied in the log');

    fault(dropBeforeApply => JSON::PP::true, reset => JSON::PP::true);
    ($got, $end) = raw_update(3, 3);
    is("[$got] $end", '[] reset', 'with RST');

    fault(applyThenDrop => JSON::PP::true);
    ($got, $end) = raw_update(3, 3);
    is("[$got] $end", '[] fin', 'applyThenDrop: closed without a byte');
    is(state_of('PFA-1')->{version}, 4, 'applied');
    is(last_request()->{applied}, JSON::PP::true, 'applied in the log');
    fault(applyThenDrop => JSON::PP::true, reset => JSON::PP::true);
    ($got, $end) = raw_update(4, 3);
    is("[$got] $end", '[] reset', 'with RST');
    is(state_of('PFA-1')->{version}, 5, 'applied');

    fault(truncate => JSON::PP::true);
    ($got, $end) = raw_update(5, 3);
    my ($length) = $got =~ /Content-Length: (\d+)/;
    my ($body) = $got =~ /\r\n\r\n(.*)$/s;
    is("$end " . length($body), 'fin ' . int($length / 2), 'truncate: half of it');
    is(state_of('PFA-1')->{version}, 6, 'applied');

    fault(endlessBody => JSON::PP::true);
    ($got, $end) = raw_update(6, 5, 3_000_000);
    is($end, 'open', 'endlessBody');
    ok(length $got >= 3_000_000, 'no end in sight');
    like($got, qr/Transfer-Encoding: chunked/i, 'in chunks');

    fault(hugeHeaders => JSON::PP::true);
    ($got, $end) = raw_update(7, 3);
    my ($head, $rest) = split /\r\n\r\n/, $got, 2;
    ok(length $head > 65536, 'hugeHeaders');
    like($rest, qr/"newVersion":8/, 'with the body behind');

    fault(slowBody => 5);
    my $begin = time;
    ($got, $end) = raw_update(8, 1.5);
    ok(time - $begin >= 0.5, 'slowBody takes its time');
    like($got, qr/"message":"[^"]+"\}$/, 'and comes whole');

    fault(hang => JSON::PP::true);
    ($got, $end) = raw_update(9, 0.5);
    is("[$got] $end", '[] open', 'hang');
    is(state_of('PFA-1')->{version}, 9, 'not applied');
    fault(hang => JSON::PP::true, apply => JSON::PP::true);
    raw_update(9, 0.3);
    is(state_of('PFA-1')->{version}, 10, 'hang, applied');
    sleep 0.1 while time - $begin < 10 && control('GET', 'stats')->{json}{waiting} > 0;
    is(control('GET', 'stats')->{json}{waiting}, 0, 'hanging requests end when the client leaves');
}

# ---------- faults: delays ----------

{
    reset_fake();
    fault(delayMs => 3000);
    my $begin = time;
    my $pid = fork() // die $!;
    if ($pid == 0)
    {
        update('PFA-1', 3, { dor => 'LATE' });
        POSIX::_exit(0);
    }
    sleep 0.1;
    is(get_record('PFA-2')->{status}, 200, 'others do not wait');
    is(state_of('PFA-1')->{version}, 3, 'delayMs: not applied yet');
    is(control('GET', 'stats')->{json}{waiting}, 1, 'one waits');
    waitpid($pid, 0);
    ok(time - $begin >= 3, 'late');
    is(state_of('PFA-1')->{data}{dor}, 'LATE', 'applied');
    my ($request) = grep { $_->{method} eq 'PUT' } log_entries('request');
    is($request->{fault}, 'delay', 'named in the log');
    my ($change) = log_entries('change');
    ok($change->{at} gt $request->{at}, 'the request has the time of its arrival');

    fault(delayAfterApplyMs => 400);
    raw_update(4, 0.1);
    is(state_of('PFA-1')->{version}, 5, 'delayAfterApplyMs: applied at once');
    fault(delayMs => 300);
    raw_update(5, 0.1);
    is(state_of('PFA-1')->{version}, 5, 'the client has gone');
    sleep 0.5;
    is(state_of('PFA-1')->{version}, 6, 'PEMS commits all the same');

    fault(delayMs => 100, status => 504);
    $begin = time;
    my $answer = update('PFA-1', 6, { dor => 'X' });
    ok($answer->{status} == 504 && time - $begin >= 0.1, 'delay and status together');
    is(last_request()->{fault}, 'delay+status', 'both in the log');

    fault(delayMs => 300);
    raw_update(6, 0.1);
    reset_fake();
    sleep 0.4;
    is(state_of('PFA-1')->{version}, 3, 'a reset forgets what waits');
}

# ---------- faults: which requests ----------

sub statuses
{
    my ($count, $code) = @_;

    return join ' ', map { $code->()->{status} } 1 .. $count;
}

{
    reset_fake();
    control('POST', 'faults', { status => 500, count => 2, after => 1 });
    is(statuses(5, sub { get_record('PFA-1') }), '200 500 500 200 200', 'after and count');
    control('DELETE', 'faults');

    my @cases = (
        [ { pfaId => 'PFA-1' }, '500 200 500 200 200' ],
        [ { call => 'read' }, '500 500 200 200 200' ],
        [ { call => 'update' }, '200 200 500 200 200' ],
        [ { call => 'list' }, '200 200 200 500 200' ],
        [ { call => 'health' }, '200 200 200 200 500' ],
        [ { method => 'PUT' }, '200 200 500 200 200' ],
        [ { organizationCode => 'RIO' }, '500 500 500 500 200' ],
        [ { organizationCode => 'RI' }, '200 200 200 200 200' ],
        [ { call => 'delete' }, '200 200 200 200 200' ]);
    for my $case (@cases)
    {
        reset_fake();
        control('POST', 'faults', { status => 500, %{ $case->[0] } });
        my @answers = (
            get_record('PFA-1'), get_record('PFA-2'),
            update('PFA-1', 3, { dor => 'X' }), call('GET', '/pems/pfa?organizationCode=RIO'),
            call('GET', '/pems/health'));
        is(join(' ', map { $_->{status} } @answers), $case->[1], 'match ' . $json->encode($case->[0]));
    }

    reset_fake();
    my $dice = sub {
        control('DELETE', 'faults');
        control('POST', 'faults', { status => 500, probability => 0.5, seed => $_[0] });
        return statuses(40, sub { call('GET', '/pems/health') });
    };
    my ($one, $again, $two) = map { $dice->($_) } (1, 1, 2);
    is($one, $again, 'a seed gives the same throws');
    isnt($one, $two, 'another seed gives others');
    my $hits = () = $one =~ /500/g;
    ok($hits > 8 && $hits < 32, "about half of them: $hits of 40");

    reset_fake();
    my $answer = control('POST', 'faults', [ { id => 'a', status => 500, count => 1 }, { status => 501, count => 1 } ]);
    is($answer->{json}{ids}[0], 'a', 'ids given');
    is(statuses(3, sub { call('GET', '/pems/health') }), '500 501 200', 'in the order of the list');
    $answer = control('GET', 'faults');
    is_deeply([ map { $_->{fired} } @{ $answer->{json}{faults} } ], [ 1, 1 ], 'how often they fired');
    is(control('DELETE', 'faults?id=a')->{json}{removed}, 1, 'one removed');
    is(control('DELETE', 'faults')->{json}{removed}, 1, 'the rest removed');

    is(control('POST', 'faults', $_)->{status}, 400, 'no fault: ' . $json->encode($_))
      for (
        { statsu => 500 },
        { status => 99 },
        { count => 1 },
        { status => 500, probability => 2 },
        { status => 500, call => 'x' },
        { hang => 1 },
        [ { status => 500 }, { status => 'x' } ]);
    is_deeply(control('GET', 'faults')->{json}{faults}, [], 'all or none');
}

# ---------- idempotency ----------

{
    reset_fake();
    my %key = (headers => { 'Idempotency-Key' => 'k:3' });
    my $first = update('PFA-1', 3, { dor => 'X' }, %key);
    my $second = update('PFA-1', 3, { dor => 'X' }, %key);
    is($second->{content}, $first->{content}, 'the first answer again');
    is(state_of('PFA-1')->{version}, 4, 'applied once');
    my $entry = last_request();
    ok($entry->{replayed} && !$entry->{applied}, 'and logged so');
    is(update('PFA-1', 3, { dor => 'X' }, headers => { 'Idempotency-Key' => 'l:3' })->{status}, 409,
        'another key is another write');
    fault(applyThenDrop => JSON::PP::true);
    update('PFA-1', 4, { dor => 'Y' }, headers => { 'Idempotency-Key' => 'm:4' });
    is(update('PFA-1', 4, { dor => 'Y' }, headers => { 'Idempotency-Key' => 'm:4' })->{json}{newVersion},
        5, 'the answer that was lost');
}

# ---------- stats ----------

{
    reset_fake();
    my $keep = HTTP::Tiny->new(keep_alive => 1);
    for (1 .. 20)
    {
        $keep->get("$fake->{url}/pems/pfa/PFA-1?organizationCode=RIO",
            { headers => { Authorization => 'Bearer secret' } });
    }
    get_record('PFA-1', 'RIO2', token => 'other');
    my $stats = control('GET', 'stats')->{json};
    is($stats->{requests}{total}, 21, 'requests');
    is($stats->{requests}{byCall}{read}, 21, 'by call');
    is($stats->{requests}{byStatus}{200}, 21, 'by status');
    is($stats->{organizations}{RIO}{requests}, 20, 'by organization');
    is($stats->{connections}{used}, 2, 'connections that carried requests');
    is($stats->{inProgress}{now}, 0, 'none in progress');
    is($stats->{inProgress}{most}, 1, 'one at a time');
    my @times = map { $_->{monotonicUs} } log_entries('request');
    my $most = 0;
    for my $end (@times)
    {
        my $count = grep { $_ <= $end && $end - $_ < 1_000_000 } @times;
        $most = $count if $count > $most;
    }
    is($stats->{requests}{maxPerSecond}, $most, 'the fullest second, as the log has it');

    my @pids = map {
        my $pid = fork() // die $!;
        if ($pid == 0) { get_record('PFA-1'); POSIX::_exit(0); }
        $pid
    } map { fault(delayMs => 300) } 1 .. 4;
    waitpid($_, 0) for @pids;
    ok(control('GET', 'stats')->{json}{inProgress}{most} > 1, 'several at a time');
}

# ---------- log ----------

{
    my $all = control('GET', 'log')->{json};
    my @seqs = map { $_->{seq} } @{ $all->{entries} };
    is_deeply(\@seqs, [ sort { $a <=> $b } @seqs ], 'seq goes up');
    is($seqs[-1], $all->{lastSeq}, 'lastSeq');
    my $tail = control('GET', "log?since=$seqs[-3]")->{json}{entries};
    is_deeply([ map { $_->{seq} } @$tail ], [ @seqs[ -2, -1 ] ], 'since');
    is(scalar(@{ control('GET', 'log?limit=2')->{json}{entries} }), 2, 'limit');
    is(scalar(grep { $_->{kind} ne 'change' } log_entries('change')), 0, 'kind');
    is(control('GET', 'log?kind=x')->{status}, 400, 'a wrong kind');

    my @lines = read_lines($log_file);
    is_deeply([ map { $_->{seq} } @lines ], [ 1 .. @lines ], 'the file has every seq');
    ok(scalar(grep { $_->{kind} eq 'reset' } @lines) > 5, 'resets are marked there');
    open(my $file, '<', $log_file) or die $!;
    my $text = do { local $/; <$file> };
    unlike($text, qr/Bearer|"secret"|secret/, 'the token is not in the log');
}

# ---------- the process ----------

{
    fault(hang => JSON::PP::true);
    raw_update(3, 0.1);
    fault(delayMs => 60000);
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $fake->{port}) or die $!;
    $socket->syswrite("GET /pems/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n");
    sleep 0.2;
    my ($status, $seconds) = stop_fake($fake);
    is($status, 0, 'SIGTERM: exit status 0');
    ok($seconds < 1, "quickly, although requests hang: $seconds s");
    is(scalar(readline($fake->{out})), undef, 'nothing else on stdout');
    my $last = (read_lines($log_file))[-1];
    is("$last->{call} $last->{status}", 'health 0', 'what waited is in the log');
}

{
    $fake = start_fake('-', '--no-auth', '--log-memory', 10, '--threads', 1);
    is(call('GET', '/pems/health', token => undef)->{status}, 200, '--no-auth');
    is(get_record('PFA-1', 'RIO', token => undef)->{status}, 404, 'no records at all');
    call('GET', '/pems/health') for 1 .. 20;
    my $log = control('GET', 'log')->{json};
    is(scalar(@{ $log->{entries} }), 10, '--log-memory');
    is("$log->{firstSeq} $log->{lastSeq}", '13 22', 'the newest ones');
    my ($status) = stop_fake($fake, 'INT');
    is($status, 0, 'SIGINT: exit status 0');
}

{
    $fake = start_fake('/dev/null');
    is(scalar(@{ control('GET', 'records')->{json}{records} }), 0, 'an empty file is no records');
    stop_fake($fake);
    for my $case (
        [ 'broken', '{"records":[{"pfaId":"x",}]}' ],
        [ 'incomplete', '{"records":[{"pfaId":"x"}]}' ],
        [ 'unfinished', '{"records":[' ])
    {
        my $path = write_file('bad.json', $case->[1]);
        my $output = `"$binary" 0 "$path" 2>&1`;
        is($? >> 8, 1, "a records file that is $case->[0]");
        like($output, qr/^mock_pems: records file, byte \d+: /, 'says where');
    }
    is(system("\"$binary\" 2>/dev/null") >> 8, 2, 'no arguments: usage');
}

# The fake's parent ends: so does the fake.
{
    pipe(my $out, my $in) or die $!;
    my $parent = fork() // die $!;
    if ($parent == 0)
    {
        my $child = fork() // die $!;
        if ($child == 0)
        {
            close $out;
            open(STDOUT, '>&', $in) or die $!;
            exec($binary, 0, '-', '--die-with-parent') or POSIX::_exit(1);
        }
        sleep 30;
        POSIX::_exit(0);
    }
    close $in;
    like(scalar(readline($out)), qr/ready/, '--die-with-parent');
    kill('KILL', $parent);
    waitpid($parent, 0);
    ok(IO::Select->new($out)->can_read(5) && !defined readline($out), 'ends when its parent does');
}

# ---------- TLS ----------

SKIP:
{
    my $tools = !system('openssl version >/dev/null 2>&1') && !system('curl --version >/dev/null 2>&1');
    skip('needs the openssl and curl programs', 1) unless $tools;
    system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
          . " -addext subjectAltName=IP:127.0.0.1 -keyout $dir/key.pem -out $dir/cert.pem 2>/dev/null") == 0
      or skip('openssl makes no certificate', 1);
    $fake = start_fake($records_file, '--tls-cert', "$dir/cert.pem", '--tls-key', "$dir/key.pem");
    my $curl = "curl -s --max-time 5 --cacert $dir/cert.pem -H 'Authorization: Bearer secret'";
    my $url = "https://127.0.0.1:$fake->{port}";
    like(`$curl $url/pems/health`, qr/"status":"ok"/, 'TLS');
    system("$curl -o /dev/null -d '{\"hugeHeaders\":true,\"count\":1}' $url/_control/faults");
    my $got = `$curl -i $url/pems/health`;
    ok(length $got > 65536 && $got =~ /"status":"ok"/, 'hugeHeaders over TLS');
    system("$curl -o /dev/null -d '{\"delayMs\":50,\"truncate\":true,\"count\":1}' $url/_control/faults");
    system("$curl -o /dev/null $url/pems/health");
    is($? >> 8, 18, 'truncate over TLS');
    system("$curl --tls-max 1.1 --ciphers DEFAULT\@SECLEVEL=0 -o /dev/null $url/pems/health");
    is($? >> 8, 35, 'no TLS 1.1');
    my ($status) = stop_fake($fake);
    is($status, 0, 'ends');
}

done_testing();
