# The application's mirror comes by logical replication, whose apply workers fire no statement triggers: the history is complete
# all the same, and an edit does not overwrite what came after it was drafted.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('replicated', conf => "wal_level = logical\nmax_wal_senders = 5\n",
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1, poll_interval => '1s' });
my $json = JSON::PP->new->canonical;
$t->add_organization('RIO');

# the publisher is another database, so the slot has to be made by hand
$t->sql('CREATE DATABASE central');
$t->sql('CREATE TABLE pfa_mirror (id text PRIMARY KEY, organization_id text, pfa_id text, version integer, data jsonb); CREATE PUBLICATION mirror FOR TABLE pfa_mirror', db => 'central');
$t->sql(q{INSERT INTO pfa_mirror VALUES ('COPIED-1', 'org-rio', 'COPIED-1', 1, '{"monthlyRate": 5500}')}, db => 'central');
$t->sql(q{SELECT pg_create_logical_replication_slot('mirror', 'pgoutput')}, db => 'central');
(my $connection = $t->node->connstr('central')) =~ s/'/''/g;
$t->sql("CREATE SUBSCRIPTION mirror CONNECTION '$connection' PUBLICATION mirror WITH (create_slot = false)");
ok($t->wait_for(q{SELECT EXISTS (SELECT FROM pfa_mirror WHERE pfa_id = 'COPIED-1')}), 'what was there is copied');

# PEMS and the central mirror get that state.
sub put
{
    my ($pfa_id, $version, %data) = @_;
    my $data = PemsSync::Test::record_data($pfa_id, %data);
    my $text = $json->encode($data);
    $t->fake->edit({ organizationCode => 'RIO', pfaId => $pfa_id, version => $version, data => $data });
    $t->sql(qq{INSERT INTO pfa_mirror VALUES ('$pfa_id', 'org-rio', '$pfa_id', $version, '$text')
               ON CONFLICT (id) DO UPDATE SET version = excluded.version, data = excluded.data}, db => 'central');
    return $t->wait_for("SELECT EXISTS (SELECT FROM pfa_mirror WHERE pfa_id = '$pfa_id' AND version = $version AND data = '$text')");
}

sub history
{
    my ($pfa_id) = @_;
    return $t->sql(qq{SELECT string_agg(version || ' ' || source || ' ' || (data ->> 'monthlyRate'), ', ' ORDER BY state_seq)
                      FROM pems_mirror_version WHERE pfa_id = '$pfa_id'}) // '';
}

is(history('COPIED-1'), '1 external 5500', 'and in the history');

put('X-1', 1);
put('X-1', 2, monthlyRate => 6000);
put('X-1', 3, monthlyRate => 7000);
is(history('X-1'), '1 external 5500, 2 external 6000, 3 external 7000', 'each state that comes is in the history, once');

my $other = $t->edit('RIO', 'X-1', { description => 'mine' });
put('X-1', 4, monthlyRate => 8000);
$t->commit('RIO', [$other]);
ok($t->wait_status($other, 'synced'), 'another field has changed since: synced');
is($t->fake->record('RIO', 'X-1')->{data}{monthlyRate}, 8000, 'on top of it');

put('X-2', 1);
my $same = $t->edit('RIO', 'X-2', { monthlyRate => 4000 });
put('X-2', 1, monthlyRate => 9999);
$t->commit('RIO', [$same]);
ok($t->wait_status($same, 'conflict'), 'the same version with another value: a conflict');
is($t->fake->record('RIO', 'X-2')->{data}{monthlyRate}, 9999, 'PEMS keeps its value');

# states that no trigger has seen
$t->sql('ALTER TABLE pfa_mirror DISABLE TRIGGER pems_versions_replicated');
put('X-3', 1);
my $unseen = $t->edit('RIO', 'X-3', { monthlyRate => 4000 });
like($t->sql('SELECT pems_health()'), qr/pems_versions_replicated of pfa_mirror was disabled/, 'pems_health() says that the trigger is off');
$t->commit('RIO', [$unseen]);
ok($t->wait_status($unseen, 'conflict'), 'an edit of a version that the history does not have: a conflict');
is($t->conflict($unseen)->{kind}, 'base_missing', 'because its base is missing');
$t->sql('SELECT pems_attach()');
unlike($t->sql('SELECT pems_health()'), qr/pems_versions_replicated/, 'pems_attach() mends it');
put('X-3', 2, monthlyRate => 9999);
is(history('X-3') =~ /2 external 9999$/ ? 1 : 0, 1, 'and the history goes on');

$t->sql('DROP SUBSCRIPTION mirror');
$t->finish;
