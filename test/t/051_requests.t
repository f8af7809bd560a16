# Where requests go, and where they do not: redirects, addresses of this machine and of its network, hosts that are
# not, or no longer, allowed, and http.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Proxy;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Socket qw(AF_INET6 SOCK_DGRAM);
use Test::More;

# A setting is noticed within about a second; the rest is for a noisy machine.
use constant NOTICED => 5;
use constant HOSTS   => '127.0.0.1,localhost';

# Names of hosts, and what they turn out to be.
my %loopback_names = ('loopback.example' => '127.0.0.1', 'another-loopback.example' => '127.9.9.9');
my %special_names  = ('metadata.example' => '169.254.169.254', 'unspecified.example' => '0.0.0.0', 'multicast.example' => '224.0.0.1');
if (socket my $socket, AF_INET6, SOCK_DGRAM, 0)
{
    @loopback_names{qw(loopback-6.example mapped.example)} = ('::1', '::ffff:127.0.0.1');
    @special_names{qw(link-local-6.example unspecified-6.example mapped-metadata.example)} = ('fe80::1', '::', '::ffff:169.254.169.254');
}

my $directory = PostgreSQL::Test::Utils::tempdir();
append_to_file("$directory/names", join '', map { my $names = $_; map { "$_ $names->{$_}\n" } sort keys %$names } \%loopback_names, \%special_names);
system($ENV{CC} // 'cc', '-shared', '-fPIC', '-o', "$directory/resolver.so", "$FindBin::RealBin/../support/resolver.c", '-ldl') == 0 or die "cc: $?";

my $t = PemsSync::Test->new('requests',
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 3, poll_interval => '1s', connect_timeout => '2s', allowed_hosts => HOSTS },
    environment => { PEMS_TEST_NAMES => "$directory/names", LD_PRELOAD => join ':', grep { defined } $ENV{LD_PRELOAD}, "$directory/resolver.so" });
my $fake = $t->fake;
my $port = $fake->port;
$t->add_organization('MAIN');
$t->add_organization('NAMED', url => "http://localhost:$port/api");
my $worker = $t->worker->{pid};
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

# ---- redirects ----

my $elsewhere = PemsSync::Proxy->new(record => "$directory/elsewhere");
my $other     = '127.0.0.1:' . $elsewhere->port;
my @redirects;
for my $target ("http://$other/api/pems/pfa/PFA-1", "http://localhost:@{[ $elsewhere->port ]}/", "//$other/", "https://$other/", "http://user:password\@$other/",
    'file:///etc/passwd', "gopher://$other/x", "http://127.0.0.1:$port/api/pems/pfa/ELSEWHERE")
{
    push @redirects, map { { target => $target, status => $_ } } 301, 302, 303, 307, 308;
}
$redirects[$_]{pfa_id} = "GO-$_" for 0 .. $#redirects;
$t->load('MAIN', map { $_->{pfa_id} } @redirects);
$fake->fault(map { { pfaId => $_->{pfa_id}, redirect => $_->{target}, status => $_->{status}, count => 1 } } @redirects);
my @ids = $t->edits('MAIN', map { [ $_->{pfa_id}, { monthlyRate => 4000 } ] } @redirects);
$t->commit('MAIN', \@ids);
ok($t->quiet, 'redirects: all come to an end');
my %items = map { $_->{pfa_id} => $_ } $t->rows('SELECT * FROM pfa_write_queue');
is_deeply([ map { my $item = $items{ $_->{pfa_id} }; "$_->{status} $_->{target}: $item->{status} $item->{error_code} $item->{retry_count}" } @redirects ],
    [ map { "$_->{status} $_->{target}: failed REDIRECT 0" } @redirects ], 'redirects: ' . @redirects . ' edits are dead letters, for a redirect');
like($items{ $redirects[0]{pfa_id} }{last_error}, qr/^PEMS answered 301 \(Moved Permanently\)/, 'redirects: the error says what came');
is(scalar(my @sent = $fake->requests), scalar @redirects, 'redirects: one request for each');

# a DELETE, the read after a lost write, and a health check
$t->load('MAIN', 'GO-DELETE', 'GO-READ');
$fake->fault({ pfaId => 'GO-DELETE', redirect => "http://$other/", count => 1 }, { pfaId => 'GO-READ', call => 'update', emptyBody => $true, count => 1 },
    { pfaId => 'GO-READ', call => 'read', redirect => "http://$other/", status => 307, count => 1 }, { call => 'health', redirect => "http://$other/", status => 308, count => 1 });
my $delete = $t->commit_edit('MAIN', 'GO-DELETE', {}, operation => 'DELETE');
my $read   = $t->commit_edit('MAIN', 'GO-READ', { monthlyRate => 4000 });
ok($t->wait_status($delete, 'failed'), 'redirects: a DELETE, too');
ok($t->wait_status($read, 'failed'), 'redirects: and a read');
is($t->attempts($delete), 'DELETE 302 REDIRECT', 'redirects: DELETE, the attempt');
is($t->attempts($read), 'PUT 200 BAD_RESPONSE, GET 307 REDIRECT', 'redirects: read, the attempts');
my $health = JSON::PP->new->decode($t->sql(q{SELECT pems_health_check('org-main')}));
is($health->{healthy}, $false, 'redirects: a health check is not healthy');
like($health->{error}, qr/308/, 'redirects: and says why');
$t->retry([$read]);
ok($t->wait_status($read, 'synced'), 'redirects: a retry finds what PEMS had done');
is($elsewhere->connections, 0, 'redirects: nobody connected to where they point');

# ---- URLs that are refused when they are stored ----

# What becomes of a URL: 'accepted', or SQLSTATE and DETAIL.  Nothing is stored.
$t->sql(<<'SQL');
CREATE FUNCTION attempt(url text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM pems_set_credential('org-main', url, decode(repeat('ab', 64), 'hex'), '0123456789abcdef');
    RAISE EXCEPTION 'accepted' USING ERRCODE = 'ZZZZZ';
EXCEPTION
    WHEN SQLSTATE 'ZZZZZ' THEN RETURN 'accepted';
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
        RETURN SQLSTATE || ' ' || detail;
END
$$;
SQL

sub set_and_wait
{
    my (%settings) = @_;
    $t->set(%settings);
    for my $name (sort keys %settings)
    {
        $t->wait_for("SELECT current_setting('pems_sync.$name') = '$settings{$name}'", what => "$name $settings{$name}", timeout => NOTICED)
          or die "$name did not take effect";
    }
    return;
}

my $machine  = qr/^22023 The host \S+ is this machine itself\.$/;
my $special  = qr/^22023 The host \S+ is an unspecified, link-local or multicast address\.$/;
my $unlisted = qr/^22023 The host \S+ is not in pems_sync\.allowed_hosts\.$/;
my $clear    = qr/^22023 The scheme is http, so the token would cross the network in the clear\.$/;
my $sign     = qr/^22023 The URL holds one of the characters \@, \? and #\.$/;
my $accepted = qr/^accepted$/;

# As if an administrator had listed every spelling, of the good host and of the bad ones.
my $every = join ',', HOSTS, qw(pems.example.com ::1 ::ffff:127.0.0.1 ::127.0.0.1 127.1 2130706433 017700000001 0177.0.0.1 0x7f000001 0x7f.1 localhost. a.localhost
    169.254.169.254 2852039166 0.0.0.0 0 fe80::1 :: ff02::1 ::ffff:169.254.169.254 224.0.0.1 255.255.255.255);

sub attempts_are
{
    my ($name, @cases) = @_;
    while (my ($url, $expected) = splice @cases, 0, 2)
    {
        my $found = $t->sql('SELECT attempt(' . PemsSync::Test::quote($url) . ')');
        like($found, $expected, "$name: $url");
    }
    return;
}

my @loopback = qw(127.0.0.1 127.1 127.255.0.3 localhost LocalHost localhost. a.localhost [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::127.0.0.1] 2130706433
    017700000001 0177.0.0.1 0x7f000001 0x7f.1 %31%32%37.0.0.1 %6cocalhost);
my @special = qw(169.254.169.254 2852039166 0xa9fea9fe 0.0.0.0 0 224.0.0.1 255.255.255.255 [::] [fe80::1] [ff02::1] [::ffff:169.254.169.254]);
set_and_wait(allowed_hosts => $every, allow_insecure_loopback => 'off');
attempts_are('loopback not allowed', map { ("https://$_/api" => $machine) } @loopback);
attempts_are('loopback not allowed', 'http://127.0.0.1:8080/api' => $machine, 'http://localhost/' => $machine, 'http://[::1]/' => $machine, 'http://pems.example.com/api' => $clear);
attempts_are('always', map { ("https://$_/api" => $special, "http://$_/api" => $special) } @special);
attempts_are('the host',
    'https://pems.example.com/api' => $accepted,
    'https://PEMS.Example.COM/api' => $accepted,
    'HTTPS://pems.example.com:8443/api' => $accepted,
    # another spelling of the same name, and another name for certificates: not the one in the list
    'https://pems.example.com./api' => $unlisted,
    'https://evil.example/api' => $unlisted,
    'https://pems.example.com.evil.example/api' => $unlisted,
    'https://evil-pems.example.com/api' => $unlisted,
    'https://[2001:db8::1]/api' => $unlisted,
    'https://198.51.100.7/api' => $unlisted,
    'https://user:password@pems.example.com/api' => $sign,
    'https://pems.example.com@evil.example/api' => $sign,
    'https://pems.example.com:443@evil.example/api' => $sign,
    'https://evil.example#@pems.example.com/api' => $sign,
    'https://pems.example.com%40evil.example/api' => qr/^22023 /,
    "https://pems.example.com\x{ff0e}evil.example/api" => qr/^22023 .*outside of ASCII/);
set_and_wait(allow_insecure_loopback => 'on');
attempts_are('loopback allowed', map { ("$_://127.0.0.1:8080/api" => $accepted, "$_://localhost/" => $accepted, "$_://[::1]/" => $accepted) } qw(http https));
attempts_are('loopback allowed', 'http://pems.example.com/api' => $clear, 'http://198.51.100.7/' => $clear, 'http://169.254.169.254/' => $special, 'https://[fe80::1]/' => $special);
set_and_wait(allowed_hosts => HOSTS);

# ---- names that turn out to be addresses that must not be called: refused when the address is known ----

my $silent = PemsSync::Proxy->new(record => "$directory/silent");
my (%code_of, %edit_of);

sub is_refused_when_called
{
    my ($setting, @names) = @_;
    for my $name (@names)
    {
        $edit_of{$name} = $t->commit_edit($code_of{$name}, 'PFA-1', { monthlyRate => 4000 });
    }
    for my $name (@names)
    {
        my $id = $edit_of{$name};
        ok($t->wait_status($id, 'failed', timeout => NOTICED), "$setting, $name: the edit is a dead letter");
        is($t->attempts($id), 'PUT FORBIDDEN_ADDRESS', "$setting, $name: FORBIDDEN_ADDRESS");
        my $item = $t->item($id);
        like($item->{last_error}, qr/^PEMS's address is one that must not be called: .*loopback, link-local/, "$setting, $name: the error says why");
        is($item->{outcome_unknown}, $false, "$setting, $name: that nothing was sent is known");
    }
    is($silent->connections, 0, "$setting: no connection was made to any of them");
    return;
}

set_and_wait(allowed_hosts => join ',', HOSTS, keys %loopback_names, keys %special_names);
for my $name (sort keys %loopback_names, sort keys %special_names)
{
    my $code = $code_of{$name} = $name =~ s/\W/-/gr;
    $t->add_organization($code, url => "https://$name:" . $silent->port . '/api');
    $t->load($code, 'PFA-1');
}
is_refused_when_called('loopback allowed', sort keys %special_names);
set_and_wait(allow_insecure_loopback => 'off');
is_refused_when_called('loopback not allowed', sort keys %loopback_names);
# There was somebody to connect to.
set_and_wait(allow_insecure_loopback => 'on');
$t->retry([ $edit_of{'loopback.example'} ]);
ok($t->wait_until(sub { $silent->connections > 0 }, what => 'a connection'), 'loopback allowed again: a connection is made');
set_and_wait(allowed_hosts => HOSTS);
my $discard = "SELECT pems_discard('$edit_of{'loopback.example'}') ->> 'outcome'";
ok($t->wait_until(sub { $t->sql($discard) eq 'cancelled' }, what => 'the end of that request'), 'loopback allowed again: that edit is discarded');

# ---- settings that are narrowed while edits wait ----

# All that is said of an organization whose host or scheme is not allowed.
sub is_shut
{
    my ($name, $code, $problem) = @_;
    ok($t->wait_for("SELECT credential = 'cannot_open' FROM pems_endpoints WHERE organization_code = '$code'", timeout => NOTICED), "$name: pems_endpoints shows cannot_open");
    like($t->sql("SELECT credential_problem FROM pems_endpoints WHERE organization_code = '$code'"), $problem, "$name: with a sentence");
    like($t->sql("SELECT string_agg(p, E'\\n') FROM jsonb_array_elements_text(pems_health() -> 'problems') p"),
        qr/^Organization $code: its credential cannot be opened\. $problem/m, "$name: pems_health() has it among its problems");
    is($t->sql("SELECT pems_health() ->> 'status'"), 'degraded', "$name: and is degraded");
    return;
}

sub is_open
{
    my ($name, $code) = @_;
    ok($t->wait_for("SELECT credential = 'ok' AND credential_problem IS NULL FROM pems_endpoints WHERE organization_code = '$code'", timeout => NOTICED), "$name: pems_endpoints shows ok");
    return;
}

$t->load('NAMED', map { "PFA-$_" } 1 .. 4);
$t->load('MAIN',  map { "PFA-$_" } 1 .. 4);
my $first = $t->commit_edit('NAMED', 'PFA-1', { monthlyRate => 4000 });
ok($t->wait_status($first, 'synced'), 'allowed_hosts: all is well at first');

# They wait while it is narrowed: nothing is sent at all until then.
$t->set(enabled => 'off');
ok($t->wait_worker(state => 'disabled', timeout => NOTICED), 'allowed_hosts: edits wait');
my $kept = $t->commit_edit('NAMED', 'PFA-2', { monthlyRate => 4000 });
my $mark = $fake->mark;
$t->set(allowed_hosts => '127.0.0.1', enabled => 'on');
ok($t->wait_worker(timeout => NOTICED), 'allowed_hosts narrowed: the worker runs');
is_shut('allowed_hosts narrowed', 'NAMED', qr/The host localhost is not in pems_sync\.allowed_hosts\./);
my $goes_on = $t->commit_edit('MAIN', 'PFA-1', { monthlyRate => 4000 });
my $later   = $t->commit_edit('NAMED', 'PFA-3', { monthlyRate => 4000 });
ok($t->wait_status($goes_on, 'synced'), 'allowed_hosts narrowed: an organization whose host is still there goes on');
is(scalar(@sent = $fake->requests(since => $mark, organizationCode => 'NAMED')), 0, 'allowed_hosts narrowed: nothing is sent to the other one');
is($t->item($_)->{status} . ' ' . $t->item($_)->{attempt}, 'pending 0', 'allowed_hosts narrowed: its edit waits') for $kept, $later;
$t->set(allowed_hosts => HOSTS);
ok($t->wait_status($_, 'synced', timeout => NOTICED), 'allowed_hosts widened: it arrives') for $kept, $later;
is_open('allowed_hosts widened', 'NAMED');

# http, which was good for tests
$t->set(allow_insecure_loopback => 'off');
is_shut('http no longer allowed', 'MAIN', qr/The host 127\.0\.0\.1 is this machine itself\./);
$mark = $fake->mark;
$kept = $t->commit_edit('MAIN', 'PFA-2', { monthlyRate => 4000 });
my $turn = $t->sql('SELECT clock_timestamp()');
ok($t->wait_for("SELECT last_heartbeat > '$turn'::timestamptz + interval '1 s' FROM pems_worker", what => 'turns of the worker', timeout => NOTICED), 'http no longer allowed: the worker looks');
is(scalar(@sent = $fake->requests(since => $mark)), 0, 'http no longer allowed: nothing is sent');
is($t->item($kept)->{attempt}, 0, 'http no longer allowed: the edit waits');
$t->set(allow_insecure_loopback => 'on');
ok($t->wait_status($kept, 'synced', timeout => NOTICED), 'http allowed again: it arrives');
is_open('http allowed again', 'MAIN');

# A row that was not made by pems_set_credential(): what was checked when stored is checked when used.
my $api_url = $t->sql(q{SELECT api_url FROM pems_credential WHERE organization_id = 'org-main'});
for my $case (
    [ 'http://127.0.0.2.example.com/api' => qr/The scheme is http, so the token would cross the network in the clear\./ ],
    [ 'https://evil.example/api' => qr/The host evil\.example is not in pems_sync\.allowed_hosts\./ ],
    [ 'https://user:password@127.0.0.1/api' => qr/The URL holds one of the characters/ ],
    [ "http://localhost:$port/api" => qr/Its credential does not open: damaged, or sealed for another organization or URL\./ ])
{
    my ($url, $problem) = @$case;
    my $update = sub { $t->sql("UPDATE pems_credential SET api_url = '$_[0]' WHERE organization_id = 'org-main'; SELECT pg_reload_conf()") };
    $update->($url);
    is_shut("a stored $url", 'MAIN', $problem);
    $update->($api_url);
    is_open("a stored $api_url", 'MAIN');
}

is($t->worker->{pid}, $worker, 'the worker is the same process as in the beginning');
$t->finish;
