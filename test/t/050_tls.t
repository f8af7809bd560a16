# HTTPS with good and bad servers, through a proxy that keeps every byte: who is not who he should be, or speaks
# an old TLS or none, gets no request and not one byte of the token; the edits wait, and arrive when it is put right.
# And an environment that would lead libcurl astray: proxies, a .netrc, a file for TLS keys.
#
# The server's OpenSSL configuration allows everything that OpenSSL can, so what is refused is refused by us.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Authority;
use PemsSync::FakePems;
use PemsSync::Proxy;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

use constant TOKEN => 'canary-of-the-wire-0123456789/+=';
use constant NAMES => 'DNS:localhost,IP:127.0.0.1';
# Versions of TLS in GnuTLS's words; the old ones need signatures that are old, too.
use constant {
    ONLY_1_3 => 'NORMAL:-VERS-ALL:+VERS-TLS1.3',
    ONLY_1_2 => 'NORMAL:-VERS-ALL:+VERS-TLS1.2',
    ONLY_1_1 => 'NORMAL:-VERS-ALL:+VERS-TLS1.1:+SIGN-ALL:%VERIFY_ALLOW_SIGN_WITH_SHA1',
    ONLY_1_0 => 'NORMAL:-VERS-ALL:+VERS-TLS1.0:+SIGN-ALL:%VERIFY_ALLOW_SIGN_WITH_SHA1',
};

my $directory = PostgreSQL::Test::Utils::tempdir();
my $authority = PemsSync::Authority->new("$directory/authority");
my $stranger  = PemsSync::Authority->new("$directory/stranger");
my %good      = $authority->issue('good', names => NAMES);

# ---- a server in bad surroundings ----

my $astray = PemsSync::Proxy->new(record => "$directory/astray");
my $home   = "$directory/home";
mkdir $home or die "$home: $!";
append_to_file("$home/.netrc", "machine localhost login netrc-user password netrc-password\n"
      . "machine 127.0.0.1 login netrc-user password netrc-password\ndefault login netrc-user password netrc-password\n");
append_to_file("$directory/openssl.cnf", <<'CONF');
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = anything_goes
[anything_goes]
MinProtocol = TLSv1
CipherString = ALL:@SECLEVEL=0
CONF
append_to_file("$directory/authorities", slurp_file($authority->file));

my $t = PemsSync::Test->new('tls',
    settings => { rate_limit => 0, retry_delay => '300ms', max_retries => 100, poll_interval => '1s', request_timeout => '5s',
        ca_file => "$directory/authorities", allowed_hosts => '127.0.0.1,localhost' },
    environment => {
        OPENSSL_CONF => "$directory/openssl.cnf", HOME => $home, NETRC => "$home/.netrc", SSLKEYLOGFILE => "$directory/keys-of-tls",
        (map { ($_ => $astray->url('http') =~ s{/api$}{}r) } qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY)) });
my $started = $t->worker->{pid};

# The worker does have these variables: what is tested below is that it does not care.
SKIP:
{
    my ($postmaster) = slurp_file($t->node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
    skip 'no /proc', 1 if !-r "/proc/$postmaster/environ";
    my $environment = slurp_file("/proc/$postmaster/environ");
    is(scalar(grep { $environment =~ /^\Q$_\E=/m || $environment =~ /\0\Q$_\E=/ } qw(OPENSSL_CONF SSLKEYLOGFILE http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY)),
        7, 'the server has the variables');
}

# ---- endpoints: most of them end at one fake when all is put right; what differs is what comes before it ----

$t->add_fake('tls13', tls => { %good, priorities => ONLY_1_3 });
$t->add_fake('tls12', tls => { %good, priorities => ONLY_1_2 });
# a good one of an authority that we do not know yet
$t->add_fake('unknown', tls => { $stranger->issue('unknown', names => NAMES) });

my %bad = (
    EXPIRED  => { $authority->issue('expired', names => NAMES, from => '20200101000000Z', to => '20210101000000Z') },
    EARLY    => { $authority->issue('early',   names => NAMES, from => '20480101000000Z', to => '20491231000000Z') },
    SELF     => { $authority->issue('self',    names => NAMES, self_signed => 1) },
    OTHER    => { $authority->issue('other',   names => 'DNS:pems.example.com,DNS:*.localhost,IP:127.0.0.2') },
    'TLS1-1' => { %good, priorities => ONLY_1_1 },
    'TLS1-0' => { %good, priorities => ONLY_1_0 },
);
my (%proxy, %fake_of_bad);
for my $code (sort keys %bad)
{
    $fake_of_bad{$code} = PemsSync::FakePems->new(log => "$directory/bad-$code.jsonl", tls => $bad{$code});
    $proxy{$code} = PemsSync::Proxy->new(record => "$directory/wire-$code", to => $fake_of_bad{$code}->port);
}
# no TLS at all behind the port
$proxy{PLAIN} = PemsSync::Proxy->new(record => "$directory/wire-PLAIN", to => $t->fake->port);
$proxy{UNKNOWN} = PemsSync::Proxy->new(record => "$directory/wire-UNKNOWN", to => $t->fake('unknown')->port);
$proxy{$_} = PemsSync::Proxy->new(record => "$directory/wire-$_", to => $t->fake($_)->port) for qw(tls12 tls13);
$proxy{CLEAR} = PemsSync::Proxy->new(record => "$directory/wire-CLEAR", to => $t->fake->port);
my @bad = (sort(keys %bad), 'PLAIN', 'UNKNOWN');

$t->add_organization('CLEAR', token => TOKEN, url => $proxy{CLEAR}->url('http'));
$t->add_organization('GOOD-12', fake => 'tls12', token => TOKEN, url => $proxy{tls12}->url('https'));
$t->add_organization('GOOD-13', fake => 'tls13', token => TOKEN, url => $proxy{tls13}->url('https', 'localhost'));
$t->add_organization($_, fake => $_ eq 'UNKNOWN' ? 'unknown' : 'tls13', token => TOKEN, url => $proxy{$_}->url('https', 'localhost')) for @bad;

# Requests that the log of what answers at first has.
sub requests_of_bad
{
    my ($code) = @_;
    return $t->fake->requests(organizationCode => $code) if $code eq 'PLAIN';
    my $fake = $fake_of_bad{$code} // $t->fake('unknown');
    return slurp_file($fake->log_file) =~ /"kind":"request"/g;
}

# Does the text hold the token, or a good part of it?
sub has_token
{
    my ($text) = @_;
    return scalar grep { index($text, substr TOKEN, $_, 8) >= 0 } 0 .. length(TOKEN) - 8;
}

# ---- the proxy can find a token; good servers ----

for my $code (qw(CLEAR GOOD-12 GOOD-13))
{
    $t->load($code, 'PFA-1');
    my $id = $t->commit_edit($code, 'PFA-1', { monthlyRate => 4000 });
    ok($t->wait_status($id, 'synced'), "$code: the edit arrives");
    is($t->attempts($id), 'PUT 200', "$code: at once");
}
my $clear = $proxy{CLEAR}->recorded;
ok(has_token($clear), 'in the clear, the proxy sees the token');
is(scalar(() = $clear =~ /^Authorization: /mg), 1, 'one Authorization a request');
unlike($clear, qr/Basic|netrc/i, 'and it is not of a .netrc');
for my $name (qw(tls12 tls13))
{
    my $recorded = $proxy{$name}->recorded;
    cmp_ok(length $recorded, '>', 1000, "$name: the proxy sees what goes by");
    ok(!has_token($recorded), "$name: and no token in it");
}

# The bad servers with an old TLS do speak it, with a client that lets them.
for my $case ([ 'TLS1-1' => '-tls1_1' ], [ 'TLS1-0' => '-tls1' ])
{
    my ($code, $option) = @$case;
    my $port = $fake_of_bad{$code}->port;
    my $said = `openssl s_client $option -cipher ALL:\@SECLEVEL=0 -CAfile ${\$authority->file} -connect 127.0.0.1:$port </dev/null 2>&1`;
    like($said, qr/Verify return code: 0 \(ok\)/, "$code: a server that others accept");
}

# ---- bad servers ----

my %waiting;
for my $code (@bad)
{
    $t->load($code, 'PFA-1');
    $waiting{$code} = $t->commit_edit($code, 'PFA-1', { monthlyRate => 4000 });
}
for my $code (@bad)
{
    my $id = $waiting{$code};
    ok($t->wait_until(sub { $t->attempts($id) =~ /^PUT TLS_ERROR, PUT TLS_ERROR/ }, what => 'two attempts'), "$code: TLS_ERROR, and tried again")
      or diag($t->attempts($id));
    my $item = $t->item($id);
    is($item->{error_code}, 'TLS_ERROR', "$code: the item says so");
    like($item->{last_error}, qr/^no secure connection to PEMS: \w+/, "$code: and why");
    like($item->{status}, qr/^(?:pending|processing)$/, "$code: it is not lost");
    is($item->{outcome_unknown}, JSON::PP::false, "$code: that nothing was sent is known");
    is(scalar(my @seen = requests_of_bad($code)), 0, "$code: no request arrived");
    cmp_ok($proxy{$code}->connections, '>=', 2, "$code: though connections did");
    cmp_ok(length $proxy{$code}->recorded, '>', 100, "$code: and bytes");
    ok(!has_token($proxy{$code}->recorded), "$code: none of them of the token");
}
like($t->item($waiting{EXPIRED})->{last_error}, qr/expired/, 'EXPIRED: an administrator reads what is wrong');
like($t->item($waiting{OTHER})->{last_error},   qr/localhost/, 'OTHER: and for which name');

# An open breaker is what a bad server comes to.
ok($t->wait_for("SELECT breaker <> 'closed' AND faults >= 5 AND last_error LIKE 'TLS_ERROR%' FROM pems_endpoints WHERE organization_code = 'UNKNOWN'",
    what => 'an open breaker'), 'TLS errors count as faults of the endpoint');
like($t->sql("SELECT pems_health() ->> 'problems'"), qr/does not answer[^"]*TLS_ERROR/, 'pems_health() names it');

# ---- put right ----

# The servers: another certificate, another TLS.  The authority that we did not know: the file that ca_file names,
# which libcurl has read before, gets what it lacked, and a reload says so.
$proxy{$_}->send_to($t->fake('tls13')->port) for grep { $_ ne 'UNKNOWN' } @bad;
append_to_file("$directory/authorities", slurp_file($stranger->file));
$t->node->reload;
for my $code (@bad)
{
    ok($t->wait_status($waiting{$code}, 'synced'), "$code: put right, the waiting edit arrives");
    is($t->item($waiting{$code})->{outcome_unknown}, JSON::PP::false, "$code: without a doubt");
    is(scalar(() = $t->attempts($waiting{$code}) =~ /PUT 200/g), 1, "$code: once");
}

# ---- a file of authorities that is not there is no reason to trust anybody ----

$t->load('GOOD-12', 'PFA-2');
for my $case ([ missing => "$directory/nothing" ], [ 'no certificates in it' => "$directory/openssl.cnf" ], [ 'of others' => $stranger->file ])
{
    my ($name, $file) = @$case;
    $t->set(ca_file => $file);
    ok($t->wait_for("SELECT current_setting('pems_sync.ca_file') = '$file'"), "ca_file $name: set");
    my $mark = $t->fake('tls12')->mark;
    my $id = $t->commit_edit('GOOD-12', 'PFA-2', { monthlyRate => length $name });
    ok($t->wait_until(sub { $t->attempts($id) =~ /^PUT TLS_ERROR/ }, what => 'an attempt'), "ca_file $name: TLS_ERROR, over a connection of its own");
    is(scalar(my @sent = $t->fake('tls12')->requests(since => $mark)), 0, "ca_file $name: nothing is sent");
    $t->set(ca_file => "$directory/authorities");
    ok($t->wait_status($id, 'synced'), "ca_file $name: restored, the edit arrives");
}

# ---- surroundings ----

is($astray->connections, 0, 'no connection to the proxy that the environment names');
ok(!-e "$directory/keys-of-tls", 'no file with keys of TLS sessions');
ok(!has_token($astray->recorded . join '', map { $proxy{$_}->recorded } @bad, qw(tls12 tls13)), 'no token went over any connection but the one in the clear');
is($t->worker->{pid}, $started, 'the worker is the same process as in the beginning');

# (which does record, if one connects)
{
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $astray->port) or die "connect: $!";
    print {$socket} 'hello';
    close $socket;
    ok($t->wait_until(sub { $astray->recorded eq 'hello' }, what => 'hello'), 'that proxy was listening');
}

$t->finish;
