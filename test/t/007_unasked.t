# What a load balancer does with idle connections: it ends them, with or without a word that nobody asked for.  Whatever lies in
# a connection before a request is written is no answer to it: the request goes out once, over a new connection, and nobody
# notices.  With and without TLS, through a proxy that stands for the load balancer.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Authority;
use PemsSync::Proxy;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $authority = PemsSync::Authority->new("$directory/authority");

# Every retry would be seen: there are none, and the next poll is far away.
my $t = PemsSync::Test->new('unasked',
    settings => { rate_limit => 0, max_retries => 0, poll_interval => '1h', request_timeout => '10s', ca_file => $authority->file });
$t->add_fake('plain');
$t->add_fake('tls', tls => { $authority->issue('good', names => 'DNS:localhost,IP:127.0.0.1') });

sub answer
{
    my ($status, $body) = @_;
    return "HTTP/1.1 $status\r\nContent-Type: application/json\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}

sub success
{
    my ($pfa_id, $version) = @_;
    return answer('200 OK', qq({"success":true,"pfaId":"$pfa_id","newVersion":$version,"updatedAt":"2025-01-15T00:00:00Z"}));
}

# name => what is said; ends: and the connection ends behind it
my @cases = (
    'an unasked 408, and the end' => { bytes => "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", ends => 1 },
    'an unasked 408' => { bytes => answer('408 Request Timeout', '{"success":false}') },
    'nothing, and the end' => { bytes => '', ends => 1 },
    'half an answer' => { bytes => "HTTP/1.1 200 OK\r\nContent-Type: appl" },
    'half an answer, and the end' => { bytes => substr(success('PFA-1', 2), 0, -20), ends => 1 },
    'success for another record' => { bytes => success('PFA-999', 2) },
    'success for this record' => { bytes => success('PFA-1', 9) },
    'a refused token' => { bytes => answer('401 Unauthorized', '{"success":false}') },
    'an empty line' => { bytes => "\r\n" },
);

for my $scheme (qw(http https))
{
    my $name  = $scheme eq 'http' ? 'plain' : 'tls';
    my $code  = uc $name;
    my $fake  = $t->fake($name);
    my $proxy = PemsSync::Proxy->new(record => "$directory/wire-$name", to => $fake->port);
    my @list  = @cases;
    my $edits = 0;

    $t->add_organization($code, fake => $name, url => $proxy->url($scheme));
    $t->load($code, 'PFA-0', map { "PFA-$_" } 1 .. @cases / 2);
    ok($t->wait_status($t->commit_edit($code, 'PFA-0', { monthlyRate => $_ }), 'synced'), "$scheme: edit $_") for 1 .. 3;
    my $connections = $proxy->connections;
    is($connections, 1, "$scheme: a connection that is good is used again");

    for (my $number = 1; @list; $number++)
    {
        my ($what, $case) = splice @list, 0, 2;
        my $pfa_id = "PFA-$number";
        # what speaks of a record speaks of this one
        my $bytes = $case->{bytes} =~ s/PFA-1\b/$pfa_id/gr;

        $proxy->say($bytes, ends => $case->{ends});
        my $id = $t->commit_edit($code, $pfa_id, { monthlyRate => 4000 });
        ok($t->wait_status($id, 'synced'), "$scheme: $what: synced");
        is($t->attempts($id), 'PUT 200', "$scheme: $what: one attempt");
        is($t->item($id)->{retry_count}, 0, "$scheme: $what: no retry");
        is(scalar $fake->requests(pfaId => $pfa_id), 1, "$scheme: $what: one request");
        is($t->mirror($code, $pfa_id)->{version}, 2, "$scheme: $what: the version is that of PEMS");
        is($proxy->connections, ++$connections, "$scheme: $what: over a new connection");
    }
}
is($t->sql('SELECT count(*) FROM pems_dead_letters'), '0', 'no dead letter');
is($t->sql('SELECT count(*) FROM pems_pause'), '0', 'no pause');

$t->finish;
